"""Every field of a chip is used: another value of it changes the mapping, the cycles, the counters or the energy of the same network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import pytest
from parity import with_membranes

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.parameter import FieldError, described
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.spec import ChipSpec, parameters
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.devices.membrane import Membrane
from neuromorphic_llm.energy.account import account
from neuromorphic_llm.energy.memories import chip_memories
from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.reference.config import CodeConfig
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.simulation.run import simulate

CHIP = load_spec("nano").with_fields({"power.gating": "all"})  # of a chip that gates nothing no wake-up is seen
WEIGHTS = random_decoder(0)
PROMPT, NEW = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3], 2
OF_MEMBRANES = ("readout.repeats", "readout.range_bits", "readout.joined")
OF_REREADS = ("readout.high_bits",)
OF_DECAYS = ("readout.steps",)
ELSEWHERE = (*OF_MEMBRANES, *OF_REREADS, *OF_DECAYS)
NUMBERS = [path for path, entry in parameters().items() if not described(entry).choices and path not in ELSEWHERE]
CHOICES = [path for path, entry in parameters().items() if described(entry).choices]


def observed(spec: ChipSpec) -> dict[str, Any]:
    """Mapping, cycles, counters and energy of a short text; of a chip that is refused, the reason."""
    try:
        program = compile_network(WEIGHTS, spec)
    except CompileError as error:
        return {"refused": str(error)}
    run = simulate(program, PROMPT, NEW)
    assert run.decode is not None
    energy = account(run.decode, spec, chip_memories(program), run.decode.cycles / spec.clock_hz)
    return {"mapping": mapping(program), "prefill": run.prefill, "decode": run.decode, "energy": energy.to_json()}


def mapping(program: Program) -> dict[str, Any]:
    """Report of the compiler with the tile of every unit."""
    tiles = [[stage.vector_tile, *(region.tile for site in stage.regions for region in site)] for stage in program.stages]
    return {**program.report, "placement": tiles}


def others(path: str) -> Iterator[ChipSpec]:
    """The chip with other values of a field that go together with the rest of it."""
    about, value = described(parameters()[path]), CHIP.value(path)
    here = int(about.most if value is None else value)
    for other in (here + 1, 2 * here, here // 2, here - 1, 1, 4 * here, here // 4):
        if about.least <= other <= about.most and other != value:
            with suppress(FieldError):  # it does not go together with another field
                yield CHIP.with_fields({path: other})


@pytest.fixture(scope="module")
def before() -> dict[str, Any]:
    return observed(CHIP)


@pytest.mark.parametrize("path", NUMBERS)
def test_another_value_is_seen(path: str, before: dict[str, Any]) -> None:
    assert any(seen(observed(spec), before, path) for spec in others(path)), f"nothing depends on {path}"


def seen(after: dict[str, Any], before: dict[str, Any], path: str) -> bool:
    """Whether a field was what changed: a chip that is refused is refused for it."""
    return path in after["refused"] if "refused" in after else after != before


@pytest.mark.parametrize("path", CHOICES)
def test_choices(path: str, before: dict[str, Any]) -> None:
    for choice in described(parameters()[path]).choices:
        assert (observed(CHIP.with_fields({path: choice})) == before) == (choice == CHIP.value(path))
    with pytest.raises(FieldError, match=f"{path} must be one of"):
        CHIP.with_fields({path: "another"})


@pytest.mark.parametrize("path", OF_MEMBRANES)
def test_a_network_is_for_the_values_of_its_membranes(path: str) -> None:
    spec = CHIP.with_fields({"readout.kind": "membrane"})
    circuit = spec.readout_circuit
    assert isinstance(circuit, Membrane)
    weights = with_membranes(WEIGHTS, circuit)
    compile_network(weights, spec)
    with pytest.raises(CompileError, match=rf"chip nano has membrane \(.*\b{path.removeprefix('readout.')} 2\b"):
        compile_network(weights, spec.with_fields({path: 2}))


@pytest.mark.parametrize("path", OF_REREADS)
def test_another_value_is_seen_by_rereads(path: str) -> None:
    spec = CHIP.with_fields({"readout.kind": "reread"})
    assert observed(spec) != observed(spec.with_fields({path: 5}))


@pytest.mark.parametrize("path", OF_DECAYS)
def test_another_value_is_for_another_code(path: str) -> None:
    spec = CHIP.with_fields({"readout.kind": "membrane-decay"})
    circuit = spec.readout_circuit
    assert isinstance(circuit, Membrane)
    coded = replace(WEIGHTS, code=CodeConfig("first-spike-log", 8, parameters={"steps": 8}))
    weights = with_membranes(coded, circuit)
    compile_network(weights, spec)
    with pytest.raises(CompileError, match=r"chip nano: the readout membrane-decay with steps 4 takes the code .* steps=4"):
        compile_network(weights, spec.with_fields({path: 4}))


def test_the_name_is_that_of_the_report(before: dict[str, Any]) -> None:
    assert observed(CHIP.with_fields({"name": "other"}))["mapping"] == {**before["mapping"], "chip": "other"}


def test_every_field_has_one_of_these_tests() -> None:
    sections = {field.name for field in fields(ChipSpec)} - {"name", "clock_hz"}
    found = {"name", *NUMBERS, *CHOICES, *ELSEWHERE}
    assert found == {"name", "clock_hz"} | {f"{title}.{field.name}" for title in sections for field in fields(getattr(CHIP, title))}
