"""Work on what others wrote, such as chat templates: in a child process whose time and memory are bounded, and whose end is noticed."""

from __future__ import annotations

import faulthandler
import gc
import math
import os
import pickle
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

Result = TypeVar("Result")

_WALL_FACTOR, _WALL_MARGIN_S = 10, 30
"""Wall time that a busy machine may take for so much processor time."""


class ConfinedError(Exception):
    """The work failed, took too long or too much memory, or ended its process: the message says which."""


def confined(work: Callable[[], Result], *, seconds: float, memory_bytes: int) -> Result:
    """The result of `work()`, done in a fork of this process that may take so many seconds of processor time and so much more memory.

    What the work changes is lost; its result comes back pickled. Raises ConfinedError, also for what no `except Exception` catches: a panic
    of a library, the end of the process. Where there is no fork, the work is done here.
    """
    if not hasattr(os, "fork"):
        return work()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # The child does nothing with the threads that a fork leaves behind.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        _work(work, writer, seconds, memory_bytes)
    os.close(writer)
    status = None
    try:
        answer = _read(reader, time.monotonic() + _WALL_FACTOR * seconds + _WALL_MARGIN_S)
        status = os.waitpid(child, 0)[1] if answer is not None else None
    finally:
        os.close(reader)
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        raise ConfinedError(f"it takes more than {seconds:.0f} s")
    if not answer or status:
        raise ConfinedError(f"it takes more than {memory_bytes >> 20} MiB of memory, or ends its process")
    done, result = pickle.loads(answer)
    if not done:
        raise ConfinedError(result)
    return result  # type: ignore[no-any-return]


def reason(error: BaseException) -> str:
    """One line for an error of any library; a panic of one written in Rust is no Exception."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def _read(reader: int, end: float) -> bytes | None:
    """Read until the other end is closed; None if time runs out first."""
    parts: list[bytes] = []
    while (left := end - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            part = os.read(reader, 1 << 20)
            if not part:
                return b"".join(parts)
            parts.append(part)
    return None


def _work(work: Callable[[], Any], writer: int, seconds: float, memory_bytes: int) -> NoReturn:
    """The child: does the work, sends the result and ends without a word."""
    status = 1
    try:
        gc.freeze()  # nothing of the parent's is collected here, and no page of it copied
        gc.disable()
        faulthandler.disable()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _silence()
        soft = _limit(seconds, memory_bytes)
        try:
            answer: tuple[bool, Any] = (True, work())
        except MemoryError:
            answer = (False, f"it takes more than {memory_bytes >> 20} MiB of memory")
        except BaseException as error:
            answer = (False, reason(error))
        soft()
        content = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        with os.fdopen(writer, "wb", closefd=False) as file:
            file.write(content)
        status = 0
    finally:
        os._exit(status)


def _silence() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        with suppress(OSError):
            os.dup2(null, stream)


def _limit(seconds: float, memory_bytes: int) -> Callable[[], None]:
    """Bound this process; what comes back takes the bound on its memory away again, so that the answer can be sent."""
    import resource

    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), resource.getrlimit(resource.RLIMIT_CPU)[1]))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    size = memory_bytes + _own_size()
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (hard, hard)) if sys.platform == "linux" else None


def _own_size() -> int:
    """Bytes of address space that this process has already; without /proc a terabyte, which bounds nothing."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 1 << 40
