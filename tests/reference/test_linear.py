"""Output scaling of a crossbar site."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from neuromorphic_llm.reference.linear import scale_output
from neuromorphic_llm.reference.weights import LinearWeights


def by_definition(acc: int, multiplier: int, shift: int, bias: int) -> int:
    """sat_32(rsh(acc * M, S - k_min) + bias) with unlimited integers; `shift` is S - k_min."""

    def saturated(x: int) -> int:
        return min(max(x, -(2**31)), 2**31 - 1)

    product = acc * multiplier
    if shift < 0:
        scaled = saturated(product << min(-shift, 16))
    elif shift == 0:
        scaled = product
    else:
        scaled = 0 if shift > 62 else (product + (1 << (shift - 1))) >> shift
    return saturated(scaled + bias)


@given(
    st.integers(-(2**31) + 1, 2**31 - 1),
    st.integers(0, 65535),
    st.integers(-10, 70),
    st.integers(0, 31),
    st.integers(-(2**31), 2**31 - 1),
)
@example(2**31 - 1, 65535, 0, 31, -(2**31))
@example(1 - 2**31, 65535, 0, 16, 2**31 - 1)
@example(3, 1, 0, 20, 0)
def test_outputs_are_those_of_the_definition(acc: int, multiplier: int, shift: int, exponent: int, bias: int) -> None:
    weights = (np.zeros((1, 1), np.int8), np.array([multiplier], np.int32), shift, np.zeros(1, np.int32))
    accumulators, exponents = np.array([[acc]]), np.array([exponent], np.int32)
    with_bias = scale_output(accumulators, exponents, LinearWeights(*weights, bias=np.array([bias], np.int32)))
    assert int(with_bias[0, 0]) == by_definition(acc, multiplier, shift - exponent, bias)
    without = scale_output(accumulators, exponents, LinearWeights(*weights))
    assert int(without[0, 0]) == by_definition(acc, multiplier, shift - exponent, 0)
