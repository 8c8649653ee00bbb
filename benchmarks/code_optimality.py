"""How close the signed-digit encoder is to the best of all signed-digit representations.

For a price R per spike, dynamic programming finds the representation of every integer with the least squared error + R * spikes. The greedy
encoder (threshold 3/4 of the weight, and the spike must pay its price) and the same with the threshold 2/3 of the non-adjacent form are
compared with it at equal mean spikes, for Gaussian and Laplacian inputs, averaged over their scale relative to a power of two.

    python benchmarks/code_optimality.py
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.spikes.signed_digit import signed_digits

TOP = 13
"""Most significant phase; inputs reach 1.5 * 2^TOP."""
LARGEST = 3 << TOP >> 1
DEVIATIONS = tuple(512 * 2.0 ** (step / 8) for step in range(8))
"""Standard deviations, one octave."""
SPIKES = (0.67, 1.0, 1.5, 2.0)
PRICES = tuple(2.0 ** (step / 4) for step in range(16, 76))

Floats = NDArray[np.float64]
Outcome = tuple[Floats, Floats]
"""Squared error and spikes of every input 0 .. LARGEST."""


def optimum(price: float) -> Outcome:
    """Least error + price * spikes over all digits in {-1, 0, 1}, by dynamic programming from the least significant phase up."""
    # Residues stay below 2^(TOP+2): a larger one cannot be brought back by the phases left.
    residue = np.arange(1 << (TOP + 2))
    error, spikes = residue.astype(np.float64) ** 2, np.zeros(len(residue))
    for k in range(TOP + 1):
        best = [error, spikes]
        for source in (np.abs(residue - (1 << k)), np.minimum(residue + (1 << k), len(residue) - 1)):
            cost = error[source] + price * (spikes[source] + 1)
            better = cost < best[0] + price * best[1]
            best = [np.where(better, error[source], best[0]), np.where(better, spikes[source] + 1, best[1])]
        error, spikes = best
    return error[: LARGEST + 1], spikes[: LARGEST + 1]


def three_quarters(price: float) -> Outcome:
    """The encoder of the package."""
    x = np.arange(LARGEST + 1)[None]
    digits = signed_digits(x, np.array([int(price)]), np.array([TOP]), np.array([0]))[:, 0]
    value = np.tensordot(1 << np.arange(TOP, -1, -1), digits.astype(np.int64), 1)
    return (x[0] - value).astype(np.float64) ** 2, np.count_nonzero(digits, axis=0).astype(np.float64)


def two_thirds(price: float) -> Outcome:
    """The same with the threshold of the non-adjacent form."""
    v = np.arange(LARGEST + 1)
    spikes = np.zeros(len(v))
    for k in range(TOP, -1, -1):
        fires = (3 * np.abs(v) >= 2 << k) & (2 * np.abs(v) > (1 << k) + (int(price) >> k))
        v = v - np.where(fires, np.sign(v) << k, 0)
        spikes += fires
    return v.astype(np.float64) ** 2, spikes


def density(name: str, deviation: float) -> Floats:
    """Probability of each |x| in 0 .. LARGEST."""
    x = np.arange(LARGEST + 1) / deviation
    weight = np.exp(-(x**2) / 2) if name == "Gaussian" else np.exp(-np.sqrt(2) * x)
    weight[1:] *= 2
    result: Floats = weight / weight.sum()
    return result


def curve(outcomes: list[Outcome], densities: list[Floats]) -> tuple[Floats, Floats]:
    """Mean spikes and signal-to-noise ratio in dB at every price."""
    x = np.arange(LARGEST + 1)
    spikes = [np.mean([p @ o[1] for p in densities]) for o in outcomes]
    noise = [np.mean([p @ o[0] / (p @ x**2) for p in densities]) for o in outcomes]
    return np.array(spikes), -10 * np.log10(np.array(noise))


def main() -> None:
    """Print the table."""
    rules = {"optimum": optimum, "3/4 rule": three_quarters, "2/3 rule": two_thirds}
    outcomes = {name: [rule(price) for price in PRICES] for name, rule in rules.items()}
    print(f"{'inputs':10} {'spikes':>6} {'optimum dB':>10} {'3/4 rule':>9} {'2/3 rule':>9} {'2/3 rule, more spikes at equal dB':>34}")
    for name in ("Gaussian", "Laplacian"):
        densities = [density(name, deviation) for deviation in DEVIATIONS]
        curves = {rule: curve(found, densities) for rule, found in outcomes.items()}
        for spikes in SPIKES:
            best, ours, non_adjacent = (np.interp(spikes, s[::-1], db[::-1]) for s, db in curves.values())
            more = np.interp(best, curves["2/3 rule"][1][::-1], curves["2/3 rule"][0][::-1]) - spikes
            print(f"{name:10} {spikes:6.2f} {best:10.3f} {ours - best:9.3f} {non_adjacent - best:9.3f} {more:34.3f}")


if __name__ == "__main__":
    main()
