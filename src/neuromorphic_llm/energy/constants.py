"""Energy constants with unit, node, width, source and bounds, read from constants.yaml (docs/reference/energy.md)."""

from __future__ import annotations

import math
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
    """One constant: joules per operation, joules per bit, or watts."""

    name: str
    unit: str
    node_nm: int
    width_bits: int
    value: Range
    source: str
    verified: str  # R: read at its source, U: unverified
    rule: str | None = None  # how it was brought from another node


UNITS = ("J", "J/bit", "W", "W/bit")


def _range(entry: Mapping[str, Any], where: str) -> Range:
    try:
        low, nominal, high = (float(entry[key]) for key in ("low", "nominal", "high"))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} needs the numbers low, nominal and high ({error!r}); add them") from error
    if not (math.isfinite(high) and 0 < low <= nominal <= high):
        raise DataError(f"{where}: 0 < low <= nominal <= high does not hold; correct the bounds")
    return Range(low, nominal, high)


def _source(entry: Mapping[str, Any], where: str) -> tuple[str, str]:
    source = entry.get("source")
    if not isinstance(source, str) or not source.strip():
        raise DataError(f"{where} has no source; every energy constant names one")
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
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{here} needs the integers node_nm and width_bits ({error!r}); add them") from error
        if "scaled_from" not in entry:
            source, verified = _source(entry, here)
            constants[name] = Constant(name, entry["unit"], node_nm, width_bits, _range(entry, here), source, verified)
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
        )
    return constants


@cache
def load_constants() -> Mapping[str, Constant]:
    """The package's constants by name; DataError if an entry is incomplete."""
    text = files("neuromorphic_llm.energy").joinpath("constants.yaml").read_text(encoding="utf-8")
    return parse_constants(yaml.safe_load(text), "energy/constants.yaml")


def converter_energy(constants: Mapping[str, Constant], bits: int) -> Range:
    """Energy of one conversion of `bits` bits, J: the table, with a power law in 2^bits between and beyond its entries."""
    widths = sorted(c.width_bits for name, c in constants.items() if name.startswith("converter_"))
    upper = next((i for i, width in enumerate(widths) if width >= bits and i > 0), len(widths) - 1)
    below, above = (constants[f"converter_{widths[i]}bit"] for i in (upper - 1, upper))
    share = (bits - below.width_bits) / (above.width_bits - below.width_bits)

    def between(a: float, b: float) -> float:
        return float(a * (b / a) ** share)

    return Range(
        between(below.value.low, above.value.low),
        between(below.value.nominal, above.value.nominal),
        between(below.value.high, above.value.high),
    )
