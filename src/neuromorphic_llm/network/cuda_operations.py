"""The operations of the functional simulation on a GPU: those of operations.py, and kernels where these take much longer."""

from __future__ import annotations

import torch

from neuromorphic_llm.devices.membrane import converts_as_membrane
from neuromorphic_llm.devices.readout import BlockReadout, Drive
from neuromorphic_llm.network.membrane_cuda import LEAST_BITS, MOST_ROWS, read_membranes
from neuromorphic_llm.network.operations import CodedRows, Operations, SiteTensors, energies


class CudaOperations(Operations):
    """Membranes are read by a kernel of their own."""

    def read_blocks(
        self, coded: CodedRows, phases: torch.Tensor, horner_shift: int, site: SiteTensors, readout: BlockReadout
    ) -> torch.Tensor:
        if (
            not converts_as_membrane(readout)
            or site.ranges is None
            or readout.block_rows > MOST_ROWS
            or readout.converter_bits < LEAST_BITS
        ):
            return super().read_blocks(coded, phases, horner_shift, site, readout)
        drive = Drive(phases, horner_shift, energies=energies(coded, readout))
        exponents = readout.exponents(drive, torch).expand(len(site.ranges), -1).int().contiguous()
        accumulators: torch.Tensor = read_membranes(
            coded.planes, site.weight, exponents, site.ranges, readout.block_rows, readout.converter_bits, readout.repeats
        )
        return accumulators
