"""Tests of the RTL: all but those of the generated package build modules, and are skipped where the tools for that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cycle_counts import COUNTS, PROTOCOL, counting, protocol_table, table
from rtl_coverage import REACHED, covering, report

from neuromorphic_llm.rtl.build import missing_tools

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing_tools()
    if reason is None:
        return
    for item in items:
        if HERE in item.path.parents and item.path.name != "test_package.py":
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rtl-coverage", action="store_true", help="build with coverage and report it (make rtl-coverage)")


@pytest.fixture(autouse=True, scope="session")
def _count(pytestconfig: pytest.Config) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(counting())
        if pytestconfig.getoption("--rtl-coverage", default=False):
            stack.enter_context(covering())
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The tables of docs/results/rtl-tests.md and docs/results/rtl-coverage.md."""
    if COUNTS:
        terminalreporter.section("cycles compared in RTL")
        terminalreporter.write_line("\n".join(table()))
    if PROTOCOL:
        terminalreporter.section("cycles under protocol monitors")
        terminalreporter.write_line("\n".join(protocol_table()))
    if REACHED:
        terminalreporter.section("coverage of the RTL")
        terminalreporter.write_line("\n".join(report()))
