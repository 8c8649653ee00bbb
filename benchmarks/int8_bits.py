"""How many bits of INT8 inputs are set? The share that bit-serial crossbars are counted with (energy.md, Bit-serial crossbars).

    python benchmarks/int8_bits.py NETWORK --text wiki.test.raw

Every input of a site is rounded to steps of its token's largest one over 127. Prints the share of the seven bits of the magnitudes and
of the eight of the two's complement, by kind of site and for all, weighted by outputs.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch

from neuromorphic_llm.models.text_tokens import plain_ids
from neuromorphic_llm.models.tokenizer import load_tokenizer
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.operations import CodedRows
from neuromorphic_llm.network.spiking import SpikingNetwork
from table_run import read_text


def set_bits(values: torch.Tensor, bits: int) -> int:
    """Set bits among the lowest `bits` of all values."""
    return sum(int(((values >> bit) & 1).sum()) for bit in range(bits))


class SetBits:
    """Counts of set bits and inputs by kind of site, weighted by outputs; an observer of a FunctionalDecoder."""

    def __init__(self, outputs: Mapping[int, tuple[str, int]]) -> None:
        self.outputs = outputs  # by site: its kind and how many
        self.counts: dict[str, list[int]] = {}  # of magnitudes, of two's complements, inputs

    def __call__(self, site: int, inputs: torch.Tensor, coded: CodedRows) -> None:  # noqa: ARG002 - spikes do not matter
        """Count the inputs [rows, inputs] of a site."""
        largest = inputs.abs().amax(1, keepdim=True).clamp(min=1)
        rounded = (inputs.double() * 127 / largest).round().to(torch.int64)
        kind, outputs = self.outputs[site]
        for name in (kind, "all"):
            counts = self.counts.setdefault(name, [0, 0, 0])
            for number, more in enumerate((set_bits(rounded.abs(), 7), set_bits(rounded, 8), rounded.numel())):
                counts[number] += more * outputs

    def shares(self) -> dict[str, tuple[float, float]]:
        """Shares of the bits of magnitudes and of two's complements that are set, by kind of site."""
        return {name: (magnitudes / inputs / 7, twos / inputs / 8) for name, (magnitudes, twos, inputs) in self.counts.items()}


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="folder of a network")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=512)
    arguments = parser.parse_args()
    network = SpikingNetwork.load(arguments.network)
    config = network.weights.config
    ids = plain_ids(load_tokenizer(network.tokenizer_files, arguments.network, config.vocab_size), read_text(arguments.text))
    bits = SetBits({site.index: (site.name.rpartition(".")[2], site.outputs) for site in config.sites})
    decoder = FunctionalDecoder(network.weights)
    decoder.observer = bits
    decoder.forward(torch.tensor([ids[: arguments.tokens]]))
    for name, (magnitudes, twos) in bits.shares().items():
        print(f"{name:8}  magnitudes {magnitudes:.3f} of 7 bits, two's complement {twos:.3f} of 8 bits")


if __name__ == "__main__":
    main()
