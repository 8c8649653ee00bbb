"""Time that goes into getting kernels ready: compiling them the first time on a machine, loading them from numba's cache afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from numba.core import event


class _Clock(event.Listener):  # type: ignore[misc]
    """Adds up the time between the outermost start and end of an event."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        self._begin = 0.0

    def on_start(self, _: object) -> None:
        """The compiler begins, or something within it."""
        if self._depth == 0:
            self._begin = time.perf_counter()
        self._depth += 1

    def on_end(self, _: object) -> None:
        """The compiler ends, or something within it."""
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._begin


@contextmanager
def kernel_time() -> Iterator[Callable[[], float]]:
    """A function that returns the seconds spent on compiling and loading kernels since the block began."""
    clock = _Clock()
    # Numba holds its compiler lock while it compiles a kernel and while it loads one.
    with event.install_listener("numba:compiler_lock", clock):
        yield lambda: clock.seconds
