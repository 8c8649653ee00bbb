"""Work in forked processes: a mutant may hang, crash or leave anything behind."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

Key = TypeVar("Key")


@dataclass(frozen=True)
class Ended:
    """How a call ended: its result, or None if it hung or crashed."""

    result: Any
    hung: bool
    seconds: float


@dataclass
class _Running:
    pid: int
    pipe: int
    since: float
    data: bytes = b""


def run_forked(calls: Mapping[Key, Callable[[], Any]], workers: int, limit: float | None = None) -> Iterator[tuple[Key, Ended]]:
    """Call everything, each in a process of its own, so many at a time, and give the results (JSON values) in the order in which they end.

    After `limit` seconds a call has hung.
    """
    waiting = list(calls.items())
    running: dict[Key, _Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                key, call = waiting.pop(0)
                running[key] = _fork(call)
            yield from _ended(running, limit)
    finally:
        for one in running.values():
            _end(one)


def _fork(call: Callable[[], Any]) -> _Running:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.close(read)
        with os.fdopen(write, "w") as pipe:
            try:
                json.dump(call(), pipe)
                pipe.flush()
            finally:
                os._exit(0)  # without what the parent would do at its end
    os.close(write)
    return _Running(pid, read, time.monotonic())


def _ended(running: dict[Key, _Running], limit: float | None) -> Iterator[tuple[Key, Ended]]:
    """Wait a while; those that ended are taken out of `running`."""
    ready, _, _ = select.select([one.pipe for one in running.values()], [], [], 0.2)
    for key, one in list(running.items()):
        seconds = time.monotonic() - one.since
        hung = limit is not None and seconds > limit
        if one.pipe in ready and (chunk := os.read(one.pipe, 1 << 16)):
            one.data += chunk
        elif one.pipe in ready or hung:
            del running[key]
            _end(one)
            try:
                yield key, Ended(json.loads(one.data), False, seconds)
            except json.JSONDecodeError:
                yield key, Ended(None, hung, seconds)


def _end(one: _Running) -> None:
    os.close(one.pipe)
    # It made a group of its own, with compilers in it perhaps.
    try:
        os.killpg(one.pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(one.pid, signal.SIGKILL)
    os.waitpid(one.pid, 0)
