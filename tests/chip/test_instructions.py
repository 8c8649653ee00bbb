"""Instructions: text, cycles, counts and words by hand, and another kind that is added from outside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from neuromorphic_llm.chip.instruction import WORK, Activity, Instruction, Scope, passes
from neuromorphic_llm.chip.instructions import (
    INSTRUCTIONS,
    Add,
    Attend,
    Encode,
    KvWrite,
    Norm,
    Receive,
    ReceiveResidual,
    Rope,
    Send,
    SendToken,
    instruction_word,
    operation_codes,
)
from neuromorphic_llm.chip.selection import select_programs
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.chip.units import missing_units
from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.graph.ir import Graph, Node, ValueType
from neuromorphic_llm.reference.blocks import Site
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG
from neuromorphic_llm.rtl.package import PACKAGE_FILE
from neuromorphic_llm.simulation.trace import ActivityTrace

CHIP = ChipSpec(name="test").with_fields(
    {
        "vector.lanes": 4,
        "vector.latency": 3,
        "vector.norm_latency": 50,
        "vector.attention_engines": 2,
        "vector.key_lanes": 2,
        "vector.softmax_lanes": 3,
        "vector.attend_latency": 7,
    }
)
BY_ELEMENTS = CHIP.with_fields({"vector.encoder": "element"})
QKV = Site("layers.0.qkv", 10, 24, "norm", "qkv", "attention", index=0)
HEAD = Site("head", 10, 9, "norm", "logit", "head", "argmax", 1, index=1)
ATTEND = Attend(0, 4, 2, 4, "layers.0.query_stop", "layers.0.value_base")


def trace() -> ActivityTrace:
    """Two tokens, two sites, one attention of four heads in two groups; the logits of the second token were wanted."""

    def heads(*rows: list[int]) -> NDArray[np.int32]:
        return np.array(rows, np.int32)[:, None]

    return ActivityTrace(
        prompt_tokens=2,
        sequence=np.zeros(2, np.int32),
        context=np.array([3, 4], np.int32),
        logits_wanted=np.array([False, True]),
        phases=np.array([[2, 0], [5, 3]], np.int32),
        events=np.zeros((2, 2, 5, 1), np.int32),
        repeats=np.zeros((2, 2), np.int64),
        rereads=np.zeros((2, 2, 3), np.int64),
        halves=np.zeros((2, 0, 5), np.int64),
        query_phases=heads([1, 2, 3, 4], [2, 2, 2, 2]),
        query_spikes=heads([1, 1, 2, 0], [3, 0, 0, 1]),
        key_columns=heads([2, 0, 1, 0], [3, 0, 1, 0]),
        score_steps=heads([1, 1, 2, 0], [3, 0, 0, 1]),
        probability_spikes=heads([1, 2, 3, 4], [0, 1, 0, 1]),
        value_steps=heads([1, 2, 3, 4], [0, 1, 0, 1]),
        probability_keys=heads([1, 1, 2, 2], [0, 1, 0, 1]),
    )


@pytest.mark.parametrize(
    ("instruction", "text", "cycles"),
    [
        (ReceiveResidual(10), "receive residual 10", 0),
        (Norm(10, "layers.0.attention_gain"), "norm 10", 3 * 3 + 50),
        (Encode(10, QKV, "rate"), "encode qkv 10", [3 + 3] * 2),
        (Receive(QKV, 24), "receive qkv 24", 0),
        (Rope(16, 8), "rope 16", 4 + 3),
        (KvWrite(16, 2, 16), "kv-write 16", 4 + 3),
        (KvWrite(16, 2, 16, "layers.0.key_offset"), "kv-write 16 offset", 4 + 3),
        (Add(10), "add 10", 3 + 3),
        (Send(10), "send 10", 0),
        (SendToken(), "send-token", 0),
    ],
)
def test_text_and_cycles(instruction: Instruction, text: str, cycles: int | list[int]) -> None:
    assert str(instruction) == text
    assert np.array_equal(instruction.cycles(CHIP, trace()), cycles)


def test_an_encoder_by_elements_is_a_pipeline_of_phases() -> None:
    """Maximum, then all elements and a stage for each phase: 2 and 5; nothing is left to scan."""
    encode = Encode(10, QKV, "rate")
    assert (encode.scan(CHIP), encode.scan(BY_ELEMENTS)) == (3, 0)
    assert list(encode.cycles(BY_ELEMENTS, trace())) == [3 + 3 + 3 + 2, 3 + 3 + 3 + 5]


def test_attention_lasts_as_long_as_its_longest_engine() -> None:
    """Each group of two heads has an engine; 3 and 4 keys are two blocks, and one or two words of scores."""
    first = 1 + 2 + (1 + 1) * 2 + 2 * (3 + 7) + 1 + 2, 3 + 4 + (2 + 0) * 2 + 2 * (3 + 7) + 3 + 4
    second = 2 + 2 + (3 + 0) * 2 + 2 * (6 + 7) + 0 + 1, 2 + 2 + (0 + 1) * 2 + 2 * (6 + 7) + 0 + 1
    assert str(ATTEND) == "attend"
    assert list(ATTEND.cycles(CHIP, trace())) == [max(first), max(second)]
    assert list(ATTEND.cycles(CHIP.with_fields({"vector.attention_engines": 1}), trace())) == [sum(first), sum(second)]


def test_queries_pass_an_encoder_by_elements_at_one_cycle_per_phase() -> None:
    """A query of 4 elements takes one cycle of all lanes, so each head takes one more than with scans."""
    by_phases, by_elements = (ATTEND.cycles(chip, trace()) for chip in (CHIP, BY_ELEMENTS))
    assert list(by_elements - by_phases) == [2, 2]
    wider = [ATTEND.cycles(chip.with_fields({"vector.lanes": 2}), trace()) for chip in (CHIP, BY_ELEMENTS)]
    assert list(wider[0] - wider[1]) == [2 * (3 + 4) - (2 + 2 + 3 + 4), 2 * (2 + 2) - (2 + 2 + 2 + 2)]


def test_heads_of_a_set_add_at_once() -> None:
    """Both heads of a group: what the one with most spikes takes at each element and key, and one pass of coding for both."""
    chip = CHIP.with_fields({"vector.head_lanes": 2})
    both = replace(trace(), score_steps=trace().score_steps * [[1, 0, 1, 0]], value_steps=trace().value_steps * [[1, 0, 1, 0]])
    first = 1 + 2 + 1 * 2 + (2 + 2 + 1) * 1 + 2 * 7 + 1, 2 + 2 + 0 * 2 + (2 + 2 + 1) * 2 + 2 * 7 + 0
    second = 3 + 4 + 2 * 2 + (2 + 2 + 1) * 1 + 2 * 7 + 3, 2 + 2 + 0 * 2 + (2 + 2 + 1) * 2 + 2 * 7 + 0
    assert list(ATTEND.cycles(chip.with_fields({"vector.attention_engines": 1}), both)) == [
        first[0] + second[0],
        first[1] + second[1] + 3 * 2,
    ]
    assert ATTEND.memory(chip, 100)["attention_scores"] == 2 * (3 * 2 + 2 * 2) * 100


def test_maxima_taken_while_vectors_are_written_need_no_pass() -> None:
    chip = CHIP.with_fields({"vector.maximum": "written"})
    norm, encode = Norm(10, "g"), Encode(10, QKV, "rate")
    assert (norm.cycles(chip, trace()), list(encode.cycles(chip, trace()))) == (2 * 3 + 50, [3] * 2)
    assert list(ATTEND.cycles(CHIP, trace()) - ATTEND.cycles(chip, trace())) == [2 * 1, 2 * 2]  # heads x words of three scores
    for instruction, bits in ((norm, 32 * 20), (encode, 32 * 20), (ATTEND, 24 * 4 * (3 + 4))):
        before, after = (instruction.counts(each, trace()) for each in (CHIP, chip))
        read = "score_bits_read" if instruction is ATTEND else "vector_bits_read"
        assert before == after | {read: after[read] + bits}


@pytest.mark.parametrize(
    ("instruction", "counts", "read", "written"),
    [
        (ReceiveResidual(10), {}, 0, 20),
        (Norm(10, "g"), {"norm_elements": 20, "maximum_elements": 20, "square_roots": 2, "divisions": 2}, 80, 20),
        (Receive(QKV, 24), {}, 0, 48),
        (Receive(HEAD, 6), {"maximum_elements": 6}, 12, 12),
        (Rope(16, 8), {"rope_elements": 32, "rotary_bits_read": 16 * 32}, 32, 32),
        (KvWrite(16, 2, 16), {"maximum_elements": 32, "add_elements": 0, "kv_bits_written": 8 * (32 + 8)}, 32, 0),
        (KvWrite(16, 2, 16, "o"), {"maximum_elements": 32, "add_elements": 16, "kv_bits_written": 8 * (32 + 8)}, 48, 0),
        (Add(10), {"add_elements": 20}, 40, 20),
        (Send(10), {}, 20, 0),
        (Send(10, wanted=True), {}, 10, 0),
    ],
)
def test_counts(instruction: Instruction, counts: dict[str, int], read: int, written: int) -> None:
    assert instruction.counts(CHIP, trace()) == {**counts, "vector_bits_read": 32 * read, "vector_bits_written": 32 * written}


def test_counts_of_encoders() -> None:
    """Prices are read in every phase by the signed-digit rule, once a vector by other codes."""
    scanned, values = 10 * (2 + 5), 10 * 2
    banks = {"event_bank_bits_read": 2 * scanned, "event_bank_bits_written": 2 * scanned}
    for code, prices in (("signed-digit", scanned), ("rate", values)):
        words = {"vector_bits_read": 32 * (values + scanned + prices), "vector_bits_written": 32 * scanned}
        assert Encode(10, QKV, code).counts(CHIP, trace()) == {"maximum_elements": values, "encode_elements": scanned, **banks, **words}


@pytest.mark.parametrize("code", ["signed-digit", "rate"])
def test_an_encoder_by_elements_reads_them_and_their_prices_once(code: str) -> None:
    """Maximum, element and price: three words for each of ten elements of two tokens; the digits are written as often."""
    by_phases, by_elements = (Encode(10, QKV, code).counts(chip, trace()) for chip in (CHIP, BY_ELEMENTS))
    assert by_elements == by_phases | {"vector_bits_read": 32 * 3 * 20, "vector_bits_written": 0}
    attended = ATTEND.counts(BY_ELEMENTS, trace())
    assert attended == ATTEND.counts(CHIP, trace()) | {"vector_bits_read": 32 * 2 * 32, "vector_bits_written": 32 * 32}


def test_counts_of_attention() -> None:
    pairs, outputs, scans = 4 * (3 + 4), 2 * 16, 4 * (10 + 8)
    assert ATTEND.counts(CHIP, trace()) == {
        "divisions": 2 * 4,
        "maximum_elements": outputs + pairs,
        "encode_elements": scans,
        "query_spikes": 4 + 4,
        "score_operations": 4 * 3 + 4 * 4,
        "softmax_elements": pairs,
        "probability_spikes": 10 + 2,
        "value_operations": 4 * 12,
        "attention_values": outputs,
        "kv_bits_read": 8 * (3 * 3 + 4 * 4 + 2 * 7 + 5 * 8),
        "score_bits_read": 64 * pairs,
        "score_bits_written": 40 * pairs,
        "vector_bits_read": 32 * 2 * scans,
        "vector_bits_written": 32 * (scans + outputs),
    }
    assert SendToken().counts(CHIP, trace()) == {}


def test_memory_of_constants_and_state() -> None:
    """Of 100 tokens: 4 bytes per constant, 1 per exponent of values; keys and values of 8 bits; 2 engines, or 1."""
    by_instruction = (
        (Norm(10, "gain"), {"vector_memory": 40}),
        (Encode(10, QKV, "rate"), {"vector_memory": 40}),
        (Rope(16, 8), {"rotary_tables": 2 * 2 * 4 * 100}),
        (KvWrite(16, 2, 16), {"key_value": 2 * (2 * 4 + 1) * 100}),
        (KvWrite(16, 2, 16, "offset"), {"key_value": 2 * (2 * 4 + 1) * 100, "vector_memory": 32}),
        (ATTEND, {"vector_memory": 4 * 16 + 2, "attention_scores": 2 * (3 * 2 + 2) * 100}),
        (Add(10), {}),
    )
    for instruction, needed in by_instruction:
        assert instruction.memory(CHIP, 100) == needed
    assert ATTEND.memory(CHIP.with_fields({"vector.attention_engines": 1}), 100)["attention_scores"] == (3 * 2 + 2) * 100


def test_operation_codes_are_those_of_the_rtl() -> None:
    names = re.search(r"typedef enum logic \[3:0\] \{\s*(.*?)\s*\} operation_t;", PACKAGE_FILE.read_text(), re.DOTALL)
    assert names is not None
    assert operation_codes() == {name.lower().replace("_", "-"): code for code, name in enumerate(names[1].split(", "))}


@dataclass
class Places:
    """Tables that give every parameter the next hundred words."""

    asked: list[tuple[str, int]] = field(default_factory=list)

    def parameter(self, name: str, first: int = 0) -> int:
        self.asked.append((name, first))
        return 100 * len(self.asked)

    def stop_prices(self, site: Site) -> int:
        return self.parameter(f"{site.name}.stop")

    def spike_route(self, site: Site) -> int:
        return 7 + site.index

    def flits(self, values: int) -> int:
        return -(-values // 2)


def test_words() -> None:
    places = Places()
    words = [
        instruction_word(each, places)
        for each in (Norm(10, "gain"), Encode(10, HEAD, "rate", attended=True), KvWrite(16, 2, 18, "offset"), Receive(QKV, 9), SendToken())
    ]
    assert words == [
        1 | 10 << 4 | 100 << 19,
        2 | 10 << 4 | 200 << 19 | 8 << 35 | 1 << 51,
        5 | 16 << 4 | 18 << 19 | 300 << 35 | 1 << 51,
        3 | 5 << 4,
        9,
    ]
    assert places.asked == [("gain", 0), ("head.stop", 0), ("offset", 18)]
    with pytest.raises(SimulationError, match="size of the instruction 'add 32768' is 32,768, its field has 15 bits"):
        instruction_word(Add(1 << 15), places)


@dataclass(frozen=True)
class Decay(Instruction):
    """Every element of the work memory's vector times a parameter."""

    size: int
    decay: str

    name: ClassVar[str] = "decay"
    operation: ClassVar[str] = "decay"
    reads: ClassVar[tuple[str, ...]] = (WORK,)
    writes: ClassVar[str] = WORK

    @classmethod
    def of(cls, node: Node, scope: Scope) -> Decay:  # noqa: ARG003
        return cls(node.type.size, str(node.attributes["decay"]))

    def __str__(self) -> str:
        return f"decay {self.size}"

    def cycles(self, chip: ChipSpec, activity: Activity) -> int:  # noqa: ARG002
        return 2 * passes(self.size, chip)


@pytest.fixture
def _decay() -> Iterator[None]:
    with INSTRUCTIONS.temporary("decay", Decay):
        yield


def decaying_head() -> Graph:
    """Embedding, norm, decay, head."""
    vector, attributes = ValueType("i32", 12, (32,)), {"site": "head", "code": "rate", "phases": 4}
    return Graph(
        (
            Node("token", ValueType("i32", 0, (1,)), "token", ()),
            Node("residual", vector, "embedding", ("token",), {"vocab": 77, "left": 0}),
            Node("norm", vector, "norm", ("residual",), {"gain": "final_gain"}, stage=0),
            Node("decayed", vector, "decay", ("norm",), {"decay": "final_decay"}, stage=0),
            Node("spikes", ValueType("spikes", 12, (32,)), "encode", ("decayed",), attributes, stage=0),
            Node("next", ValueType("i32", 0, (1,)), "linear", ("spikes",), {"site": "head", "columns": 77, "regions": (40, 37)}, stage=0),
        ),
        "next",
    )


@pytest.mark.usefixtures("_decay")
def test_another_kind_is_selected_and_timed() -> None:
    (program,) = select_programs(decaying_head(), SMALL_CONFIG)
    assert "; ".join(map(str, program)) == "receive residual 32; norm 32; decay 32; encode head 32; receive head 4; send-token"
    assert program[2] == Decay(32, "final_decay") and program[2].cycles(CHIP, trace()) == 16
    assert operation_codes()["decay"] == 10
    assert missing_units(decaying_head()) == []
    with pytest.raises(SimulationError, match="the RTL has no instruction 'decay'; simulate with events, or add a unit and define its"):
        instruction_word(program[2], Places())


def test_two_kinds_for_one_operation_are_refused() -> None:
    assert missing_units(decaying_head()) == ["the operation decay"]
    other = type("Other", (Decay,), {"name": "other"})
    with (
        INSTRUCTIONS.temporary("decay", Decay),
        INSTRUCTIONS.temporary("other", other),
        pytest.raises(UsageError, match="the instructions decay and other execute the operation decay; leave one of them out"),
    ):
        select_programs(decaying_head(), SMALL_CONFIG)
