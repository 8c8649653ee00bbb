"""The energy of a small compiled program against a recount by hand.

Spikes and attention come from the integer reference, sizes from the program's regions and routes; everything is counted event by
event in plain loops and priced at once with constants written out. Neither counters.py nor the account takes part.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.energy import account, chip_memories
from neuromorphic_llm.reference.attention import AttentionActivity
from neuromorphic_llm.reference.decoder import IntegerDecoder, Record
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.simulation.run import simulate

# Published value times its scaling to 22 nm, nominal, J.
ADD, MULTIPLY, REGISTER = 0.1e-12 * 0.386, 3.1e-12 * 0.386, 1e-15 * 0.386
ROUTER, ROW, CELL, DRAM = 80.9e-15 * 0.543, 0.417e-12 * 0.543, 30e-15, 20.3e-12
CONVERSION = (0.85e-12 * 1.64e-12) ** 0.5 * (500 / (113.4 * 3.07)) ** 0.661 + 10e-15  # 9 bits, 500 MS/s, and a sample
SRAM_512B = 10e-12 / 64 * 39.1 / 91.8 * 0.386
SRAM_1KB = SRAM_512B * (49.6 / 39.1) ** 0.5
SRAM_576B = SRAM_512B * (49.6 / 39.1) ** (math.log(576 / 512) / math.log(4))  # multipliers and biases of 96 columns
SRAM_32KB = 20e-12 / 64 * 0.386
SRAM_64KB = SRAM_32KB * (0.821 / 0.3125) ** (1 / 3)

PROMPT, NEW_TOKENS = [1, 2, 3], 4
PARTS = ("cells", "converters", "accumulators", "soma", "attention", "sram", "noc", "dram", "leakage")


class Recount:
    """Adds up joules by part for one token after the other; docs/reference/timing.md and energy.md read line by line."""

    def __init__(self, program: Program) -> None:
        self.program, self.spec, self.config = program, program.spec, program.weights.config
        self.joules: Counter[str] = Counter(dict.fromkeys(PARTS, 0.0))
        self.route_links = [sum(bin(mask & 15).count("1") for mask in masks) for masks in program.route_masks.tolist()]
        self.bits = program.spec.noc.flit_bits  # filled by values of 32 bits and events of 16
        self.entry_bits = 5 + len(f"{len(self.route_links):b}")

    def spend(self, part: str, joules: float) -> None:
        self.joules[part] += joules

    def words(self, read: int, written: int) -> None:
        """Words of 32 bits of the 32 KB vector memory."""
        self.spend("sram", 32 * (read + written) * SRAM_32KB)

    def flits(self, route: int, number: int) -> None:
        for _ in range(number):
            routers = 1 + self.route_links[route]
            self.spend("noc", routers * ((self.bits + 26) * ROUTER + self.entry_bits * SRAM_512B))

    def token(self, record: Record, context: int) -> None:
        """A decoded token: its logits are wanted."""
        stages, routes = self.program.stages, self.program.routes
        hidden = self.config.hidden_size
        self.spend("dram", 16 * hidden * DRAM)
        for number in range(len(stages)):
            self.flits(routes.residual[number], math.ceil(32 * hidden / self.bits))
            self.flits(routes.credit[number], 1)
            self.words(read=0, written=hidden)  # receive
            if number == self.config.layers:
                self.norm()
                self.site(4 * number, record)
                self.flits(routes.token, 1)
                continue
            self.norm()
            self.site(4 * number, record)
            self.attention(record.attention[number], context)
            self.site(4 * number + 1, record)
            self.add()
            self.norm()
            self.site(4 * number + 2, record)
            self.site(4 * number + 3, record)
            self.add()
            self.words(read=hidden, written=0)  # send

    def norm(self) -> None:
        for _ in range(self.config.hidden_size):
            self.words(read=3 + 1, written=1)  # three passes, the gain
            self.spend("soma", 3 * MULTIPLY + 5 * ADD + ADD)  # the last for the maximum
        self.spend("soma", 2 * 64 * ADD)  # square root, division

    def add(self) -> None:
        for _ in range(self.config.hidden_size):
            self.words(read=2, written=1)
            self.spend("soma", 2 * ADD)

    def site(self, site: int, record: Record) -> None:
        """Encoder, spike flits, every region's reads and output stage, value flits."""
        train = record.sites[site].train
        assert train is not None
        digits = train.digits[:, 0]  # [phases, inputs]
        name, head = self.config.sites[site].name, site == self.config.head.index
        for _ in range(digits.shape[1]):
            self.words(read=1, written=0)  # maximum
            self.spend("soma", ADD)
        self.code(digits.shape[1], len(digits))
        for phase in digits:
            for _ in phase:
                self.spend("sram", 2 * 2 * SRAM_512B)  # event bank, written and read
            self.flits(self.program.routes.spike[site], max(1, math.ceil(16 * np.count_nonzero(phase) / self.bits)))
        stage = self.program.stages[site // 4]
        regions = stage.regions[stage.sites.index(site)]
        for number, region in enumerate(regions):
            for phase in digits:
                self.reads(phase, region.columns)
            bias = self.program.weights.site(site).bias is not None
            for _ in range(region.columns):
                self.spend("soma", MULTIPLY + 3 * ADD + (ADD if head else 0))
                self.spend("accumulators", 32 * REGISTER)
                self.spend("sram", (16 + 32 * bias) * SRAM_576B)
            values = 2 if head else region.outputs
            if name.endswith("gate_up"):
                assert region.columns == 2 * values
                self.spend("soma", values * (3 * MULTIPLY + 9 * ADD + 32 * SRAM_512B))
            self.words(read=2 if head else 0, written=values)  # of the head the choice reads them
            self.spend("soma", ADD if head else 0)
            self.flits(self.program.routes.value[site][number], math.ceil(32 * values / self.bits))

    def code(self, elements: int, phases: int) -> None:
        """An encoder at work on elements, in all phases of their train."""
        for _ in range(elements):
            if self.spec.vector.encoder == "element":
                self.words(read=2, written=0)  # element and price
            for _ in range(phases):
                if self.spec.vector.encoder == "phase":
                    self.words(read=2, written=1)  # remainder and price; remainder
                self.spend("soma", 5 * ADD)

    def reads(self, phase: np.ndarray, columns: int) -> None:
        """One phase in one region: axon memory, row drivers, cells, converters, accumulators."""
        macros = 2 * math.ceil(columns / 64)  # two slices
        self.spend("sram", 2 * 2 * len(phase) * SRAM_512B)  # a word of the axon memory, written and read
        for first in range(0, len(phase), 64):
            events = sum(1 for digit in phase[first : first + 64] if digit)
            self.spend("cells", events * (macros * ROW + 2 * columns * CELL))
            for _ in range(0, events, 16):
                self.spend("converters", 2 * columns * CONVERSION)
                self.spend("accumulators", 2 * columns * (ADD + 2 * 32 * REGISTER))

    def attention(self, activity: AttentionActivity, context: int) -> None:
        """rope, kv-write and attend of one layer."""
        config, size = self.config, self.config.head_dim
        for _ in range((config.heads + config.kv_heads) * size):
            self.words(read=1, written=1)
            self.spend("sram", 16 * SRAM_1KB)
            self.spend("soma", 2 * MULTIPLY + 3 * ADD)
        for _ in range(config.kv_heads):
            self.words(read=2 * size, written=0)
            self.spend("soma", 2 * size * ADD)  # maxima of key and value
            self.spend("soma", 2 * 2 * (size + 1) * ADD)
            self.spend("attention", 2 * 8 * (size + 1) * SRAM_64KB)
            self.spend("attention", context * 8 * SRAM_64KB)  # exponents of the keys
        for head in range(config.heads):
            self.spend("soma", size * ADD)  # maximum of the query
            self.code(size, int(activity.query_phases[0, head]))
            spikes, events = int(activity.query_spikes[0, head]), int(activity.probability_spikes[0, head])
            self.spend("attention", spikes * context * (2 * ADD + 32 * REGISTER))
            self.spend("attention", int(activity.key_columns[0, head]) * context * 8 * SRAM_64KB)
            for _ in range(context):
                self.spend("soma", ADD)  # maximum
                self.spend("attention", 6 * ADD + 16 * SRAM_512B)
                self.spend("attention", (24 + 24 + 24 + 16 + 16) * SRAM_512B)
            self.spend("attention", events * (size * (2 * ADD + 32 * REGISTER) + 3 * ADD))
            self.spend("attention", int(activity.probability_keys[0, head]) * 8 * (size + 1) * SRAM_64KB)
            self.spend("soma", 64 * ADD + size * (MULTIPLY + 2 * ADD))
            self.words(read=0, written=size)

    def leak(self, seconds: float) -> None:
        """24 tiles: the host, 5 vector tiles with two engines each, 18 synapse tiles."""
        regions = [region for stage in self.program.stages for site in stage.regions for region in site]
        columns = max(region.columns for region in regions)
        entries = max(sum(1 for mask in masks if mask) for masks in self.program.route_masks.T.tolist())
        banks = {"phase": 2, "element": 14}[self.spec.vector.encoder]
        vector = 32768 + banks * 12 + 2 * (65536 + 64 * (3 * 2 + 2)) + 64 * 2 * 8
        parameters = max(region.columns * (2 if self.program.weights.site(region.site).bias is None else 6) for region in regions)
        assert parameters == 576
        synapse = 2 * 48 * 14 // 8 + parameters
        sram_bytes = 5 * vector + 18 * synapse + 24 * math.ceil(entries * self.entry_bits / 8)
        self.spend("leakage", seconds * (24 * 0.1e-3 + 8 * sram_bytes * 10e-12 + 8 * 18 * 4 * columns * 20e-12))


@pytest.mark.parametrize(("bits", "encoder"), [(32, "phase"), (64, "phase"), (128, "phase"), (64, "element")])
def test_recount_by_hand(bits: int, encoder: str) -> None:
    chip = load_spec("nano").with_fields({"noc.flit_bits": bits, "noc.events_per_flit": bits // 16, "vector.encoder": encoder})
    program = compile_network(random_decoder(3, bias=True), chip)
    result = simulate(program, PROMPT, NEW_TOKENS, stop=())
    assert result.decode is not None and result.decode.tokens == 3
    assert (SMALL_CONFIG.intermediate_size, SMALL_CONFIG.head_dim, program.max_context) == (48, 8, 64)
    decoder = IntegerDecoder(program.weights)
    cache = decoder.new_cache()
    decoder.step(PROMPT, cache)
    recount = Recount(program)
    for number, token in enumerate(result.token_ids[:-1]):
        step = decoder.step([token], cache, full=True)
        assert int(step.logits.argmax()) == result.token_ids[number + 1]
        recount.token(step.record, context=len(PROMPT) + number + 1)
    recount.leak(result.decode.cycles / 5.0e8)
    energy = account(result.decode, program.spec, chip_memories(program), result.decode.cycles / 5.0e8, tokens=3)
    assert {name: part.nominal for name, part in energy.parts.items()} == pytest.approx(dict(recount.joules), rel=1e-5, abs=0)
    assert all(value > 0 for value in recount.joules.values())
