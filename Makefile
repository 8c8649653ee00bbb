# The two commands a newcomer needs: `make run` and `make test`. Both set up .venv first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NMLLM_CACHE ?= $(HOME)/.cache/neuromorphic-llm
export NMLLM_CACHE

PEERS := $(NMLLM_CACHE)/neurobench

.PHONY: setup run test test-slow peers lint rtl-lint rtl-mutants rtl-coverage synth mutants clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	# With an NVIDIA driver torch is not pinned to the build that the constraints name.
	if command -v nvidia-smi >/dev/null; then grep -v '^torch==' constraints.txt; else cat constraints.txt; fi > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -e '.[dev]'
	touch $@

run: $(STAMP)
	$(BIN)/nmllm run smollm2-135m --article examples/article.txt --chip nc2 -o runs/smollm2-135m

test: $(STAMP)
	$(BIN)/python -m pytest -q -m "not slow"

test-slow: $(STAMP)
	$(BIN)/nmllm fetch smollm2-135m
	$(BIN)/python -m pytest -q -m slow

# NeuroBench without what it depends on: torchaudio, which needs a torch of its own version, and tonic, both for its data sets.
peers: $(STAMP)
	test -d $(PEERS)/neurobench-2.3.0.dist-info || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(PEERS) neurobench==2.3.0

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

rtl-lint: $(STAMP)
	$(BIN)/python -m neuromorphic_llm.rtl.lint

# Faults that the tests must find, put into the graph's builder and interpreter, the compiler's passes (drawings and reports apart), counters,
# energy account and devices: about 6,400, three a second on a quiet machine (docs/results/mutants.md). Goes on where it was stopped.
mutants: $(STAMP)
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m mutmut run
	$(BIN)/python -m mutmut results

rtl-mutants: $(STAMP)
	PYTHONPATH=tests/rtl $(BIN)/python -m mutants

# Tests of modules in rtl/ that run in bulk; the chip's are left to --rtl-coverage by hand: its build with coverage takes long.
rtl-coverage: $(STAMP)
	$(BIN)/python -m pytest -q tests/rtl -m "not slow" --rtl-coverage $(addprefix --ignore=tests/rtl/test_,chip.py cosim.py layer.py mutants.py protocol.py)

# Cells, area, timing and energy of the units, with the liberty libraries in NMLLM_PDK or ../shared/pdk; arguments: make synth SYNTH="norm --json FILE".
synth: $(STAMP)
	PYTHONPATH=tests/rtl:tests/simulation:tests/reference $(BIN)/python -m synthesis $(SYNTH)

clean:
	rm -rf build dist runs mutants .pytest_cache .ruff_cache .mypy_cache .hypothesis src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
