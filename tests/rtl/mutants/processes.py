"""Work in forked processes: a mutant may hang, crash or leave anything behind."""

from __future__ import annotations

import json
import math
import os
import resource
import select
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

Key = TypeVar("Key")

_BLOCKED = 10
"""A process that needs so many times its limit on the clock waits for something that does not come."""


@dataclass(frozen=True)
class Ended:
    """How a call ended: its result, or None if it hung or crashed, and the processor time it took."""

    result: Any
    seconds: float


@dataclass
class _Running:
    pid: int
    pipe: int
    since: float
    data: bytes = b""


def run_forked(
    calls: Mapping[Key, Callable[[], Any]], workers: int, limit: float | None = None, until: float = math.inf
) -> Iterator[tuple[Key, Ended]]:
    """Call everything, each in a process of its own, so many at a time, and give the results (JSON values) in the order in which they end.

    After `limit` seconds of processor time, which other load does not change, a call has hung. What has not ended when time.monotonic()
    reaches `until` is ended without a result.
    """
    waiting = list(calls.items())
    running: dict[Key, _Running] = {}
    try:
        while (waiting or running) and time.monotonic() < until:
            while waiting and len(running) < workers:
                key, call = waiting.pop(0)
                running[key] = _fork(call, limit)
            yield from _ended(running, limit)
    finally:
        for one in running.values():
            _end(one)


def _fork(call: Callable[[], Any], limit: float | None) -> _Running:
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads, which numpy's libraries may have; the child holds none of their locks and starts none.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)  # a group of its own
        os.close(read)
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit)))
        with os.fdopen(write, "w") as pipe:
            try:
                json.dump(call(), pipe)
                pipe.flush()
            finally:
                os._exit(0)  # without what the parent would do at its end
    os.close(write)
    with suppress(OSError):  # it has done so, or is gone
        os.setpgid(pid, pid)
    return _Running(pid, read, time.monotonic())


def _ended(running: dict[Key, _Running], limit: float | None) -> Iterator[tuple[Key, Ended]]:
    """Wait a while; those that ended are taken out of `running`."""
    ready, _, _ = select.select([one.pipe for one in running.values()], [], [], 0.2)
    for key, one in list(running.items()):
        blocked = limit is not None and time.monotonic() - one.since > _BLOCKED * limit
        if one.pipe in ready and (chunk := os.read(one.pipe, 1 << 16)):
            one.data += chunk
        elif one.pipe in ready or blocked:
            del running[key]
            seconds = _end(one)
            try:
                yield key, Ended(json.loads(one.data), seconds)
            except json.JSONDecodeError:
                yield key, Ended(None, seconds)


def _end(one: _Running) -> float:
    """End a process and those it started, such as a compiler; returns its processor time."""
    os.close(one.pipe)
    with suppress(ProcessLookupError):
        os.killpg(one.pid, signal.SIGKILL)
    _, _, usage = os.wait4(one.pid, 0)
    return usage.ru_utime + usage.ru_stime
