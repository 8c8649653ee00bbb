"""Readable reprs."""

from __future__ import annotations

from neuromorphic_llm.display import Displayed


class Pair(Displayed):
    title = "Pair <of> figures"

    def figures(self) -> dict[str, str]:
        return {"first, J": "1", "second": "<2>"}


def test_as_text_and_as_html() -> None:
    assert repr(Pair()) == "Pair <of> figures\n  first, J  1\n  second    <2>"
    html = Pair()._repr_html_()
    assert "Pair &lt;of&gt; figures" in html and "&lt;2&gt;" in html and html.count("<tr>") == 2
