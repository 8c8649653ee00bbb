"""The crossbar macro against its numpy twin: levels of every weight, one row at a time and several together."""

from __future__ import annotations

import numpy as np
import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.devices.cells import Cell, words
from neuromorphic_llm.rtl.bench import Bench, signed

SPEC = load_spec("nano").with_fields(
    {
        "synapse.rows": 17,
        "synapse.columns": 15,
        "synapse.cell_bits": 3,
        "synapse.slices": 3,
        "readout.active_rows": 5,
        "readout.column_mux": 4,
    }
)
WEIGHTS = np.arange(-127, 128, dtype=np.int8).reshape(17, 15)


NARROW = SPEC.with_fields({"readout.kind": "reread", "readout.converter_bits": 5, "readout.high_bits": 4})


@pytest.mark.parametrize(
    ("slice_", "spec", "bits", "digital"),
    [*((slice_, SPEC, 7, 0) for slice_ in range(SPEC.synapse.slices)), (0, NARROW, 5, 0), (0, NARROW, 5, 1), (1, NARROW, 4, 1)],
)
def test_a_read_gives_the_sums_of_levels(slice_: int, spec: ChipSpec, bits: int, digital: int) -> None:
    """Or nothing where its bits do not hold them."""
    bench = Bench("nmllm_crossbar", {"SLICE": slice_, "BITS": bits, "DIGITAL": digital}, spec=spec)
    data = words(WEIGHTS, SPEC.synapse.columns)
    row, word = np.divmod(np.arange(data.size), data.shape[1])
    writes = {"write_enable": np.ones(data.size, np.uint64), "write_row": row, "write_word": word, "write_data": data.reshape(-1)}
    bench.run(writes, outputs=())
    levels = Cell(SPEC.synapse.cell_bits, SPEC.synapse.slices).levels(WEIGHTS)[slice_].astype(np.int64)
    rng = np.random.default_rng(slice_)
    digits = np.concatenate([np.eye(17, dtype=np.int64), np.zeros((40, 17), np.int64)])
    for read in digits[17:]:
        read[rng.choice(17, SPEC.readout.active_rows, replace=False)] = rng.choice([-1, 1], SPEC.readout.active_rows)
    mask = 1 << np.arange(17)
    held = {"driven": np.abs(digits) @ mask, "negative": (digits < 0) @ mask}
    got = bench.run(
        {name: np.repeat(values, SPEC.readout.column_mux) for name, values in held.items()}
        | {"read": np.ones(4 * len(digits), np.uint64), "slot": np.tile(np.arange(4), len(digits))},
        outputs=["converted", "saturated"],
    )
    sums = np.zeros((len(digits), 16), np.int64)  # the last converter has no fourth column
    sums[:, :15] = digits @ levels
    converted = sums.reshape(-1, 4, 4).transpose(0, 2, 1).reshape(-1, 4)  # converter l takes column 4 l + slot
    beyond = (converted >= 1 << bits - 1) | (converted < -(1 << bits - 1))
    assert beyond.any() == (spec is NARROW)
    valid = np.tile(np.arange(4) < 3, len(digits))[:-1, None] | (np.arange(4) < 3)
    found = signed(got["converted"], bits)[1:]
    np.testing.assert_array_equal(np.where(valid, found, 0), np.where(valid & ~beyond[:-1], converted[:-1], 0))
    np.testing.assert_array_equal(valid & (got["saturated"][1:] == 1), valid & beyond[:-1])
