"""Options of the pipelines: a whole run, and a comparison of conversions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.models.text_tokens import Bos
from neuromorphic_llm.options import described, option, same_option
from neuromorphic_llm.repository import REPOSITORY
from neuromorphic_llm.text_file import LIMITS, read_plain_text

EXAMPLE = REPOSITORY / "examples" / "article.txt"


@described
@dataclass(frozen=True)
class RunOptions:
    """Options of `nmllm run`; UsageError or DataError if it cannot be done."""

    model: str
    output: Path
    article: Path = option(EXAMPLE, "Text file to summarise (default: an example of the package).", metavar="FILE", shown=False)
    spikes: float = option(1.5, "Mean spikes per activation to convert for.")
    tolerance: float = same_option(ConvertConfig, "tolerance")
    chip: str = option("nc1", "Known chip (nmllm chips) or a YAML file.")
    max_new_tokens: int = option(96, "Longest summary, in tokens.", least=2)
    sequences: int = option(1, "Sequences in flight on the chip, each with the same article.", least=1)
    force: bool = option(False, "Do every step again.")
    seed: int = 0
    bos: Bos = Bos.AUTO

    def article_text(self) -> str:
        """The article; DataError if it is missing, empty or not text."""
        if not self.article.exists():
            raise DataError(f"--article {self.article}: no such file; give a text file")
        try:
            text = read_plain_text(self.article, "--article", LIMITS["article"]).strip()
        except UsageError as error:
            raise DataError(str(error)) from error
        if not text:
            raise DataError(f"--article {self.article} is empty; give a file with a text to summarise")
        return text


@described
@dataclass(frozen=True)
class ParetoOptions:
    """Options of a comparison of spike codes; `chip` is a known one or a file, or None for no energies."""

    model: str
    output: Path
    configs: tuple[ConvertConfig, ...]
    task: str = option("default", "Text task: default, wikitext2 or wikitext103.")
    data: Path | None = option(None, "File with the task's data.", metavar="FILE")
    limit_tokens: int | None = option(None, "Evaluate the first N tokens only.", least=2, metavar="N")
    window: int | None = option(None, "Tokens per window (default 1024, less if the model holds less).", least=2)
    batch: int = option(1, "Windows at a time.", least=1)
    chip: str | None = option(None, "Known chip (nmllm chips) or a YAML file, for energies; without it none.")
    device: str = option("cpu", "cpu or cuda.")
    force: bool = option(False, "Make every point again.")
    seed: int = 0
    bos: Bos = Bos.AUTO
