"""Hypothesis strategies over all registered codes, their parameters, and inputs."""

from __future__ import annotations

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.spikes.code import SpikeCode
from neuromorphic_llm.spikes.parameters import CodeParameter, parameters_of
from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code

INT32 = 2**31


def values(parameter: CodeParameter) -> st.SearchStrategy[object]:
    """What a parameter may be, its default and small numbers more often."""
    if parameter.type == "bool":
        return st.booleans()
    if parameter.choices:
        return st.sampled_from(parameter.choices)
    assert parameter.least is not None and parameter.most is not None
    few = st.integers(parameter.least, min(parameter.most, parameter.least + 8))
    return st.one_of(st.just(parameter.default), few, st.integers(parameter.least, parameter.most))


@st.composite
def codes(draw: st.DrawFn) -> SpikeCode:
    """Any code with any number of phases and any parameters that go together."""
    name = draw(st.sampled_from(tuple(SPIKE_CODES)))
    found = SPIKE_CODES[name]
    chosen = {each.name: draw(values(each)) for each in parameters_of(found)}
    phases = draw(st.one_of(st.integers(1, min(found.largest_phases, 6)), st.integers(1, found.largest_phases)))
    try:
        return get_code(name, phases, **chosen)
    except UsageError:
        assume(False)
        raise


@st.composite
def vectors(draw: st.DrawFn) -> np.ndarray:
    """Vectors of any magnitude, with outliers, extremes and zeros, int32 [tokens, inputs]."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 6)))
    bound = draw(st.sampled_from([0, 1, 3, 100, 5000, 2**20, INT32 - 1]))
    x = draw(hnp.arrays(np.int32, shape, elements=st.integers(-bound, bound)))
    if draw(st.booleans()):
        x[0, 0] = draw(st.sampled_from([-INT32, INT32 - 1, 2**15, 3 * 2**10, 0]))
    return x


def prices(inputs: int) -> st.SearchStrategy[np.ndarray]:
    """Stop tables, int32 [inputs], from nothing to prohibitive."""
    return hnp.arrays(np.int32, inputs, elements=st.one_of(st.just(0), st.integers(0, 2**31 - 1), st.integers(0, 2**16)))
