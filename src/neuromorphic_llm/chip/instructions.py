"""Instructions of the vector tiles: operands, text, cycles, counts and word of each (docs/reference/timing.md, Vector tile)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.instruction import CACHE, RESIDUAL, SPIKES, WORD, WORK, Activity, Instruction, Scope, Tables, passes
from neuromorphic_llm.chip.program import kv_bytes_per_token
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.chip.widths import SCORE_BITS, STORED_BITS, TABLE_BITS, WEIGHT_BITS, WORD_BITS
from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.graph.ir import Node
from neuromorphic_llm.reference.blocks import Site
from neuromorphic_llm.registry import Registry


def _words(read: int, written: int) -> dict[str, int]:
    """Counts of words read from and written to the vector memory."""
    return {"vector_bits_read": WORD_BITS * read, "vector_bits_written": WORD_BITS * written}


def _stored(words: int) -> dict[str, int]:
    """Bytes of so many words of constants in the vector memory."""
    return {"vector_memory": WORD_BITS // 8 * words}


def _tokens(activity: Activity) -> int:
    return len(activity.context)


@dataclass(frozen=True)
class _Sized(Instruction):
    """An instruction over the elements of one vector."""

    size: int

    @classmethod
    def of(cls, node: Node, scope: Scope) -> Instruction:
        """The size is that of the node's value."""
        return cls(node.type.size)

    def __str__(self) -> str:
        return f"{self.name} {self.size}"

    def fields(self, tables: Tables) -> dict[str, int]:
        """The size in elements."""
        return {"size": self.size}


@dataclass(frozen=True)
class ReceiveResidual(_Sized):
    """Waits for the residual stream of the stage before, and gives its slot free."""

    name: ClassVar[str] = "receive-residual"

    def __str__(self) -> str:
        return f"receive residual {self.size}"

    def counts(self, chip: ChipSpec, activity: Activity) -> dict[str, int]:
        """The vector is written into its slot."""
        return _words(0, self.size * _tokens(activity))


@dataclass(frozen=True)
class Norm(_Sized):
    """RMSNorm of the residual stream with a gain."""

    gain: str

    name: ClassVar[str] = "norm"
    operation: ClassVar[str] = "norm"
    reads: ClassVar[tuple[str, ...]] = (RESIDUAL,)
    writes: ClassVar[str] = WORK

    @classmethod
    def of(cls, node: Node, scope: Scope) -> Norm:
        """The gain is the node's."""
        return cls(node.type.size, str(node.attributes["gain"]))

    def cycles(self, chip: ChipSpec, activity: Activity) -> int:
        """A pass for the maximum if it is read, two more, and the square root and reciprocal."""
        return (2 + chip.maximum_read) * passes(self.size, chip) + chip.vector.norm_latency

    def counts(self, chip: ChipSpec, activity: Activity) -> dict[str, int]:
        """Every pass reads the vector, the last one the gains too."""
        tokens = _tokens(activity)
        elements = self.size * tokens
        counted = {"norm_elements": elements, "maximum_elements": elements, "square_roots": tokens, "divisions": tokens}
        return counted | _words((3 + chip.maximum_read) * elements, elements)

    def memory(self, chip: ChipSpec, context: int) -> dict[str, int]:
        """The gains."""
        return _stored(self.size)

    def fields(self, tables: Tables) -> dict[str, int]:
        """Base: the gains."""
        return {"size": self.size, "base": tables.parameter(self.gain)}


@dataclass(frozen=True)
class Encode(_Sized):
    """Spike train of the work memory's vector, sent phase by phase to the tiles of a site; uses the vector up."""

    site: Site
    code: str
    attended: bool = False  # the vector is the attention engines' output

    name: ClassVar[str] = "encode"
    operation: ClassVar[str] = "encode"
    reads: ClassVar[tuple[str, ...]] = (WORK,)
    writes: ClassVar[str] = SPIKES
    uses_up: ClassVar[bool] = True
    unit: ClassVar[str] = "encode"

    @classmethod
    def of(cls, node: Node, scope: Scope) -> Encode:
        """Site and code are the node's."""
        site = scope.config.site(str(node.attributes["site"]))
        source = scope.defined[node.operands[0]]
        return cls(node.type.size, site, str(node.attributes["code"]), source.operation == Attend.operation)

    def __str__(self) -> str:
        return f"encode {self.site.role} {self.size}"

    def scan(self, chip: ChipSpec) -> int:
        """Cycles in which one phase is scanned."""
        return chip.site_encoder.scan(passes(self.size, chip))

    def cycles(self, chip: ChipSpec, activity: Activity) -> NDArray[np.int64]:
        """The maximum, and what else comes before the first scan."""
        each, phases = passes(self.size, chip), activity.phases[:, self.site.index].astype(np.int64)
        return chip.maximum_read * each + chip.vector.latency + chip.site_encoder.before_scans(each, phases)

    def counts(self, chip: ChipSpec, activity: Activity) -> dict[str, int]:
        """The signed-digit rule asks for the prices in every phase, other codes once."""
        phases = activity.phases[:, self.site.index]
        values, coded = self.size * int((phases > 0).sum()), self.size * int(phases.sum(dtype=np.int64))
        read, written = chip.site_encoder.words(values, coded, coded if self.code == "signed-digit" else values)
        bank_bits = chip.spike_bits * coded
        banks = {"event_bank_bits_read": bank_bits, "event_bank_bits_written": bank_bits}
        return {"maximum_elements": values, "encode_elements": coded, **banks, **_words(chip.maximum_read * values + read, written)}

    def memory(self, chip: ChipSpec, context: int) -> dict[str, int]:
        """The stop prices."""
        return _stored(self.size)

    def fields(self, tables: Tables) -> dict[str, int]:
        """Base: stop prices; route: of the spikes; source 1: the attention output."""
        places = {"base": tables.stop_prices(self.site), "route": tables.spike_route(self.site)}
        return {"size": self.size, **places, "source": int(self.attended)}


@dataclass(frozen=True)
class Receive(Instruction):
    """Waits for the results of a site's synapse tiles."""

    site: Site
    values: int  # of the head two for each region: its largest logit and the index of it

    name: ClassVar[str] = "receive"
    operation: ClassVar[str] = "linear"
    reads: ClassVar[tuple[str, ...]] = (SPIKES,)
    writes: ClassVar[str] = WORK
    uses_up: ClassVar[bool] = True
    unit: ClassVar[str] = "synapse"

    @classmethod
    def of(cls, node: Node, scope: Scope) -> Receive:
        """The values are those of the node, or two of each of its regions."""
        site = scope.config.site(str(node.attributes["site"]))
        return cls(site, 2 * len(node.integers("regions")) if site.epilogue == "argmax" else node.type.size)

    def __str__(self) -> str:
        return f"receive {self.site.role} {self.values}"

    def counts(self, chip: ChipSpec, activity: Activity) -> dict[str, int]:
        """The values are written; of the head they are read again, to choose among the regions."""
        values = self.values * _tokens(activity)
        if self.site.epilogue != "argmax":
            return _words(0, values)
        return {"maximum_elements": values // 2} | _words(values, values)

    def fields(self, tables: Tables) -> dict[str, int]:
        """The size in flits; all regions but a site's last have whole flits of values."""
        return {"size": tables.flits(self.values)}


@dataclass(frozen=True)
class _Move(_Sized):
    """One pass over a vector."""

    def cycles(self, chip: ChipSpec, activity: Activity) -> int:
        """One pass."""
        return passes(self.size, chip) + chip.vector.latency


@dataclass(frozen=True)
class Rope(_Move):
    """Rotary embedding of queries and keys, the first elements of the work memory's vector."""

    head_dim: int

    name: ClassVar[str] = "rope"
    operation: ClassVar[str] = "rope"
    reads: ClassVar[tuple[str, ...]] = (WORK,)
    writes: ClassVar[str] = WORK

    @classmethod
    def of(cls, node: Node, scope: Scope) -> Rope:
        """The size is the number of elements rotated."""
        return cls(node.integer("rotated"), node.integer("head_dim"))

    def counts(self, chip: ChipSpec, activity: Activity) -> dict[str, int]:
        """A cosine and a sine for each pair."""
        elements = self.size * _tokens(activity)
        return {"rope_elements": elements, "rotary_bits_read": TABLE_BITS * elements} | _words(elements, elements)

    def memory(self, chip: ChipSpec, context: int) -> dict[str, int]:
        """A cosine and a sine for each pair of a head, per position."""
        return {"rotary_tables": 2 * (self.head_dim // 2) * TABLE_BITS // 8 * context}


@dataclass(frozen=True)
class KvWrite(_Move):
    """Keys and values, the last elements of the work memory's vector, into the key/value memories in 8 bits."""

    kv_heads: int
    first: int  # element of the first key in the vector
    key_offset: str | None = None

    name: ClassVar[str] = "kv-write"
    operation: ClassVar[str] = "kv_write"
    reads: ClassVar[tuple[str, ...]] = (WORK,)
    writes: ClassVar[str] = CACHE

    @classmethod
    def of(cls, node: Node, scope: Scope) -> KvWrite:
        """The keys and values end the node's operand."""
        size = 2 * node.type.size
        offset = str(node.attributes["key_offset"]) if "key_offset" in node.attributes else None
        return cls(size, node.integer("kv_heads"), scope.defined[node.operands[0]].type.size - size, offset)

    def __str__(self) -> str:
        return f"{super().__str__()}{' offset' if self.key_offset else ''}"

    def counts(self, chip: ChipSpec, activity: Activity) -> dict[str, int]:
        """Every key and value is compared for its exponent; offsets are read and taken off."""
        tokens = _tokens(activity)
        elements, offsets = self.size * tokens, self.size // 2 * tokens if self.key_offset else 0
        stored = STORED_BITS * (elements + 2 * self.kv_heads * tokens)
        return {"maximum_elements": elements, "add_elements": offsets, "kv_bits_written": stored} | _words(elements + offsets, 0)

    def memory(self, chip: ChipSpec, context: int) -> dict[str, int]:
        """Keys, values and their exponents per token, and the offsets of keys."""
        keys = self.size // 2
        stored = {"key_value": self.kv_heads * kv_bytes_per_token(keys // self.kv_heads) * context}
        return stored if self.key_offset is None else stored | _stored(keys)

    def fields(self, tables: Tables) -> dict[str, int]:
        """Base: element of the first key; source 1: key offsets, from word `route` of the parameters on."""
        found = {"size": self.size, "base": self.first}
        return found if self.key_offset is None else found | {"route": tables.parameter(self.key_offset, self.first), "source": 1}


@dataclass(frozen=True)
class Attend(Instruction):
    """Softmax attention of the queries, the first elements of the work memory's vector, over the key/value memories."""

    layer: int
    heads: int
    kv_heads: int
    head_dim: int
    stop: str  # stop prices of queries
    base: str  # exponents of values

    name: ClassVar[str] = "attend"
    operation: ClassVar[str] = "attention"
    reads: ClassVar[tuple[str, ...]] = (WORK, CACHE)
    writes: ClassVar[str] = WORK
    unit: ClassVar[str] = "attention"

    @classmethod
    def of(cls, node: Node, scope: Scope) -> Attend:
        """Shapes from the node and its cache."""
        kv_heads, head_dim = scope.defined[node.operands[1]].type.shape
        names = str(node.attributes["stop"]), str(node.attributes["base"])
        return cls(node.stage, node.integer("heads"), kv_heads, head_dim, *names)

    def __str__(self) -> str:
        return self.name

    def _of(self, counts: NDArray[np.int32]) -> NDArray[np.int64]:
        """Own part of counts by layer, [tokens, heads]."""
        return counts[:, self.layer, : self.heads].astype(np.int64)

    def cycles(self, chip: ChipSpec, activity: Activity) -> NDArray[np.int64]:
        """The longest engine, which runs its heads one after another."""
        vector, context = chip.vector, activity.context.astype(np.int64)[:, None]
        group = self.heads // self.kv_heads
        first_of_set = np.arange(self.heads) % group % vector.head_lanes == 0
        word_passes = 1 + chip.maximum_read + first_of_set  # all heads of a set are coded in one
        softmax = word_passes * -(-context // vector.softmax_lanes) + vector.attend_latency
        spikes = self._of(activity.score_steps) * -(-context // vector.key_lanes) + self._of(activity.value_steps)
        heads = chip.encoder.coding(passes(self.head_dim, chip), self._of(activity.query_phases)) + spikes + softmax
        engine = np.arange(self.heads) // group % vector.attention_engines
        busy = np.stack([heads[:, engine == number].sum(axis=1) for number in range(vector.attention_engines)])
        longest: NDArray[np.int64] = busy.max(axis=0)
        return longest

    def counts(self, chip: ChipSpec, activity: Activity) -> dict[str, int]:
        """Spikes of queries and probabilities, and the memories of the attention engines."""
        tokens, context = _tokens(activity), activity.context.astype(np.int64)
        outputs, pairs = self.heads * self.head_dim * tokens, self.heads * int(context.sum())
        query_spikes = self._of(activity.query_spikes).sum(axis=1)
        probability_spikes = int(self._of(activity.probability_spikes).sum())
        # A group of query heads reads an element of the keys once for all their spikes on it.
        columns = int(self._of(activity.key_columns).sum(axis=1) @ context)
        exponents = self.kv_heads * int(context.sum())
        rows = (self.head_dim + 1) * int(self._of(activity.probability_keys).sum())  # with their exponents
        coded = self.head_dim * int(self._of(activity.query_phases).sum())
        read, written = chip.encoder.words(outputs, coded, coded)  # the queries have as many elements as the outputs
        return {
            "divisions": self.heads * tokens,
            "maximum_elements": outputs + pairs,
            "encode_elements": coded,
            "query_spikes": int(query_spikes.sum()),
            "score_operations": int(query_spikes @ context),
            "softmax_elements": pairs,
            "probability_spikes": probability_spikes,
            "value_operations": probability_spikes * self.head_dim,
            "attention_values": outputs,
            "kv_bits_read": STORED_BITS * (columns + exponents + rows),
            "score_bits_read": ((1 + chip.maximum_read) * SCORE_BITS + WEIGHT_BITS) * pairs,
            "score_bits_written": (SCORE_BITS + WEIGHT_BITS) * pairs,
            **_words(read, written + outputs),
        }

    def memory(self, chip: ChipSpec, context: int) -> dict[str, int]:
        """Stop prices and exponents; per engine and token scores of a group of heads, which share reads of keys, and weights of a set."""
        engines, group = min(self.kv_heads, chip.vector.attention_engines), self.heads // self.kv_heads
        scores = engines * (SCORE_BITS * group + WEIGHT_BITS * min(group, chip.vector.head_lanes)) // 8 * context
        return {"vector_memory": 4 * self.heads * self.head_dim + self.kv_heads, "attention_scores": scores}

    def fields(self, tables: Tables) -> dict[str, int]:
        """None; shapes and parameters are registers of the tile."""
        return {}


@dataclass(frozen=True)
class Add(_Move):
    """Sum of the residual stream and the work memory's vector."""

    name: ClassVar[str] = "add"
    operation: ClassVar[str] = "add"
    reads: ClassVar[tuple[str, ...]] = (RESIDUAL, WORK)
    writes: ClassVar[str] = RESIDUAL

    def counts(self, chip: ChipSpec, activity: Activity) -> dict[str, int]:
        """Two vectors are read, one is written."""
        elements = self.size * _tokens(activity)
        return {"add_elements": elements} | _words(2 * elements, elements)


@dataclass(frozen=True)
class Send(_Sized):
    """Injects the residual stream to the next stage as soon as that has a free slot."""

    wanted: bool = False  # of tokens whose logits are wanted only

    name: ClassVar[str] = "send"
    unit: ClassVar[str] = "encode"

    def counts(self, chip: ChipSpec, activity: Activity) -> dict[str, int]:
        """The vector is read."""
        return _words(self.size * (int(activity.logits_wanted.sum()) if self.wanted else _tokens(activity)), 0)


@dataclass(frozen=True)
class SendToken(Instruction):
    """Injects the chosen token to the host."""

    name: ClassVar[str] = "send-token"
    unit: ClassVar[str] = "encode"

    def __str__(self) -> str:
        return self.name

    def fields(self, tables: Tables) -> dict[str, int]:
        """None; the route is a register of the tile."""
        return {}


INSTRUCTIONS: Registry[type[Instruction]] = Registry(
    "instruction",
    [(kind.name, kind) for kind in (ReceiveResidual, Norm, Encode, Receive, Rope, KvWrite, Attend, Add, Send, SendToken)],
)
"""Every kind of instruction by its name, in the order of their operation codes."""


def kinds_by_operation() -> dict[str, type[Instruction]]:
    """Kind of instruction that executes each operation of a graph. UsageError if there are two for one."""
    kinds: dict[str, type[Instruction]] = {}
    for kind in INSTRUCTIONS.values():
        if kind.operation is not None and kinds.setdefault(kind.operation, kind) is not kind:
            both = f"{kinds[kind.operation].name} and {kind.name}"
            raise UsageError(f"the instructions {both} execute the operation {kind.operation}; leave one of them out")
    return kinds


def operation_codes() -> dict[str, int]:
    """Number of every kind of instruction in the field `operation` of its word."""
    return {name: number for number, name in enumerate(INSTRUCTIONS)}


def instruction_word(instruction: Instruction, tables: Tables) -> int:
    """Word of an instruction in a tile. SimulationError if an operand does not fit its field."""
    fields = {"operation": operation_codes()[instruction.name], **instruction.fields(tables)}
    word = shift = 0
    for field, bits in WORD.items():
        value = fields.get(field, 0)
        if value >> bits:
            raise SimulationError(
                f"{field} of the instruction {str(instruction)!r} is {value:,}, its field has {bits} bits; use a smaller model"
            )
        word |= value << shift
        shift += bits
    return word
