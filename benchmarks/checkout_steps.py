"""Commands that checkouts are compared by: conversions, programs for every chip, simulation, evaluation, export, whole runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROMPT = "Once upon a time there was a little dog"
ARTICLE = "The old harbour has a new bridge. It was opened on Monday by the mayor, who crossed it by bicycle. Ships pass under it."


@dataclass(frozen=True)
class Step:
    """One command of nmllm and what it leaves behind.

    name: place in the fingerprint, a path below the model; folder: artefact, or folder of files, that the command writes;
    needs: artefact without which the step is left out; vital: a checkout without this step is not compared.
    """

    name: str
    arguments: tuple[str, ...]
    folder: str = ""
    needs: str = ""
    vital: bool = False


# Chips ----------------------------------------------------------------------------------------------------------------------------------

CHIP_FIELDS = {
    "mesh.width": "mesh_width",
    "mesh.height": "mesh_height",
    "synapse.crossbars": "crossbars_per_tile",
    "readout.kind": "readout_kind",
    "vector.lanes": "vector_lanes",
    "vector.latency": "vector_latency",
    "vector.memory_bytes": "vector_memory_bytes",
    "host.latency": "host_latency",
}
"""Field of a chip's JSON, its sections joined by dots -> name that it is compared by.

A field that is not here is compared by the last part of its path: chips are compared by what their fields mean, not by their layout.
"""

UNSAID: dict[str, Any] = {"readout_kind": "exact", "converter_bits": None}
"""Fields of chips that not every checkout has, with the value that chips without them mean."""

VARIANTS: dict[str, dict[str, Any]] = {
    "other-sizes": {
        "events_per_flit": 2,
        "fifo_depth": 2,
        "vector_lanes": 16,
        "key_lanes": 8,
        "softmax_lanes": 16,
        "attention_engines": 1,
        "kv_bytes_per_engine": 262144,
        "argmax_lanes": 4,
        "active_rows": 8,
        "column_mux": 8,
        "read_latency": 3,
        "gate_latency": 9,
        "dram_latency": 20,
        "dram_bytes_per_cycle": 4,
    },
    "narrow-flits": {"flit_bits": 32, "events_per_flit": 2},
}
"""Chips made of nano by other values of some fields."""


def chip_field(path: str) -> str:
    """Name of a field of a chip by its place in the JSON, sections joined by dots."""
    return CHIP_FIELDS.get(path, path.rpartition(".")[2])


def changed_chip(spec: Mapping[str, Any], changes: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """A chip's JSON with other values of the fields called `changes`, in the layout that it has; without those that are null."""
    changed: dict[str, Any] = {}
    for key, value in spec.items():
        path = f"{section}.{key}" if section else key
        changed[key] = changed_chip(value, changes, path) if isinstance(value, Mapping) else changes.get(chip_field(path), value)
    return {key: value for key, value in changed.items() if value is not None}


def write_variants(chips: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Chip files of VARIANTS, in the layout of the checkout whose `nmllm chips --json` gave `chips`."""
    nano = next(chip["spec"] for chip in chips if chip["name"] == "nano")
    for name, changes in VARIANTS.items():
        text = yaml.safe_dump(changed_chip(nano, {**changes, "name": name}), sort_keys=False)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


# Models ---------------------------------------------------------------------------------------------------------------------------------

LARGE = ("smollm2-135m",)
"""Models of which little is run, for its time."""

FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2", "opt", "gptneox", "llama3")
"""Random models made on the spot, which together have every part of the canonical decoder (tests/models/family_models.py)."""

KEY_BIASES = "key-biases"
DEFAULT_MODELS = ("nano", "random-tiny", KEY_BIASES, *FAMILIES)


def prepare_model(model: str, folder: Path) -> str:
    """The argument that names a model to the commands; models made on the spot are written into `folder`."""
    if model != KEY_BIASES and model not in FAMILIES:
        return model
    if not (folder / model).exists():
        sys.path.insert(0, str(ROOT / "tests" / "models"))
        from family_models import family_model, saved

        saved(_with_key_biases(family_model) if model == KEY_BIASES else family_model(model), folder / model)
    return str(folder / model)


def _with_key_biases(family_model: Callable[..., Any]) -> Any:
    """A Qwen2 decoder with a bias of 80 in the slowest rotated pair of every key head: its keys get offsets."""
    model = family_model("qwen2", use_sliding_window=False)
    for layer in model.model.layers:
        bias = layer.self_attn.k_proj.bias
        bias.view(2, 2, -1)[:, 0, -1] = 80.0  # [key heads, halves, pairs]
    return model


# Steps ----------------------------------------------------------------------------------------------------------------------------------

ALL_SPIKES = ("--lambda", "0", "--query-spikes", "999")
CONVERSIONS = {
    "all-spikes": ALL_SPIKES,
    "rate": ("--code", "rate", "--phases", "12", *ALL_SPIKES),
    "first-spike": ("--code", "first-spike", "--spikes", "0.9"),
    "bit-planes": ("--code", "bit-planes", *ALL_SPIKES),
    "feed-forward": ("--parts", "feed-forward"),
    "attention": ("--parts", "attention"),
    "4-bit-groups": ("--weights", "4-bit-groups"),
    "greedy-gptq-bias": ("--spikes", "1", "--allocation", "greedy", "--compensate", "gptq", "--compensate", "bias"),
    "teal-rotation": ("--spikes", "1", "--allocation", "teal", "--compensate", "rotation-hadamard"),
    "energy": ("--energy", "1e-6", "--chip", "nano", "--tolerance", "0.1"),
}
"""Conversions of the model nano beside that at 1.5 spikes per activation: name -> options."""


def package_steps() -> Iterator[Step]:
    """Steps without a model."""
    yield Step("chips", ("chips",), vital=True)
    yield Step("codes", ("codes",))
    for code in ("signed-digit", "first-spike", "rate", "bit-planes", "burst", "st-bif"):
        yield Step(f"codes/{code}", ("codes", code))


def model_steps(model: str, argument: str, chips: Sequence[str], *, rtl: bool = False) -> Iterator[Step]:
    """Steps of one model, named to the commands by `argument`."""
    large, whole = model in LARGE, model == "nano"
    chips = [chip for chip in chips if chip == "nc1"] if large else list(chips)
    limits = ("--limit-tokens", "1024" if large else "512", "--window", "512" if large else "256" if whole else "64")
    conversions: dict[str, tuple[str, ...]] = {"spikes-1.5": ()} | (CONVERSIONS if whole else {})
    for name, options in conversions.items():
        first = name == "spikes-1.5"
        yield Step(f"{name}/convert", ("convert", argument, *options), f"{name}.network", vital=first)
        against = ("--against", argument) if first else ()
        yield Step(f"{name}/eval", ("eval", f"{name}.network", *limits, *against), needs=f"{name}.network")
        yield from _chip_steps(name, [*chips, *(f"{variant}.yaml" for variant in VARIANTS if first and not large)], large)
    yield Step("eval-dense", ("eval", argument, *limits))
    sites = ("--site", "layers.0.*") if whole else ("--site", "layers.0.qkv")
    yield Step("export", ("export", "spikes-1.5.network", *sites), "nir", needs="spikes-1.5.network")
    if whole:
        yield from _whole_steps(argument)
        if rtl:
            yield from _rtl_steps()


def _chip_steps(name: str, chips: Sequence[str], large: bool) -> Iterator[Step]:
    """A network compiled for each chip and simulated; its values by the functional backend once."""
    tokens = ("--prompt", PROMPT, "--max-new-tokens", "8" if large else "24")
    for number, chip in enumerate(chips):
        program, place = f"{name}.{Path(chip).stem}", f"{name}/{Path(chip).stem}"
        yield Step(f"{place}/compile", ("compile", f"{name}.network", "--chip", chip), program, needs=f"{name}.network")
        yield Step(f"{place}/simulate", ("simulate", program, *tokens), needs=program)
        if number == 0:
            yield Step(f"{place}/simulate-functional", ("simulate", program, *tokens, "--backend", "functional"), needs=program)


def _whole_steps(argument: str) -> Iterator[Step]:
    """Report with latency, references and energies over the context, a Pareto curve, a short fine-tuning."""
    yield Step("run", ("run", argument, "--chip", "nano", "--article", "article.txt", "--max-new-tokens", "24"), "run/program")
    points = ("--codes", "signed-digit:phases=10,burst:gamma=7", "--spikes", "1", "--limit-tokens", "256", "--chip", "nano")
    yield Step("pareto", ("pareto", argument, *points), "pareto/calibration")
    tuned = ("--tokens", "2k", "--window", "128", "--batch", "4", "--price-rate", "0.05")
    yield Step("finetune", ("finetune", argument, *tuned), "tuned")


def _rtl_steps() -> Iterator[Step]:
    """The Verilated chip, alone and in lockstep."""
    program, tokens = "spikes-1.5.nano", ("--prompt", "Once upon a time", "--max-new-tokens", "2")
    yield Step("spikes-1.5/nano/simulate-rtl", ("simulate", program, *tokens, "--backend", "rtl"), needs=program)
    yield Step("spikes-1.5/nano/cosim", ("cosim", program, *tokens), needs=program)
