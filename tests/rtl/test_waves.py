"""The wave pictures of the documentation are what the RTL does."""

from __future__ import annotations

import waves


def test_the_page_is_current() -> None:
    assert waves.PAGE.read_text(encoding="utf-8") == waves.page(), "run python tests/rtl/waves.py and look at the difference"
