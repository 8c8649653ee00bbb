"""Named choices: lazy registries that refuse a name taken twice and answer a wrong one with the nearest."""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from neuromorphic_llm.errors import ArtefactError, NeuromorphicLLMError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, whatever the case of both; None if none is like it."""
    spelled = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), spelled, n=1)
    return spelled[near[0]] if near else None


def name_advice(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Advice on an unknown name: the nearest known one, else `otherwise` or the list of all."""
    names = list(known)
    near = nearest(name, names)
    return f"did you mean {near!r}?" if near else otherwise or f"choose one of {', '.join(names)}"


class Registry(Generic[T]):
    """Objects of one kind by name, in the order of registration; iteration gives the names.

    An entry is an object (never text), or `module:attribute`, imported when it is asked for.

    kind: noun of messages, such as "spike code".
    entries: (name, entry) pairs to begin with.
    group: entry point group by which other distributions add objects; name and `module:attribute` as above.
    flaw: fault of an object of that name, to follow its place in a message; None for none.
    error: class raised for an unknown name.
    """

    def __init__(
        self,
        kind: str,
        entries: Iterable[tuple[str, T | str]] = (),
        *,
        group: str | None = None,
        flaw: Callable[[str, Any], str | None] = lambda _name, _found: None,
        error: type[Exception] = UsageError,
    ) -> None:
        self.kind = kind
        self._group, self._flaw, self._error = group, flaw, error
        self._entries: dict[str, T | str] = {}
        for name, entry in entries:
            self.register(name, entry)

    def register(self, name: str, entry: T | str) -> None:
        """Add an entry. UsageError naming both if the name is taken."""
        if name in self._entries:
            raise UsageError(f"{self.kind} {name!r} is registered already, as {_place(self._entries[name])}; choose another name")
        self._entries[name] = entry

    @contextmanager
    def temporary(self, name: str, entry: T | str) -> Iterator[None]:
        """Context in which there is one entry more, for tests and trials; raises as register."""
        self.register(name, entry)
        try:
            yield
        finally:
            del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, the registered ones first. UsageError if another distribution brings a name that is taken."""
        installed = self._installed()
        for name, point in installed.items():
            if name in self._entries:
                taken = f"{self.kind} {name!r} of {_owner(point)} has the name of {_place(self._entries[name])}"
                raise UsageError(f"{taken}; uninstall that distribution or rename its {self.kind}")
        return iter((*self._entries, *installed))

    def __str__(self) -> str:
        """Names with commas between, for messages."""
        return ", ".join(self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._entries if self._group is None else name in tuple(self)

    def check(self, name: str) -> None:
        """`error` with the nearest name if there is no entry of this name."""
        if name not in self:
            raise self._error(f"unknown {self.kind} {name!r}; {name_advice(name, self)}")

    def check_stored(self, name: object, source: str) -> None:
        """ArtefactError if an artefact `source` names an entry that there is not, which another module may have had when it was written."""
        if name not in self:
            remedy = "import the module or install the distribution that registers it, or write the artefact again"
            raise ArtefactError(f"{source}: unknown {self.kind} {name!r}; {remedy}")

    def __getitem__(self, name: str) -> T:
        """The object of that name.

        `error` with the nearest name if there is none; UsageError naming its place if it cannot be imported or has a flaw.
        """
        self.check(name)
        try:
            found = self._loaded(name)
        except (Exception, SystemExit) as error:  # whatever the import of a foreign module raises
            where = self.origin(name)
            raise UsageError(f"{self.kind} {name!r}: {where} cannot be loaded ({_reason(error)}); repair or uninstall it") from error
        if flaw := self._flaw(name, found):
            raise UsageError(f"{self.kind} {name!r}: {self.origin(name)} {flaw}")
        return cast(T, found)

    def _loaded(self, name: str) -> object:
        """The object of a known name, imported if need be."""
        if name not in self._entries:
            return self._installed()[name].load()
        entry = self._entries[name]
        return pkgutil.resolve_name(entry) if isinstance(entry, str) else entry

    def values(self) -> Iterator[T]:
        """Iterate over the objects; raises as __getitem__."""
        return (self[name] for name in self)

    def items(self) -> Iterator[tuple[str, T]]:
        """Iterate over pairs (name, object); raises as __getitem__."""
        return ((name, self[name]) for name in self)

    def origin(self, name: str) -> str:
        """Place of a known entry for messages: `module:attribute`, with the distribution of an installed one."""
        if name in self._entries:
            return _place(self._entries[name])
        point = self._installed()[name]
        return f"{point.value} of {_owner(point)}"

    @contextmanager
    def failures_of(self, name: str) -> Iterator[None]:
        """Context that turns what an entry raises, beside the errors of this package, into a UsageError naming its origin."""
        try:
            yield
        except NeuromorphicLLMError:
            raise
        except (Exception, SystemExit) as error:
            raise UsageError(f"{self.kind} {name!r}: {self.origin(name)} fails ({_reason(error)}); repair or uninstall it") from error

    def _installed(self) -> dict[str, EntryPoint]:
        return {} if self._group is None else installed(self.kind, self._group)


def subclass_flaw(base: type) -> Callable[[str, Any], str | None]:
    """`flaw` of a registry of subclasses of `base`: an entry is one, and its `name` is the name that it is registered by."""

    def flaw(name: str, found: Any) -> str | None:
        if not (isinstance(found, type) and issubclass(found, base)):
            return f"is not a subclass of {base.__name__}; derive it from {base.__module__}.{base.__qualname__}"
        own = getattr(found, "name", None)
        return None if own == name else f"calls itself {own!r}; give both the same name"

    return flaw


@cache
def installed(kind: str, group: str) -> dict[str, EntryPoint]:
    """Entry points of a group by name. UsageError naming the distributions if two bring one name."""
    from importlib.metadata import entry_points  # not at start-up

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        if point.name in found and (point.value, _owner(point)) != (found[point.name].value, _owner(found[point.name])):
            both = f"{_owner(found[point.name])} and {_owner(point)}"
            raise UsageError(f"{kind} {point.name!r} comes with both {both}; uninstall one of them")
        found[point.name] = point
    return found


def _owner(point: EntryPoint) -> str:
    """Distribution of an entry point, for messages."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown distribution"


def _place(entry: object) -> str:
    """`module:attribute` of an entry; of its class if it is neither class nor function."""
    if isinstance(entry, str):
        return entry
    named: Any = entry if hasattr(entry, "__qualname__") else type(entry)
    return f"{named.__module__}:{named.__qualname__}"


def _reason(error: BaseException) -> str:
    """Class and text of an exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
