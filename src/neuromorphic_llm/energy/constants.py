"""Constants with unit, node, width, source and bounds, and those of energy, read from constants.yaml (docs/reference/energy.md)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from neuromorphic_llm.errors import DataError


@dataclass(frozen=True)
class Range:
    """A figure with its bounds, in the unit of its context; sums take all bounds at once (fully correlated, so widest)."""

    low: float
    nominal: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.nominal + other.nominal, self.high + other.high)

    def __mul__(self, count: float) -> Range:
        return Range(self.low * count, self.nominal * count, self.high * count)

    __rmul__ = __mul__

    def scaled(self, factor: Range) -> Range:
        """Bound by bound product."""
        return Range(self.low * factor.low, self.nominal * factor.nominal, self.high * factor.high)

    def to_json(self) -> dict[str, float]:
        """JSON object low, nominal, high."""
        return {"low": self.low, "nominal": self.nominal, "high": self.high}

    @classmethod
    def total(cls, parts: list[Range]) -> Range:
        """Sum of `parts`, zero if there are none."""
        return sum(parts, cls(0.0, 0.0, 0.0))


@dataclass(frozen=True)
class Constant:
    """One constant: energy, power or area of one of something, or a parameter of a scaling law."""

    name: str
    unit: str
    node_nm: int
    width_bits: int
    value: Range
    source: str
    verified: str  # R: read at its source, U: unverified
    rule: str | None = None  # how it was brought from another node
    capacity_bytes: int | None = None  # of the memory, for sram_bit and sram_byte_area


UNITS = ("J", "J/bit", "J/(bit m)", "W", "W/bit", "m2", "m2/B", "m2/F", "F", "gates", "Hz", "1")


def _range(entry: Mapping[str, Any], where: str) -> Range:
    try:
        low, nominal, high = (float(entry[key]) for key in ("low", "nominal", "high"))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} needs the numbers low, nominal and high ({error!r}); add them") from error
    above_zero = low > 0 or (low == 0 and entry.get("unit") == "1")  # an exponent may be 0, an energy not
    if not (math.isfinite(high) and above_zero and low <= nominal <= high):
        raise DataError(f"{where}: 0 < low <= nominal <= high does not hold; correct the bounds")
    return Range(low, nominal, high)


def _source(entry: Mapping[str, Any], where: str) -> tuple[str, str]:
    source = entry.get("source")
    if not isinstance(source, str) or not source.strip():
        raise DataError(f"{where} has no source; every constant names one")
    if entry.get("verified") not in ("R", "U"):
        raise DataError(f"{where}: verified must be R or U, got {entry.get('verified')!r}")
    return source.strip(), str(entry["verified"])


def parse_constants(data: Mapping[str, Any], where: str) -> dict[str, Constant]:
    """Constants by name from the parsed YAML.

    Raises DataError naming `where`, the entry and the field: no source, unknown unit, bounds out of order, unknown base or rule.
    """
    rules = data.get("rules", {})
    factors = {name: _range(rule, f"{where}: rule {name}") for name, rule in rules.items()}
    constants: dict[str, Constant] = {}
    for name, entry in data.get("constants", {}).items():
        here = f"{where}: {name}"
        if entry.get("unit") not in UNITS:
            raise DataError(f"{here}: unit must be one of {', '.join(UNITS)}, got {entry.get('unit')!r}")
        try:
            node_nm, width_bits = int(entry["node_nm"]), int(entry["width_bits"])
            capacity = int(entry["capacity_bytes"]) if "capacity_bytes" in entry else None
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{here} needs the integers node_nm and width_bits, and capacity_bytes if given ({error!r}); correct them"
            ) from error
        if "scaled_from" not in entry:
            source, verified = _source(entry, here)
            value = _range(entry, here)
            constants[name] = Constant(name, entry["unit"], node_nm, width_bits, value, source, verified, capacity_bytes=capacity)
            continue
        base, rule = constants.get(entry["scaled_from"]), entry.get("rule")
        if base is None or rule not in factors:
            raise DataError(f"{here}: scaled_from and rule must name an earlier constant and a rule; correct them")
        rule_source, rule_verified = _source(rules[rule], f"{where}: rule {rule}")
        if not isinstance(rules[rule].get("rule"), str):
            raise DataError(f"{where}: rule {rule} does not say its rule; write the formula")
        constants[name] = Constant(
            name,
            entry["unit"],
            node_nm,
            width_bits,
            base.value.scaled(factors[rule]),
            f"{base.source}; scaled from {base.node_nm} nm by {rule} ({rule_source})",
            "R" if base.verified == rule_verified == "R" else "U",
            " ".join(rules[rule]["rule"].split()),
            capacity,
        )
    return constants


@cache
def load_constants() -> Mapping[str, Constant]:
    """The package's constants by name; DataError if an entry is incomplete."""
    text = files("neuromorphic_llm.energy").joinpath("constants.yaml").read_text(encoding="utf-8")
    return parse_constants(yaml.safe_load(text), "energy/constants.yaml")


def _power_law(below: Range, above: Range, share: float) -> Range:
    """Bound by bound on the power law through two entries; `share` of the way in the logarithm, beyond them if outside 0..1."""

    def between(a: float, b: float) -> float:
        return float(a * (b / a) ** share)

    return Range(between(below.low, above.low), between(below.nominal, above.nominal), between(below.high, above.high))


def sram_bit(constants: Mapping[str, Constant], size_bytes: int) -> Range:
    """Energy of one bit read from or written to an SRAM of `size_bytes`, J.

    The tabulated sizes, a power law in the size between and above them (above them the low bound by the flattest law of the three, the
    high one by the steepest); the smallest one's value below it. ValueError for no size.
    """
    return _of_size(constants, "J/bit", size_bytes)


def sram_byte_area(constants: Mapping[str, Constant], size_bytes: int) -> Range:
    """Area of one byte of an SRAM of `size_bytes`, periphery included, m2.

    The tabulated sizes, a power law in the size between them; the nearest one's value beyond them. ValueError for no size.
    """
    largest = max(c.capacity_bytes for c in constants.values() if c.capacity_bytes is not None and c.unit == "m2/B")
    return _of_size(constants, "m2/B", min(size_bytes, largest))


def _of_size(constants: Mapping[str, Constant], unit: str, size_bytes: int) -> Range:
    """Figure of a memory of `size_bytes` from the constants of `unit` that are tabulated over capacities."""
    if size_bytes < 1:
        raise ValueError(f"a memory needs at least 1 byte, got {size_bytes}")
    table = sorted((c.capacity_bytes, c.value) for c in constants.values() if c.capacity_bytes is not None and c.unit == unit)
    if size_bytes <= table[0][0]:
        return table[0][1]
    upper = next((i for i, (size, _) in enumerate(table) if size >= size_bytes), len(table) - 1)
    (below, at_below), (above, at_above) = table[upper - 1 : upper + 1]
    share = math.log(size_bytes / below) / math.log(above / below)
    if share <= 1:
        return _power_law(at_below, at_above, share)
    # The bounds meet at the largest size: the low one goes on by the flattest of the three laws, the high one by the steepest.
    beyond = _power_law(at_below, at_above, share)
    growth = [getattr(beyond, bound) / getattr(at_above, bound) for bound in ("low", "nominal", "high")]
    return Range(at_above.low * min(growth), beyond.nominal, at_above.high * max(growth))


def of_width(constants: Mapping[str, Constant], name: str, bits: int) -> Range:
    """Figure of `bits` bits from the entries `NAME_<n>bit`, with a power law in 2^bits between and beyond them."""
    table = sorted((c.width_bits, c.value) for key, c in constants.items() if re.fullmatch(rf"{name}_\d+bit", key))
    upper = next((i for i, (width, _) in enumerate(table) if width >= bits and i > 0), len(table) - 1)
    (below, at_below), (above, at_above) = table[upper - 1 : upper + 1]
    return _power_law(at_below, at_above, (bits - below) / (above - below))


def converter_energy(constants: Mapping[str, Constant], bits: int, rate_hz: float) -> Range:
    """Energy of one conversion of `bits` bits by a converter that makes `rate_hz` conversions per second, J.

    The table, with a power law in 2^bits between and beyond its entries, times (rate / corner)^exponent above the corner rate.
    """
    energy = of_width(constants, "converter", bits)
    corner_hz = constants["converter_corner"].value.nominal * constants["converter_corner_per_bit"].value.nominal ** (10 - bits)
    excess, exponent = max(rate_hz / corner_hz, 1.0), constants["converter_rate_exponent"].value
    return energy.scaled(Range(excess**exponent.low, excess**exponent.nominal, excess**exponent.high))
