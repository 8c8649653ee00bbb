"""The kernel of membranes equals the operations that define it."""

from __future__ import annotations

import pytest
import torch

from neuromorphic_llm.devices.membrane import Membrane, MembraneEnergy
from neuromorphic_llm.network.operations import CodedRows, Operations, SiteTensors, row_blocks

pytestmark = pytest.mark.gpu

SHAPES = [
    (1, 64, 10, 64, 9, 3),
    (17, 100, 70, 32, 4, 3),
    (5, 40, 64, 16, 9, 0),
    (70, 300, 33, 256, 6, 8),
    (3, 7, 5, 4, 2, 1),
    (64, 1536, 576, 256, 9, 3),
]


@pytest.mark.parametrize("kind", [Membrane, MembraneEnergy])
@pytest.mark.parametrize(("rows", "inputs", "outputs", "block", "bits", "repeats"), SHAPES)
def test_kernel_equals_the_operations(
    kind: type[Membrane], rows: int, inputs: int, outputs: int, block: int, bits: int, repeats: int
) -> None:
    """All bytes as planes and weights of all magnitudes; ranges that saturate and that lose everything."""
    from neuromorphic_llm.network.cuda_operations import CudaOperations  # needs Triton

    generator = torch.Generator().manual_seed(rows)

    def draw(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, dtype=torch.int8, generator=generator).cuda()

    readout = kind(rows=block, active_rows=block, converter_bits=bits, repeats=repeats)
    weight, planes = draw(-127, 128, outputs, inputs), draw(-128, 128, 2, rows, inputs)
    ranges, phases = draw(-5, 12, readout.row_blocks(inputs), outputs), draw(1, 15, rows).long()
    none = torch.zeros(0, device="cuda")
    site = SiteTensors(weight, none, none, none, None, True, ranges, row_blocks(weight, block))
    coded = CodedRows(planes, none, none)
    expected, found = (each("cuda").read_blocks(coded, phases, 1, site, readout) for each in (Operations, CudaOperations))
    assert torch.equal(found, expected)
