"""GGUF files whose metadata change what llama.cpp predicts, and what it predicted.

`python tests/models/llama_cpp_cases.py PYTHON` records the predictions anew into llama_cpp.json; PYTHON is one that has xllamacpp, which
holds llama.cpp and comes from the package index.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from family_models import family_model
from gguf_models import CHANGES, write_gguf

RECORDED = Path(__file__).with_name("llama_cpp.json")
PROMPT = [int(token) for token in np.random.default_rng(1).integers(3, 261, 80)]

_FACTORS = np.linspace(1.0, 6.0, 7).astype("float32")
_YARN = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0, "rope__scaling__original_context_length": 32}
_SIX_LAYERS = {**CHANGES["gemma3"], "num_hidden_layers": 6}


def _head(columns: int) -> dict[str, Any]:
    return {"output.weight": (np.random.default_rng(3).normal(0, 0.3, (261, columns))).astype("float32")}


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "llama": ("llama", {}, {}, {}),
    "llama scale_linear": ("llama", {}, {"rope__scale_linear": 4.0}, {}),
    "llama factor without type": ("llama", {}, {"rope__scaling__factor": 4.0}, {}),
    "llama factor, type none": ("llama", {}, {"rope__scaling__factor": 4.0, "rope__scaling__type": "none"}, {}),
    "llama factor and scale_linear": ("llama", {}, {"rope__scaling__factor": 4.0, "rope__scale_linear": 8.0}, {}),
    "llama factor 0 and scale_linear": ("llama", {}, {"rope__scaling__factor": 0.0, "rope__scale_linear": 8.0}, {}),
    "llama linear": ("llama", {}, {"rope__scaling__factor": 2.5, "rope__scaling__type": "linear"}, {}),
    "llama yarn": ("llama", {}, _YARN, {}),
    "llama yarn, attn_factor": ("llama", {}, {**_YARN, "rope__scaling__attn_factor": 0.5}, {}),
    "llama yarn, no original length": ("llama", {}, {**_YARN, "rope__scaling__original_context_length": ...}, {}),
    "llama yarn, no factor": ("llama", {}, {**_YARN, "rope__scaling__factor": ...}, {}),
    "llama rope_freqs": ("llama", {}, {}, {"rope_freqs.weight": _FACTORS}),
    "llama rope_freqs of ones": ("llama", {}, {}, {"rope_freqs.weight": np.ones(7, "float32")}),
    "llama rope_freqs and factor": ("llama", {}, {"rope__scaling__factor": 4.0}, {"rope_freqs.weight": _FACTORS}),
    "llama no freq_base": ("llama", {}, {"rope__freq_base": ...}, {}),
    "llama harmless": (
        "llama",
        {},
        {"rope__scaling__finetuned": True, "expert_count": 0, "attention__causal": True, "tensor_data_layout": "Meta AI original pth"},
        {},
    ),
    "llama head": ("llama", {}, {}, _head(40)),
    "llama no head": ("llama", {}, {}, {"output.weight": None}),
    "qwen2 factor without type": ("qwen2", CHANGES["qwen2"], {"rope__scaling__factor": 4.0}, {}),
    "qwen2 scale_linear": ("qwen2", CHANGES["qwen2"], {"rope__scale_linear": 3.0}, {}),
    "qwen2 yarn, no factor": ("qwen2", CHANGES["qwen2"], {**_YARN, "rope__scaling__factor": ...}, {}),
    "qwen2 yarn, attn_factor": ("qwen2", CHANGES["qwen2"], {**_YARN, "rope__scaling__attn_factor": 0.5}, {}),
    "qwen2 head": ("qwen2", CHANGES["qwen2"], {}, _head(40)),
    "qwen3 scale_linear": ("qwen3", {"attention_bias": False}, {"rope__scale_linear": 3.0}, {}),
    "qwen3 head": ("qwen3", {"attention_bias": False}, {}, _head(40)),
    "gemma2 scale_linear": ("gemma2", CHANGES["gemma2"], {"rope__scale_linear": 3.0}, {}),
    "gemma2 no window": ("gemma2", CHANGES["gemma2"], {"attention__sliding_window": ...}, {}),
    "gemma3 factor without type": ("gemma3", _SIX_LAYERS, {"rope__scaling__type": ..., "rope__scaling__factor": 2.0}, {}),
    "gemma3 no freq_base": ("gemma3", _SIX_LAYERS, {"rope__freq_base": ...}, {}),
    "gemma3 no window": ("gemma3", _SIX_LAYERS, {"attention__sliding_window": ...}, {}),
    "gemma3 head": ("gemma3", _SIX_LAYERS, {}, _head(40)),
    "gpt2 head": ("gpt2", CHANGES["gpt2"], {}, _head(40)),
    "gptneox scale_linear": ("gptneox", {}, {"rope__scale_linear": 3.0}, {}),
    "gptneox no freq_base": ("gptneox", {}, {"rope__freq_base": ...}, {}),
}
"""Name -> (architecture, changed configuration, changed metadata, changed tensors)."""


def write_case(name: str, path: Path, vocabulary: str | None = None) -> Path:
    """The file of a case."""
    architecture, entries, metadata, tensors = CASES[name]
    return write_gguf(architecture, family_model(architecture, **entries), path, tensors, vocabulary=vocabulary, **metadata)


_PREDICT = """
import json, os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_gpu_layers, params.warmup, params.cpuparams.n_threads = sys.argv[1], 96, 0, False, 1
server = xllamacpp.Server(params)
request = {"prompt": json.loads(sys.argv[2]), "n_predict": 1, "n_probs": 8, "temperature": -1, "ignore_eos": True}
found = json.loads(json.dumps(server.handle_completions(request)))["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
print("RESULT", json.dumps({token["id"]: round(token["logprob"], 4) for token in found}), flush=True)
os._exit(0)
"""


def record(python: str) -> None:
    """Write llama_cpp.json: the eight likeliest next tokens of every case, with their log probabilities."""
    recorded = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in CASES:
            path = write_case(name, Path(folder) / "case.gguf", vocabulary="llama")
            command = [python, "-c", _PREDICT, str(path), json.dumps(PROMPT)]
            lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
            recorded[name] = json.loads(next(line for line in lines if line.startswith("RESULT")).removeprefix("RESULT"))
    RECORDED.write_text("{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(found)}" for name, found in recorded.items()) + "\n}\n")


if __name__ == "__main__":
    with torch.no_grad():
        record(sys.argv[1])
