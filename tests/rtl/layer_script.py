"""One decoder layer of a network as a network of its own, fed with the activations that enter the layer in a real text.

    python tests/rtl/layer_script.py FOLDER CHIP LAYER..      # CHIP: engines or lanes

converts SmolLM2-135M, compiles such a network of each of these layers, prints what the construction costs, writes the program into
FOLDER/layer-N, runs it in RTL and prints what was compared with the cycle simulation. Other commands run the programs too: a prompt is
positions of the text, "0 1 2 3".
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.program_io import save_program
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.evaluation.tasks import TASKS, load_text
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights
from neuromorphic_llm.rtl.chip import RtlChip
from neuromorphic_llm.rtl.loader import load_writes
from neuromorphic_llm.simulation.counters import Counters
from neuromorphic_llm.simulation.run import simulate

POSITIONS = 301
"""Tokens of the text: the vocabulary of the layer's network, odd and more than one crossbar's columns."""

PROMPT, NEW = 68, 6
"""Tokens of a run: more keys than an engine reads at once, on both chips."""

LAYERS = {
    0: "its input is the embedding, without rounding",
    11: "its down projection makes the massive activation of the first token, the widest range of the model; its input fits 16 bits",
    29: "with the final norm and the head it gives the tokens of the whole network",
}
"""Layers of SmolLM2-135M, counted from 0, that run in RTL, and why."""


@dataclass(frozen=True)
class LayerNetwork:
    """Token i is position i of the text: its embedding is the residual stream there, its logit that of the text's token i."""

    weights: DecoderWeights
    entering: NDArray[np.int32]  # [positions, hidden] residual stream before the layer
    leaving: NDArray[np.int32]  # [positions, hidden] after it, in the whole network
    logits: NDArray[np.int32]  # [positions, positions] of the whole network


def layer_chip(name: str) -> ChipSpec:
    """The reference chip with a mesh for one layer, its head and the host; synapse tiles are those of nc1.

    At full size an attention engine is 2.5 MB of C++, and Verilator writes each of the eight apart. So the chip `engines` has all of them
    with fewer lanes, and the chip `lanes` the lanes of nc1 and one engine, which takes all heads.
    """
    spec = load_spec("nc1").with_fields(
        {"mesh.width": 4, "mesh.height": 3, "mesh.vector_period": 6, "mesh.vector_offset": 4, "name": f"nc1-layer-{name}"}
    )
    if name == "engines":
        return spec.with_fields({"vector.lanes": 16, "vector.key_lanes": 16, "vector.softmax_lanes": 8})
    return spec.with_fields({"vector.attention_engines": 1})


def text_tokens(checkpoint: Checkpoint) -> list[int]:
    """The first POSITIONS tokens of the text that comes with the package."""
    ids = checkpoint.tokenizer()(load_text(TASKS["default"]), add_special_tokens=False, verbose=False)["input_ids"]
    return list(ids[:POSITIONS])


def real_weights(checkpoint: Checkpoint) -> DecoderWeights:
    """The network that `nmllm convert` makes of a checkpoint."""
    return convert(checkpoint, ConvertConfig(), calibration_windows(checkpoint.tokenizer())).weights


def layer_network(weights: DecoderWeights, number: int, tokens: Sequence[int]) -> LayerNetwork:
    """Layer `number` with all of its integers, the final norm and the head's rows of `tokens`.

    The embedding table has 16 bits, so the residual stream is rounded to the finest step that holds its largest value.
    """
    rows, head, embedding_shift = list(tokens), weights.head, weights.formats.embedding_shift
    logits, after = FunctionalDecoder(weights).forward(torch.tensor([rows]), return_hidden=True)
    residual = after[:, 0].numpy()
    entering = residual[number - 1] if number else weights.embedding[rows].astype(np.int32) << embedding_shift
    table, shift = embedding_table(entering)
    layer = replace(
        weights,
        config=replace(weights.config, vocab_size=len(rows), layers=1, tie_embeddings=False, bos_token_id=None, eos_token_ids=()),
        formats=replace(weights.formats, embedding_shift=shift),
        embedding=table,
        layers=(weights.layers[number],),
        head=LinearWeights(head.weight[rows], head.multiplier[rows], head.shift, head.stop, None if head.bias is None else head.bias[rows]),
    )
    return LayerNetwork(layer, entering, residual[number], logits[0].numpy()[:, rows])


def embedding_table(values: NDArray[np.int32]) -> tuple[NDArray[np.int16], int]:
    """Values as 16 bits times 2^shift, rounded to nearest, with the smallest shift that holds them all."""
    shift = 0
    while (rounded := (values.astype(np.int64) + (1 << shift >> 1)) >> shift).max() > 0x7FFF or rounded.min() < -0x8000:
        shift += 1
    return rounded.astype(np.int16), shift


def layer_program(network: LayerNetwork, chip: str) -> Program:
    """The network on a chip of layer_chip; prompts are numbers of positions."""
    return compile_network(network.weights, layer_chip(chip), tokenizer_files=_number_tokenizer(network.weights.config.vocab_size))


def _number_tokenizer(numbers: int) -> dict[str, bytes]:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({str(number): number for number in range(numbers)}, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    config = b'{"tokenizer_class": "PreTrainedTokenizerFast"}'
    return {"tokenizer.json": tokenizer.to_str().encode(), "tokenizer_config.json": config}


def figures(network: LayerNetwork) -> dict[str, Any]:
    """What the layer sees and what rounding its input costs."""
    formats = network.weights.formats
    scale = 2.0**-formats.residual
    entering, leaving = network.entering * scale, network.leaving * scale
    rounded = network.weights.embedding * 2.0**formats.embedding_shift * scale
    positions = torch.arange(len(entering))[None]
    logits, after = FunctionalDecoder(network.weights).forward(positions, return_hidden=True)
    change = after[0, 0].numpy() * scale - rounded
    best = logits[0].numpy().argmax(axis=1) == network.logits.argmax(axis=1)
    return {
        "largest value entering": float(np.abs(entering).max()),
        "largest value leaving, first token": float(np.abs(leaving[0]).max()),
        "largest value leaving, other tokens": float(np.abs(leaving[1:]).max()),
        "embedding shift": formats.embedding_shift,
        "rounding of the input, relative": relative(rounded[1:], entering[1:]),
        "what the layer adds, relative difference to the whole network": relative(change[1:], (leaving - entering)[1:]),
        "positions with the most likely token of the whole network": int(best.sum()),
    }


def relative(values: NDArray[np.floating[Any]], expected: NDArray[np.floating[Any]]) -> float:
    """Root mean square of the difference, over that of the expected values."""
    return float(np.sqrt(np.square(values - expected).sum() / np.square(expected).sum()))


@dataclass(frozen=True)
class Comparison:
    """A run in RTL beside the cycle simulation."""

    token_ids: tuple[int, ...]
    cycles: int
    counters: int  # compared, those of prefill and decode apart
    differences: tuple[str, ...]
    build_s: float
    run_s: float  # loading included


def compare(program: Program, prompt: Sequence[int], new: int) -> Comparison:
    """Run both and compare tokens, the cycle in which each ends, and every counter of prefill and decode."""
    expected = simulate(program, prompt, new)
    begin = time.perf_counter()
    chip = RtlChip(program)
    built = time.perf_counter()
    result = chip.run([prompt], new)
    ran = time.perf_counter()
    phases, (tokens,), (ends,) = chip.phases(result), result.generated, result.token_end_cycle
    pairs: list[tuple[str, Any, Any]] = [("tokens", tokens, expected.token_ids)]
    pairs.append(("cycles", ends, tuple(expected.timing.token_end_cycle[len(prompt) - 1 :].tolist())))
    for phase, ours, theirs in (("prefill", phases.prefill, expected.prefill), ("decode", phases.decode, expected.decode)):
        counted = asdict(theirs or Counters())
        # The chip does not count tokens.
        counts = ours or {}
        pairs += [(f"{phase} {name}", counts.get(name), counted[name]) for name in counted.keys() - {"prompt_tokens", "decoded_tokens"}]
    differences = tuple(f"{name}: RTL {ours}, cycle simulation {theirs}" for name, ours, theirs in pairs if ours != theirs)
    return Comparison(tokens, ends[-1], len(pairs) - 2, differences, built - begin, ran - built)


def show(program: Program, network: LayerNetwork, number: int, words: Sequence[str]) -> None:
    """Print the figures of a layer and of its run in RTL."""
    tiles = sum(len(regions) for stage in program.stages for regions in stage.regions)
    print(f"layer {number}: {tiles} synapse tiles, {network.weights.parameters:,} weights, {len(load_writes(program)):,} writes to load")
    for name, value in figures(network).items():
        print(f"  {name}: {value:.5g}" if isinstance(value, float) else f"  {name}: {value}")
    result = compare(program, range(PROMPT), NEW)
    print(f"  tokens: {result.token_ids}, {''.join(words[token] for token in result.token_ids)!r}")
    print(f"  {result.cycles:,} cycles, {result.counters} counters compared, {len(result.differences)} differences")
    print(f"  build {result.build_s:.0f} s, load and run {result.run_s:.0f} s", *result.differences, sep="\n  ", flush=True)


def main(folder: str, chip: str, *layers: str) -> None:
    """Write and run the programs of the layers."""
    checkpoint = load_checkpoint("smollm2-135m")
    tokenizer, tokens = checkpoint.tokenizer(), text_tokens(checkpoint)
    print(f"chip {layer_chip(chip).name}; prompt {PROMPT} tokens, new {NEW}")
    print(f"vocabulary: {len(tokens)} positions, {len(set(tokens))} different tokens", flush=True)
    weights = real_weights(checkpoint)
    for number in (int(layer) for layer in layers):
        network = layer_network(weights, number, tokens)
        program = layer_program(network, chip)
        save_program(program, Path(folder) / f"layer-{number}")
        show(program, network, number, [tokenizer.decode([token]) for token in tokens])


if __name__ == "__main__":
    main(*sys.argv[1:])
