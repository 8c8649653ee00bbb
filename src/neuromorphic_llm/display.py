"""Objects that show themselves: as lines of text, and as a table in notebooks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from html import escape


class Displayed:
    """Base of classes with a readable repr, made of a title and figures."""

    @property
    @abstractmethod
    def title(self) -> str:
        """Kind and name of the object."""

    @abstractmethod
    def figures(self) -> Mapping[str, str]:
        """Label with unit -> value, written out."""

    def __repr__(self) -> str:
        """Title, and a line for each figure."""
        rows = self.figures()
        width = max(map(len, rows), default=0)
        return "\n".join([self.title, *(f"  {label:<{width}}  {value}" for label, value in rows.items())])

    def _repr_html_(self) -> str:
        """Table of the figures, for notebooks."""
        rows = "".join(f"<tr><th style='text-align:left'>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in self.figures().items())
        return f"<table><caption>{escape(self.title)}</caption>{rows}</table>"
