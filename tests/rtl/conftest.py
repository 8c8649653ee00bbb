"""Tests of the RTL: all but those of the generated package build modules, and are skipped where the tools for that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cycle_counts import COUNTS, counting, table

from neuromorphic_llm.rtl.build import missing_tools

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing_tools()
    if reason is None:
        return
    for item in items:
        if HERE in item.path.parents and item.path.name != "test_package.py":
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True, scope="session")
def _count_cycles() -> Iterator[None]:
    with counting():
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of docs/results/rtl-tests.md."""
    if COUNTS:
        terminalreporter.section("cycles compared in RTL")
        for line in table():
            terminalreporter.line(line)
