"""A compiled, saved and loaded program computes what the integer reference does, wherever it was placed."""

from pathlib import Path

import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program_io import load_program, save_program
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.simulation.run import simulate


@pytest.mark.parametrize(("code", "bias"), [("signed-digit", False), ("rate", True)])
def test_tokens_equal_the_reference(code: str, bias: bool, tmp_path: Path) -> None:
    weights = random_decoder(5, code=code, bias=bias)
    save_program(compile_network(weights, load_spec("nano"), seed=5), tmp_path / "program")
    result = simulate(load_program(tmp_path / "program"), [1, 2, 3], 8)
    assert list(result.token_ids) == list(IntegerDecoder(weights).generate_greedy([1, 2, 3], 8))
    assert result.cycles_total > 0
