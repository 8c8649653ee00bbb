"""The training script of the model nano, on a small text: it goes on where it stopped, and its files load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from neuromorphic_llm.models.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
STORY = (ROOT / "tests" / "models" / "story.txt").read_text()
SHAPE = "--vocab-size 160 --hidden-size 16 --intermediate-size 16 --layers 1 --heads 2 --kv-heads 1 --head-dim 8 --context 32"


def run(folder: Path, *options: str) -> list[int]:
    """Train, and return the steps that the log has seen."""
    command = [sys.executable, str(ROOT / "training" / "nano.py"), *SHAPE.split(), "--batch", "2", "--warmup", "2", "--evaluate-every", "2"]
    folders = ["--text", str(folder / "text.txt"), "--work", str(folder / "work"), "--output", str(folder / "model")]
    subprocess.run([*command, *folders, "--no-compile", *options], check=True, capture_output=True, text=True)
    return [json.loads(line)["step"] for line in (folder / "work" / "log.jsonl").read_text().splitlines()]


def test_training_goes_on_and_its_files_load(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(f"{STORY}<|endoftext|>\n" * 30)
    assert run(tmp_path, "--steps", "4") == [2, 4]
    assert run(tmp_path, "--steps", "8") == [2, 4, 6, 8]
    recipe = json.loads((tmp_path / "model" / "recipe.json").read_text())
    checkpoint = load_checkpoint(tmp_path / "model")
    assert checkpoint.parameters == recipe["parameters"] and checkpoint.config.vocab_size == 160
    assert abs(recipe["validation_loss"] - recipe["validation_loss_float32"]) < 0.01
    assert checkpoint.tokenizer().decode(checkpoint.tokenizer()(STORY)["input_ids"]) == STORY
    held_out = (tmp_path / "work" / "held_out.txt").read_text()
    assert held_out.startswith("Once upon a time") and held_out.endswith("<|endoftext|>")
