"""Rotary embedding."""

import numpy as np

from neuromorphic_llm.reference.rotary import rotary_tables, rotate


def test_tables_hold_the_angles() -> None:
    cos, sin = rotary_tables(100, 64, 10000.0)
    assert cos.shape == sin.shape == (100, 32)
    assert cos.dtype == sin.dtype == np.int16
    assert (cos[0] == 2**14).all()
    assert not sin[0].any()
    for p, j in ((1, 0), (37, 5), (99, 31)):
        assert cos[p, j] == round(2**14 * np.cos(p * 10000.0 ** (-2 * j / 64)))
        assert sin[p, j] == round(2**14 * np.sin(p * 10000.0 ** (-2 * j / 64)))


def test_rotation_is_close_to_floating_point() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-(2**17), 2**17, (50, 3, 16))
    cos, sin = rotary_tables(50, 16, 10000.0)
    angle = np.arange(50)[:, None] * 10000.0 ** (-2 * np.arange(8) / 16)
    rotated = (x[..., :8] + 1j * x[..., 8:]) * np.exp(1j * angle)[:, None]
    expected = np.concatenate([rotated.real, rotated.imag], axis=-1)
    # Each table value is off by 2^-15 at most, the result by half a unit more.
    assert np.abs(rotate(x, cos, sin) - expected).max() <= 2 * 2**17 * 2.0**-15 + 0.5


def test_the_first_position_is_not_rotated_and_extremes_saturate() -> None:
    cos, sin = rotary_tables(2, 2, 10000.0)
    x = np.array([[[2**31 - 1, -(2**31)]]])
    assert (rotate(x, cos[:1], sin[:1]) == x).all()
    assert rotate(x, cos[1:], sin[1:])[0, 0].tolist()[0] == 2**31 - 1
