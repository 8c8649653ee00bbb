"""Spike codes by name, imported when first asked for; other distributions add theirs by entry points (docs/reference/codes.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from neuromorphic_llm.errors import NeuromorphicLLMError, UsageError, name_advice
from neuromorphic_llm.spikes.code import SpikeCode
from neuromorphic_llm.spikes.parameters import ParameterValue, check_parameters

ENTRY_POINTS = "neuromorphic_llm.codes"
"""Group of entry points: the name is the code's, the value `module:class`."""

_CODES: dict[str, str] = {}


def register_code(name: str, location: str) -> None:
    """Add a code; `location` is `module:class`. UsageError if the name is taken."""
    if name in _CODES:
        raise UsageError(f"spike code {name!r} is registered already, as {_CODES[name]}; choose another name")
    _CODES[name] = location


@cache
def installed_codes() -> dict[str, EntryPoint]:
    """Codes of other distributions by name. UsageError naming the distributions if two have the same name."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINTS):
        if point.name in found and (point.value, _owner(point)) != (found[point.name].value, _owner(found[point.name])):
            raise UsageError(
                f"spike code {point.name!r} comes with both {_owner(found[point.name])} and {_owner(point)}; uninstall one of them"
            )
        found[point.name] = point
    return found


def _owner(point: EntryPoint) -> str:
    """The distribution of an entry point, for messages."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown distribution"


def code_names() -> tuple[str, ...]:
    """Names of all codes: the project's own first. UsageError if another distribution's code has the name of a registered one."""
    for name, point in installed_codes().items():
        if name in _CODES:
            raise UsageError(
                f"spike code {name!r} of {_owner(point)} has the name of {_CODES[name]}; uninstall that distribution or rename its code"
            )
    return (*_CODES, *installed_codes())


def code_class(name: str) -> type[SpikeCode]:
    """The class of a code; UsageError with the nearest name if there is none, or naming where it comes from if it is broken."""
    names = code_names()
    if name not in names:
        raise UsageError(f"unknown spike code {name!r}; {name_advice(name, names)}")
    where = _origin(name)
    try:
        found = _point(name).load()
    except (Exception, SystemExit) as error:  # whatever the import of a foreign module raises
        raise UsageError(f"spike code {name!r}: {where} cannot be loaded ({_reason(error)}); repair or uninstall it") from error
    return _checked(name, found, where)


def _point(name: str) -> EntryPoint:
    """The entry point of an installed code, or one made for a registered code."""
    return EntryPoint(name, _CODES[name], ENTRY_POINTS) if name in _CODES else installed_codes()[name]


def _origin(name: str) -> str:
    """Where a code comes from, for messages: `module:class`, with the distribution of an installed one."""
    point = _point(name)
    return point.value if name in _CODES else f"{point.value} of {_owner(point)}"


def _reason(error: BaseException) -> str:
    """What an exception says, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")


@contextmanager
def failures_of(name: str) -> Iterator[None]:
    """Turns what the code of that name raises, beside the errors of this package, into a UsageError naming where it comes from."""
    try:
        yield
    except NeuromorphicLLMError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"spike code {name!r}: {_origin(name)} fails ({_reason(error)}); repair or uninstall it") from error


def _checked(name: str, found: object, where: str) -> type[SpikeCode]:
    if not (isinstance(found, type) and issubclass(found, SpikeCode)):
        raise UsageError(
            f"spike code {name!r}: {where} is not a subclass of SpikeCode; derive it from neuromorphic_llm.spikes.code.SpikeCode"
        )
    if getattr(found, "name", None) != name:
        raise UsageError(f"spike code {name!r}: {where} calls itself {getattr(found, 'name', None)!r}; give both the same name")
    return found


def get_code(name: str, phases: int | None = None, **parameters: ParameterValue) -> SpikeCode:
    """A code with `phases` phases (its default if None) and its parameters. UsageError on a wrong name or value, or if it is broken."""
    code = code_class(name)
    with failures_of(name):
        check_parameters(code, parameters)
        return code(code.default_phases if phases is None else phases, **parameters)


register_code("signed-digit", "neuromorphic_llm.spikes.signed_digit:SignedDigit")
register_code("rate", "neuromorphic_llm.spikes.rate:Rate")
register_code("first-spike", "neuromorphic_llm.spikes.first_spike:FirstSpike")
register_code("bit-planes", "neuromorphic_llm.spikes.bit_planes:BitPlanes")
register_code("sign-magnitude", "neuromorphic_llm.spikes.burst:SignMagnitude")
register_code("burst", "neuromorphic_llm.spikes.burst:Burst")
register_code("first-spike-log", "neuromorphic_llm.spikes.first_spike_log:FirstSpikeLog")
register_code("multi-threshold", "neuromorphic_llm.spikes.multi_threshold:MultiThreshold")
register_code("st-bif", "neuromorphic_llm.spikes.st_bif:SignedTernary")
register_code("qcfs", "neuromorphic_llm.spikes.qcfs:QuantisationClipFloorShift")
