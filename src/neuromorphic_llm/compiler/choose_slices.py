"""Choose slices: the bit slices of every site's weights, and the proof that no column sum overflows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.compiler.shortage import ShortageError
from neuromorphic_llm.errors import CompileError


@dataclass(frozen=True)
class ChooseSlices:
    """Give every linear layer the chip's number of slices, after checking its weights against cells and accumulators."""

    name: str = "choose-slices"

    def apply(self, module: Module) -> Module:
        """CompileError if a weight needs more cell bits or a column sum more accumulator bits than the chip has."""
        spec = module.spec
        largest_cell = spec.readout_circuit.cell.largest_weight
        largest_sum = (1 << (spec.synapse.accumulator_bits - 1)) - 1
        amplitude = module.weights.code.spike_code().largest_value
        weight, sums = (0, ""), (0, "")  # the largest, and their sites
        nodes = []
        for node in module.graph.nodes:
            if node.operation == "linear":
                site = str(node.attributes["site"])
                # int16: the magnitude of -128 does not fit int8, and it is one of the faults to find.
                magnitudes = np.abs(module.weights.site(site).weight, dtype=np.int16)
                largest = int(magnitudes.max())
                column_sum = int(magnitudes.sum(axis=1, dtype=np.int64).max()) * amplitude
                weight, sums = max(weight, (largest, site)), max(sums, (column_sum, site))
                node = node.with_attributes(slices=spec.synapse.slices)
            nodes.append(node)
        if weight[0] > largest_cell:
            raise CompileError(
                f"{weight[1]} has a weight of magnitude {weight[0]}, chip {spec.name} holds up to {largest_cell} "
                f"({spec.synapse.slices} slices of {spec.synapse.cell_bits} bits); use more slices or convert again"
            )
        if sums[0] > largest_sum:
            raise ShortageError(
                f"a column of {sums[1]} may sum to {sums[0]}, more than {spec.synapse.accumulator_bits} accumulator bits "
                "hold; use wider accumulators or a code with fewer phases",
                {"synapse.accumulator_bits": sums[0].bit_length() + 1},
            )
        return replace(module, graph=module.graph.with_nodes(nodes))
