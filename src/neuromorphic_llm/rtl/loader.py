"""Host writes before a run: routes, tables, weights and instruction lists of a program (register maps: headers of the modules)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.codes import CHIP_CODES
from neuromorphic_llm.chip.instructions import Attend, Encode, Receive, instruction_word
from neuromorphic_llm.chip.program import Program, Region, Stage, sequence_part, stored_tokens
from neuromorphic_llm.chip.routes import router_stages
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.chip.topology import HOST_TILE
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.reference.blocks import Site
from neuromorphic_llm.reference.fixed_point import isqrt
from neuromorphic_llm.reference.norm import epsilon_term
from neuromorphic_llm.rtl.package import SEQUENCES
from neuromorphic_llm.rtl.synapse import Epilogue, RegionLoad, interleave, synapse_writes
from neuromorphic_llm.spikes.first_spike_log import FirstSpikeLog
from neuromorphic_llm.spikes.registry import get_code

Writes = NDArray[np.uint64]
"""[writes, 4]: tile (number of tiles for the DRAM), unit, address, data."""

_EPILOGUES = {"": Epilogue.VALUES, "gate": Epilogue.GATE, "argmax": Epilogue.ARGMAX}
_NO_TOKEN = 0
_MOST_ENDS = 4
_MOST_INSTRUCTIONS = 32
_MOST_PROMPT = 8192
_MOST_VALUES = (1 << 15) - 1
"""Values of a vector: sizes of instructions and tags of value flits have 15 bits."""
_MOST_KEY_VALUE_HEADS = 32
_FLIT_BITS = 64
_ADDRESSES = 1 << 24
"""Addresses of the host port in each unit."""


def chip_parameters(program: Program) -> dict[str, int | str]:
    """Parameters of nmllm_chip for a program: tiles in use, the largest sizes of attention, and of a spike train."""
    config, spec = program.weights.config, program.spec
    tiles = {0} | {stage.vector_tile for stage in program.stages} | {region.tile for region in _regions(program)}
    return {
        "USED": f"{spec.topology.tiles}'h{sum(1 << tile for tile in tiles):x}",
        "HEAD_DIM": config.head_dim,
        "GROUP": config.heads // config.kv_heads,
        "SLOTS": -(-config.kv_heads // spec.vector.attention_engines),
        "PHASES": program.weights.code.phases,
    }


def dram_words(program: Program) -> int:
    """Words of `dram_bytes_per_cycle` bytes that the embedding table takes."""
    return program.weights.config.vocab_size * _row_words(program)


def load_writes(program: Program) -> Writes:
    """Everything but the prompts. Raises SimulationError where the RTL has no room for what the program asks."""
    _check_room(program)
    parts = [_writes(HOST_TILE, *_host(program)), _dram(program), *_routes(program)]
    parts += [part for number, stage in enumerate(program.stages) for part in _stage(program, number, stage)]
    parts += [*_tile_switches(program), *_router_switches(program)]
    return np.concatenate(parts)


def request_writes(program: Program, prompts: Sequence[Sequence[int]], max_new_tokens: int, ends: Sequence[int]) -> Writes:
    """Prompts of the sequences, their parts of the key/value memories, the number of new tokens of each and the tokens that end it.

    Raises as check_room_of_request does.
    """
    check_room_of_request(prompts, ends)
    registers = [(1, 3, sum(map(len, prompts))), (1, 4, max_new_tokens), (1, 7, len(prompts))]
    registers += [(1, 8 + i, 1 << 32 | ends[i] if i < len(ends) else _NO_TOKEN) for i in range(_MOST_ENDS)]
    flagged = [(place == len(prompt) - 1) << 32 | token for prompt in prompts for place, token in enumerate(prompt)]
    parts = [_writes(HOST_TILE, *registers, *((2, index, entry) for index, entry in enumerate(flagged)))]
    part = sequence_part(program.spec, program.weights.config, len(prompts))
    return np.concatenate([*parts, *(_writes(stage.vector_tile, (1, 9, part)) for stage in program.stages[:-1])])


def check_room_of_request(prompts: Sequence[Sequence[int]], ends: Sequence[int]) -> None:
    """SimulationError for more sequences, prompt tokens or end tokens than the host tile of the RTL has room for."""
    sequences, tokens = len(prompts), sum(map(len, prompts))
    if sequences > SEQUENCES:
        raise SimulationError(f"the RTL has {SEQUENCES} sequences in flight at most, got {sequences}; run fewer")
    if tokens > _MOST_PROMPT:
        raise SimulationError(
            f"the host tile of the RTL holds {_MOST_PROMPT:,} prompt tokens, got {tokens:,}; use shorter prompts or fewer of them"
        )
    if len(ends) > _MOST_ENDS:
        raise SimulationError(f"the RTL compares with at most {_MOST_ENDS} end tokens, got {len(ends)}; name fewer")


def _writes(tile: int, *entries: tuple[int, int, int]) -> Writes:
    array = np.array([(tile, unit, address, data & 0xFFFFFFFFFFFFFFFF) for unit, address, data in entries], np.uint64)
    return array.reshape(-1, 4)


def _block(tile: int, unit: int, data: NDArray[np.uint64]) -> Writes:
    """Consecutive addresses from 0."""
    fixed = np.full(len(data), tile, np.uint64), np.full(len(data), unit, np.uint64)
    return np.stack([*fixed, np.arange(len(data), dtype=np.uint64), data], axis=1)


def _check_room(program: Program) -> None:
    """SimulationError unless everything fits the vector tile's fixed division of its memories and the widths of sizes and addresses.

    The compiler counts memory in all (docs/reference/rtl/vector-tile.md); in the RTL an address beyond its part would wrap.
    """
    spec, config = program.spec, program.weights.config
    if spec.noc.flit_bits != _FLIT_BITS:
        raise SimulationError(
            f"the RTL has flits of {_FLIT_BITS} bits, chip {spec.name} of {spec.noc.flit_bits}; simulate its cycles, or set noc.flit_bits "
            f"to {_FLIT_BITS} and compile again"
        )
    lanes = spec.vector.lanes
    memory = spec.vector.memory_bytes // 4 // lanes
    instructions = [instruction for stage in program.stages for instruction in stage.program]
    longest = max(each.values if isinstance(each, Receive) else each.size for each in instructions if isinstance(each, Encode | Receive))
    table = min(len(program.weights.rope_cos), program.max_context) * -(-(config.head_dim // 2) // lanes)
    larger = "raise vector.memory_bytes"
    needs = [
        ("values in a vector", longest, _MOST_VALUES, "use a smaller model"),
        ("key/value heads", config.kv_heads, _MOST_KEY_VALUE_HEADS, "use a smaller model"),
        ("words of work memory", -(-longest // lanes), memory // 4, larger),
        ("words of a residual buffer", -(-config.hidden_size // lanes), memory // 12, larger),
        ("instructions of a stage", max(len(stage.program) for stage in program.stages), _MOST_INSTRUCTIONS, "use fewer blocks in a layer"),
        ("words of rotary table", table, spec.vector.kv_bytes_per_engine // 16, "raise vector.lanes"),
        (
            "writes of an embedding table",
            dram_words(program) * program.spec.host.dram_bytes_per_cycle // 8,
            _ADDRESSES,
            "use a smaller vocabulary",
        ),
    ]
    for what, needed, there, advice in needs:
        _refuse_beyond(program, what, needed, there, advice)


def _refuse_beyond(program: Program, what: str, needed: int, there: int, advice: str) -> None:
    """SimulationError if a program needs more of something than there is."""
    if needed > there:
        raise SimulationError(f"the RTL of chip {program.spec.name} has room for {there:,} {what}, the program needs {needed:,}; {advice}")


def _regions(program: Program) -> Iterator[Region]:
    return (region for stage in program.stages for site in stage.regions for region in site)


def _row_words(program: Program) -> int:
    return -(-2 * program.weights.config.hidden_size // program.spec.host.dram_bytes_per_cycle)


def _host(program: Program) -> list[tuple[int, int, int]]:
    weights, routes = program.weights, program.routes
    values = [weights.config.hidden_size, _row_words(program), weights.formats.embedding_shift]
    return [*((1, i, value) for i, value in enumerate(values)), (1, 5, int(routes.residual[0])), (1, 6, int(routes.credit[0]))]


def _dram(program: Program) -> Writes:
    rows = program.weights.embedding
    padded = np.zeros((len(rows), _row_words(program) * program.spec.host.dram_bytes_per_cycle // 2), "<i2")
    padded[:, : rows.shape[1]] = rows
    return _block(program.spec.topology.tiles, 0, padded.reshape(-1, 4).view("<u8")[:, 0])


def _routes(program: Program) -> list[Writes]:
    if len(program.route_masks) >= 1 << program.spec.route_bits:
        raise SimulationError(f"the program has {len(program.route_masks)} routes, the routers of {program.spec.name} hold fewer")
    return [_block(tile, 0, program.route_masks[:, tile].astype(np.uint64)) for tile in range(program.spec.topology.tiles)]


def _stage(program: Program, number: int, stage: Stage) -> list[Writes]:
    """Writes of a vector tile and its synapse tiles."""
    parts = [_vector_tile(program, number, stage)]
    for site, regions in zip(stage.sites, stage.regions, strict=True):
        for index, region in enumerate(regions):
            writes = synapse_writes(program.spec, _region(program, site, index, region))
            parts.append(np.concatenate([np.full((len(writes), 1), region.tile, np.uint64), writes], axis=1))
    return parts


def _tile_switches(program: Program) -> list[Writes]:
    """Writes of the tiles' power switches: who wakes a tile, for which site, the route of its credits, and whether it is the head's."""
    if not program.spec.gated:
        return []
    parts, waker, no_route = [], HOST_TILE, len(program.route_masks)
    for number, stage in enumerate(program.stages):
        head = number == len(program.stages) - 1
        credits = no_route if head else int(program.routes.credit[number + 1])
        parts.append(_writes(stage.vector_tile, *_registers(15, waker, 0, credits, head)))
        waker = stage.vector_tile
        for place, regions in enumerate(stage.regions):
            parts += [_writes(region.tile, *_registers(15, waker, place, no_route, False)) for region in regions]
    return parts


def _router_switches(program: Program) -> list[Writes]:
    """Writes of the routers' power switches: masks of the vector tiles whose stages they serve, 64 tiles in a word."""
    if not program.spec.routers_gated:
        return []
    parts, words = [], -(-program.spec.topology.tiles // 64)
    for tile, served in enumerate(router_stages(program)):
        mask = sum(1 << program.stages[number].vector_tile for number in served)
        if tile != HOST_TILE:
            parts.append(_writes(tile, *_registers(14, *(mask >> 64 * word for word in range(words)))))
    return parts


def _registers(unit: int, *values: int) -> list[tuple[int, int, int]]:
    """Writes of the registers of a unit, from address 0 on."""
    return [(unit, address, value) for address, value in enumerate(values)]


def _region(program: Program, site: int, index: int, region: Region) -> RegionLoad:
    weights, described = program.weights, program.weights.config.sites[site]
    linear, gate = weights.site(site), described.epilogue == "gate"
    outputs = np.arange(region.first_output, region.first_output + region.outputs)
    columns = interleave(np.concatenate([outputs, described.outputs // 2 + outputs])) if gate else outputs
    return RegionLoad(
        weight=program.weights_t[site][:, columns],
        multiplier=linear.multiplier[columns],
        bias=None if linear.bias is None else linear.bias[columns],
        output_shift=linear.shift,
        horner_shift=get_code(weights.code.name, weights.code.phases).horner_shift,
        epilogue=_EPILOGUES[described.epilogue],
        route=int(program.routes.value[site][index]),
        first_output=region.first_output,
        first_token=region.first_output,
        region=index,
        gate_fraction=weights.formats.gate,
        hidden_fraction=weights.layers[described.stage].hidden_fraction if gate else 0,
        ranges=None if linear.ranges is None else linear.ranges[:, columns],
        least_range=0 if linear.ranges is None else int(linear.ranges.min()),
        **_slots(program),
    )


def _slots(program: Program) -> dict[str, int]:
    """Last slot of a stamped train, and the octaves that it spans; none of trains of phases."""
    code = program.weights.code.spike_code()
    if not program.spec.stamped or not isinstance(code, FirstSpikeLog):
        return {}
    return {"last_slot": len(code.levels) - 1, "octaves": code.phases - 1}


class _TileTables:
    """Places in a vector tile that its instructions name: parameters in the order in which they are asked for, each from a new word on."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.words: list[NDArray[np.uint32]] = []

    def _place(self, vector: NDArray[np.int32]) -> int:
        base = len(self.words)
        self.words += list(_words(vector, self._program.spec.vector.lanes))
        return base

    def parameter(self, name: str, first: int = 0) -> int:
        """Word of a parameter, behind zeros up to the lane of element `first`."""
        before = np.zeros(first % self._program.spec.vector.lanes, np.int32)
        return self._place(np.concatenate([before, self._program.weights.parameter(name).reshape(-1)]))

    def stop_prices(self, site: Site) -> int:
        """Word of the stop prices of a site, of stamped trains of their square roots."""
        stop = self._program.weights.site(site.name).stop
        return self._place(isqrt(stop).astype(np.int32) if self._program.spec.stamped else stop)

    def spike_route(self, site: Site) -> int:
        """Route of the spikes to a site."""
        return int(self._program.routes.spike[site.index])

    def flits(self, values: int) -> int:
        """Flits of the values of a site."""
        return self._program.spec.noc.value_flits(values)


def _words(vector: NDArray[np.int32], lanes: int) -> NDArray[np.uint32]:
    """[words, lanes] of a vector, the last word filled with zeros."""
    padded = np.zeros(-(-len(vector) // lanes) * lanes, np.int32)
    padded[: len(vector)] = vector
    return padded.view(np.uint32).reshape(-1, lanes)


def _pairs(words: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Two lanes per write."""
    return np.ascontiguousarray(words).reshape(-1, 2).view("<u8")[:, 0]


def _vector_tile(program: Program, number: int, stage: Stage) -> Writes:
    spec, weights, routes = program.spec, program.weights, program.routes
    config, formats, tile = weights.config, weights.formats, stage.vector_tile
    head = number == len(program.stages) - 1
    tables = _TileTables(program)
    unused_route = len(program.route_masks)
    table_words = -(-(config.head_dim // 2) // spec.vector.lanes)
    registers = [
        int(routes.residual[number]),
        unused_route if head else int(routes.credit[number + 1]),
        routes.token if head else int(routes.residual[number + 1]),
        int(routes.credit[number]),
        config.hidden_size,
        head << 1 | (number == len(program.stages) - 2),
        config.kv_heads,
        table_words,
        len(stage.sites) - 1,
    ]
    entries = _registers(1, *registers)
    entries += [(2, index, instruction_word(instruction, tables)) for index, instruction in enumerate(stage.program)]
    half = spec.vector.memory_bytes // 4 // spec.vector.lanes // 2
    _refuse_beyond(program, "words of gains, stop prices and key offsets", len(tables.words), half, "raise vector.memory_bytes")
    entries += [(6, 0, epsilon_term(config, formats)), (6, 1, 24 + formats.gain_fraction - formats.norm)]
    entries += [(9, 0, 0 if spec.stamped else CHIP_CODES.index(weights.code.name)), (9, 1, weights.code.phases)]
    parts = [_block(tile, 3, _pairs(np.array(tables.words)))]
    for attend in (each for each in stage.program if isinstance(each, Attend)):
        entries += _attention(program, attend)
        parts.append(_block(tile, 4, _pairs(_rotary(program, table_words))))
        parts.append(_block(tile, 5, _pairs(_words(weights.parameter(attend.stop).reshape(-1), spec.vector.lanes))))
        parts.append(_block(tile, 11, _owners(spec, attend)))
    return np.concatenate([_writes(tile, *entries), *parts])


def _attention(program: Program, attend: Attend) -> list[tuple[int, int, int]]:
    spec, weights = program.spec, program.weights
    formats, bases, group = weights.formats, weights.parameter(attend.base), attend.heads // attend.kv_heads
    entries = [(7, 0, attend.head_dim), (7, 1, attend.heads), (8, 0, attend.head_dim), (8, 1, attend.kv_heads)]
    entries += [(8, 32 + head, int(base)) for head, base in enumerate(bases)]
    room = stored_tokens(spec, weights.config)  # of each key/value head
    blocks = -(-room // spec.vector.key_lanes)
    common = [
        attend.head_dim,
        group,
        weights.code.query_phases,
        weights.code.probability_bits,
        2 * formats.qkv - 8,
        15 + formats.qkv - formats.attention,
    ]
    for engine in range(spec.vector.attention_engines):
        entries += [(10, engine << 20 | address, value) for address, value in enumerate(common)]
        for slot, head in enumerate(range(engine, attend.kv_heads, spec.vector.attention_engines)):
            values = [head * group * attend.head_dim, slot * blocks, slot * room, int(bases[head])]
            entries += [(10, engine << 20 | 16 + 4 * slot + i, value) for i, value in enumerate(values)]
    return entries


def _rotary(program: Program, table_words: int) -> NDArray[np.uint32]:
    """Words of the rotary table: one cosine and one sine per lane, `table_words` words per position."""
    lanes, cos, sin = program.spec.vector.lanes, program.weights.rope_cos, program.weights.rope_sin
    pairs = cos.astype(np.uint16).astype(np.uint32) | sin.astype(np.uint16).astype(np.uint32) << 16
    table = np.zeros((min(len(cos), program.max_context), table_words * lanes), np.uint32)
    table[:, : pairs.shape[1]] = pairs[: len(table)]
    return table.reshape(-1, lanes)


def _owners(spec: ChipSpec, attend: Attend) -> NDArray[np.uint64]:
    """Engine of each lane of the attention output, 16 lanes of 4 bits per write."""
    lanes, parts = spec.vector.lanes, -(-spec.vector.lanes // 16)
    outputs, per_key = attend.heads * attend.head_dim, attend.heads // attend.kv_heads * attend.head_dim
    words = -(-outputs // lanes)
    element = np.minimum(np.arange(words * lanes), outputs - 1)
    engine = np.zeros((words, parts * 16), np.uint64)
    engine[:, :lanes] = (element // per_key % spec.vector.attention_engines).reshape(words, lanes)
    shifts = np.arange(16, dtype=np.uint64) * np.uint64(4)
    packed: NDArray[np.uint64] = (engine.reshape(-1, 16) << shifts).sum(axis=1, dtype=np.uint64)
    return packed
