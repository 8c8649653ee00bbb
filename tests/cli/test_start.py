"""What a command imports before it works: torch takes longer to import than most commands to run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neuromorphic_llm.cache import kernel_folder
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program_io import save_program
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.random_decoder import random_decoder

HEAVY = ("torch", "transformers", "numba", "matplotlib")
PROGRAM = f"""
import sys
from neuromorphic_llm.cli.main import run_command_line
code = run_command_line(sys.argv[1:])
print("loaded:", *sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network and a program of random weights in the shape of random-tiny."""
    path = tmp_path_factory.mktemp("start")
    (path / "cache").mkdir()
    (path / "cache" / "kernels").symlink_to(kernel_folder())  # compiling them again would take long
    checkpoint = load_checkpoint("random-tiny")
    weights = random_decoder(0, config=checkpoint.config)
    SpikingNetwork(weights, tokenizer_files=checkpoint.tokenizer_files).save(path / "network")
    save_program(compile_network(weights, load_spec("nano"), tokenizer_files=checkpoint.tokenizer_files), path / "program")
    return path


@pytest.mark.parametrize(
    ("line", "loaded"),
    [
        ("", ""),
        ("--help", ""),
        ("--version", ""),
        ("convert --help", ""),
        ("models", ""),
        ("chips", ""),
        ("tasks", ""),
        ("cache", ""),
        ("codes", ""),
        ("codes burst", ""),
        ("fetch --list", ""),
        ("fetch nano", ""),
        ("compile network -o again --chip nano", ""),
        ("simulate program --prompt A --max-new-tokens 2", "numba transformers"),
    ],
)
def test_a_command_imports_what_it_needs(folder: Path, line: str, loaded: str) -> None:
    command = [sys.executable, "-c", PROGRAM, *line.split()]
    result = subprocess.run(command, cwd=folder, env=os.environ | {"NMLLM_CACHE": "cache"}, capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[-1].split() == ["loaded:", *loaded.split()]
    assert result.returncode == 0, result.stderr
