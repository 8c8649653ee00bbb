"""Halves of reads that a site's macros read again because a column saturated (docs/reference/devices.md, Rereads)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.devices.reread import Reread
from neuromorphic_llm.kernel_cache import kernel


class Halves(NamedTuple):
    """Halves of one token's reads at a site."""

    steps: NDArray[np.int64]  # [regions of the site, phases]: halves that any macro of the tile reads
    work: NDArray[np.int64]  # [3], of all macros: READS, ROWS, CELLS
    conversions: int


class Rereads:
    """Counts the halves of a program whose chip has the readout `reread`."""

    def __init__(self, program: Program, circuit: Reread) -> None:
        self._program, self._circuit = program, circuit
        self._limits = np.array([1 << (bits - 1) for bits in circuit.converter_widths], np.int64)
        sites = program.weights.config.sites
        # Columns as tiles hold them, those of gate and up in turn.
        columns = [np.arange(site.outputs).reshape(2 if site.epilogue == "gate" else 1, -1).T.ravel() for site in sites]
        held = zip(program.weights_t, columns, strict=True)
        self._levels = [np.ascontiguousarray(circuit.cell.levels(weights_t[:, order])) for weights_t, order in held]
        self._regions = [region for stage in program.stages for own in stage.regions for region in own]
        numbers = range(len(sites))
        self.of_site = [np.array([n for n, region in enumerate(self._regions) if region.site == site], np.int64) for site in numbers]
        """Numbers of the regions of every site."""
        self._macros = [self._macros_of(site) for site in numbers]

    @property
    def regions(self) -> int:
        """Regions of all sites."""
        return len(self._regions)

    def _macros_of(self, site: int) -> NDArray[np.int64]:
        """Macros of one row block and slice: first column, columns, number of the region in the site, [macros, 3]."""
        macros, first = [], 0
        for number, region in enumerate(self._regions[index] for index in self.of_site[site]):
            width = self._program.spec.synapse.usable_columns(region.columns // region.outputs)
            macros += [(first + start, min(width, region.columns - start), number) for start in range(0, region.columns, width)]
            first += region.columns
        return np.array(macros, np.int64)

    def count(self, site: int, digits: NDArray[np.int8]) -> Halves:
        """Halves for the digits [phases, inputs] of a token."""
        circuit, work = self._circuit, np.zeros(4, np.int64)
        steps = np.zeros((len(self.of_site[site]), len(digits)), np.int64)
        sizes = circuit.rows, circuit.active_rows
        _count(np.ascontiguousarray(digits), self._levels[site], *sizes, self._limits, self._macros[site], steps, work)
        return Halves(steps, work[:3], int(work[3]))


@kernel
def _read(rows: NDArray[np.int32], digits: NDArray[np.int8], levels: NDArray[np.int8], first: int, sums: NDArray[np.int32]) -> None:
    """Column sums of the driven `rows`, of levels [inputs, outputs] of a slice from the column `first` on."""
    sums[:] = 0
    for row in rows:
        driven = levels[row, first : first + len(sums)]
        if digits[row] > 0:
            for j in range(len(sums)):
                sums[j] += np.int32(driven[j])
        else:
            for j in range(len(sums)):
                sums[j] -= np.int32(driven[j])


@kernel
def _halve(charges: NDArray[np.int64], limit: int, sizes: NDArray[np.int64], pending: NDArray[np.int64]) -> int:
    """Conversions of the halves of a column that saturates.

    charges [rows + 1]: sums over the rows before each one; sizes: rows of each half by its number in the tree of halves, in which 1 is the
    whole and 2 n and 2 n + 1 are the halves of n.
    """
    conversions, left = 0, 1
    pending[0] = 1, 0, len(charges) - 1
    while left:
        left -= 1
        node, low, high = pending[left]
        if -limit <= charges[high] - charges[low] < limit:
            continue
        middle = low + (high - low + 1) // 2
        sizes[2 * node], sizes[2 * node + 1] = middle - low, high - middle
        pending[left] = 2 * node, low, middle
        pending[left + 1] = 2 * node + 1, middle, high
        left, conversions = left + 2, conversions + 2
    return conversions


@kernel
def _count(
    digits: NDArray[np.int8],
    levels: NDArray[np.int8],
    rows: int,
    active_rows: int,
    limits: NDArray[np.int64],
    macros: NDArray[np.int64],
    steps: NDArray[np.int64],
    work: NDArray[np.int64],
) -> None:
    """Halves of every phase, added to steps [regions, phases] and work [4]; limits: of each slice's converters, macros as _macros_of."""
    inputs, regions, nodes = digits.shape[1], macros[-1, 2] + 1, 4
    while nodes < 4 * active_rows:
        nodes *= 2
    pending, sizes, sums = np.empty((nodes, 3), np.int64), np.empty(nodes, np.int64), np.empty(macros[:, 1].max(), np.int32)
    for phase in range(len(digits)):
        driven = [
            np.flatnonzero(digits[phase, first : first + rows]).astype(np.int32) + np.int32(first) for first in range(0, inputs, rows)
        ]
        for start in range(0, max([len(block) for block in driven]), active_rows):
            visited = np.zeros((regions, nodes), np.bool_)
            for block in driven:
                read = block[start : start + active_rows]
                charges = np.zeros(len(read) + 1, np.int64)
                for first, width, region in macros:
                    for number in range(len(limits) if len(read) else 0):
                        limit, own = limits[number], sums[:width]
                        _read(read, digits[phase], levels[number], first, own)
                        if np.int64(own.min()) >= -limit and np.int64(own.max()) < limit:
                            continue
                        sizes[:] = 0
                        for j in range(width):
                            if not -limit <= own[j] < limit:
                                for k in range(len(read)):
                                    charges[k + 1] = charges[k] + np.int64(levels[number, read[k], first + j]) * digits[phase, read[k]]
                                work[3] += _halve(charges, limit, sizes, pending)
                        for node in np.flatnonzero(sizes):
                            visited[region, node] = True
                            work[0] += 1
                            work[1] += sizes[node]
                            work[2] += sizes[node] * width
            for region in range(regions):
                steps[region, phase] += visited[region].sum()
