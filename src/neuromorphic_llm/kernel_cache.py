"""Kernels compiled by numba and kept in the cache by the digest of the sources that they are made of.

numba's own cache follows the file of a kernel alone: after a change of a file that this one imports, code compiled before would run on.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

from numba import njit
from numba.core import caching

from neuromorphic_llm.cache import drop_old_kernels, kernel_folder, touch

_PACKAGE = Path(__file__).parent
_ROOT = kernel_folder().absolute()  # of the whole process: the kernels of a module share their folder


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a function on its first call, or load it from the cache: `@kernel`, or `@kernel(parallel=True)` with options of njit."""

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options)(function)
        dispatcher._cache = _KernelCache(function)  # where njit(cache=True) puts numba's own
        return dispatcher

    return compiled if function is None else compiled(function)


def kernel_sources(path: Path) -> list[Path]:
    """The files that code compiled from a file depends on: itself and, directly or not, those of this package that it imports."""
    found = {path}
    pending = [path]
    while pending:
        new = set(_imported(pending.pop())) - found
        found |= new
        pending += new
    return sorted(found)


@cache
def _imported(path: Path) -> frozenset[Path]:
    """Files of this package that a file imports, those for types alone left out."""
    modules = []
    for node in _executed(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return frozenset(file for module in modules if (file := _file(module)))


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node
            yield from _executed(node)


def _file(module: str) -> Path | None:
    package, *names = module.split(".")
    if package != __package__:
        return None
    path = _PACKAGE.joinpath(*names)
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _folder(path: Path, module: str) -> Path:
    """Folder of a module's kernels; older ones of the same module make room."""
    digest = hashlib.sha256()
    for source in kernel_sources(path):
        content = source.read_bytes()
        digest.update(len(content).to_bytes(8, "little") + content)
    folder = _ROOT / f"{module.removeprefix(f'{__package__}.')}-{digest.hexdigest()[:20]}"
    if folder.is_dir():
        touch(folder)
    else:
        with suppress(OSError):
            folder.mkdir(parents=True)
            drop_old_kernels(keep=folder)
    return folder


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """The folder of a function; the digest in its name stands for numba's stamp of the source."""

    def __init__(self, function: FunctionType, file: str) -> None:
        self._folder = _folder(Path(file), function.__module__)
        self._line = function.__code__.co_firstlineno

    def ensure_cache_path(self) -> None:
        with suppress(OSError):  # a cache that others fill may be read only
            self._folder.mkdir(parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._folder.name

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, function: FunctionType, file: str) -> _Locator:
        return cls(function, file)


class _Layout(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _KernelCache(caching.FunctionCache):  # type: ignore[misc]
    """numba's cache of a function, written by one process at a time; one that cannot be read or written is done without."""

    _impl_class = _Layout

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return super().load_overload(*arguments)
        except Exception:  # pickle raises what it likes of a damaged file: compile again, and write anew
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, *arguments: Any) -> None:
        # The index names the file of each signature: two processes that add a signature each could name the same one.
        with suppress(OSError), open(Path(self.cache_path) / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            super().save_overload(*arguments)
