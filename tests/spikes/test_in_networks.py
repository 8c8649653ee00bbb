"""Codes with parameters in a network: stored with it, and the functional simulation equals the reference."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from parity import check_against_reference, tokens_of

from neuromorphic_llm.errors import ArtefactError, UsageError
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.operations import Operations
from neuromorphic_llm.reference.config import CodeConfig
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder

VARIANTS: list[tuple[str, int, dict[str, Any]]] = [
    ("burst", 3, {"gamma": 7, "shift": 3, "signed": False}),
    ("first-spike-log", 6, {"steps": 4}),
    ("multi-threshold", 2, {"thresholds": 5}),
    ("multi-threshold", 4, {"current": "constant", "clip_per_mille": 50}),
    ("st-bif", 8, {"current": "first", "levels": 5}),
]


@pytest.mark.parametrize(("name", "phases", "parameters"), VARIANTS)
def test_the_functional_simulation_equals_the_reference(name: str, phases: int, parameters: dict[str, Any]) -> None:
    weights = replace(random_decoder(4), code=CodeConfig(name, phases, parameters=parameters))
    check_against_reference(FunctionalDecoder(weights, operations=Operations()), tokens_of(SMALL_CONFIG, 6))


def test_parameters_survive_json_and_are_absent_without_any() -> None:
    code = CodeConfig("burst", 3, parameters={"gamma": 7})
    assert CodeConfig.from_json(json.loads(json.dumps(code.to_json()))) == code
    assert code.spike_code().parameters == {"gamma": 7}
    assert set(CodeConfig("burst", 3).to_json()) == {"name", "phases", "query_phases", "probability_bits"}
    assert hash(code) == hash(CodeConfig("burst", 3))  # equal or not, it can be looked up


@pytest.mark.parametrize("parameters", [[], {"gamma": 1.5}, {"gamma": None}, "gamma"])
def test_damaged_parameters_are_refused(parameters: object) -> None:
    with pytest.raises(ArtefactError, match=r"parameters must be an object|CodeConfig is not valid"):
        CodeConfig.from_json({"name": "burst", "phases": 3, "parameters": parameters}, "network")


def test_a_parameter_that_the_code_has_not_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'gamma'"):
        CodeConfig("burst", 3, parameters={"gamme": 7}).spike_code()
