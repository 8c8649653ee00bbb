"""What a page of HTML is made of, for tests."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "path", "use", "rect", "image"}


class Structure(HTMLParser):
    """Checks that tags nest, and collects ids, header cells and pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headers: list[str] = []
        self.unnamed: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.ids += [values["id"] or ""] if "id" in values else []
        if tag not in VOID:
            self.open.append(tag)
        if tag == "th":
            self.headers.append("")
        if tag == "svg" and not ({"aria-label", "aria-hidden"} & set(values)):
            self.unnamed.append(str(values))

    def handle_startendtag(self, _tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attributes if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "th":
            self.headers[-1] += data
