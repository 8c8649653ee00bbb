"""Prompt of a compiled program: options of the commands that generate on the chip, and what they begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuromorphic_llm.cli.common import status
from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.models.text_tokens import Bos, choose_bos, encode_prompt, first_bos
from neuromorphic_llm.options import described, option
from neuromorphic_llm.text_file import LIMITS, read_plain_text

if TYPE_CHECKING:
    from neuromorphic_llm.chip.program import Program

ParseSpecial = Annotated[
    bool | None,
    typer.Option(
        "--parse-special/--no-parse-special",
        help="Whether control tokens written in the prompt, such as <|im_end|>, are control tokens or text (default: text with --chat).",
        show_default=False,
    ),
]


@described
@dataclass(frozen=True)
class PromptOptions:
    """Prompt of a generation, and its length."""

    prompt: str | None = option(None, "The prompt.")
    prompt_file: Path | None = option(None, "Text file with the prompt.", metavar="FILE")
    chat: bool = option(False, "The prompt is a user's message; use the model's chat template.")
    max_new_tokens: int = option(32, "Most tokens to generate.", least=1)
    bos: Bos = Bos.AUTO
    parse_special: bool | None = None

    def text(self) -> str:
        """Text of the prompt. UsageError unless exactly one source is given and it is not empty, DataError if the file cannot be read."""
        if (self.prompt is None) == (self.prompt_file is None):
            raise UsageError("give the prompt with --prompt TEXT or with --prompt-file FILE")
        text = self.prompt
        if self.prompt_file is not None:
            try:
                text = read_plain_text(self.prompt_file, "--prompt-file", LIMITS["prompt"])
            except UsageError as error:
                raise DataError(str(error)) from error
        if text is None or not text.strip():
            raise UsageError("the prompt is empty; give a text")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            # What the shell passed was not UTF-8; tokenizers refuse such strings.
            raise UsageError(f"--prompt is not UTF-8 text (character {error.start}); give it in UTF-8") from error
        return text


@described
@dataclass(frozen=True)
class SequenceOptions(PromptOptions):
    """Prompts of the sequences in flight, and the length of each."""

    sequences: int = option(1, "Sequences in flight.", least=1)
    prompts_file: Path | None = option(None, "Text file with a prompt per line, one for each sequence.", metavar="FILE")

    def texts(self) -> tuple[str, ...]:
        """Text of the prompt of every sequence: its line of a file, or one for all. Raises as `text`, and UsageError for other lines."""
        if self.prompts_file is None:
            return (self.text(),) * self.sequences
        if self.prompt is not None or self.prompt_file is not None:
            raise UsageError("--prompts-file has all prompts; leave --prompt and --prompt-file out")
        try:
            lines = tuple(read_plain_text(self.prompts_file, "--prompts-file", LIMITS["prompt"]).rstrip("\n").split("\n"))
        except UsageError as error:
            raise DataError(str(error)) from error
        if len(lines) != self.sequences:
            count = len(lines)
            raise UsageError(f"--prompts-file {self.prompts_file} has {count} lines, one per sequence; give --sequences {count}")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                raise UsageError(f"--prompts-file {self.prompts_file}, line {number}: the prompt is empty; give a text")
        return lines


@dataclass(frozen=True)
class PromptedProgram:
    """Program, its tokenizer, the token ids of the prompts, and the tokens that end a text."""

    program: Program
    tokenizer: Any
    prompts: list[list[int]]  # of each sequence
    stop: tuple[int, ...]

    @property
    def prompt_ids(self) -> list[int]:
        """Token ids of the first prompt."""
        return self.prompts[0]

    @property
    def bos_token(self) -> str | None:
        """Beginning-of-sequence token of the prompts; None without one."""
        return first_bos(self.tokenizer, self.prompt_ids)

    def text(self, generated: Sequence[int]) -> str:
        """Text of generated tokens, without those that end it."""
        return str(self.tokenizer.decode([token for token in generated if token not in self.stop], skip_special_tokens=True)).strip()


def load_prompted(folder: Path, options: PromptOptions, *texts: str) -> PromptedProgram:
    """Load a program folder and encode the texts of its prompts."""
    from neuromorphic_llm.chip.program_io import load_program
    from neuromorphic_llm.evaluation.stop import stop_tokens
    from neuromorphic_llm.models.tokenizer import load_tokenizer

    with status(f"loading {folder}"):
        program = load_program(folder)
        config = program.weights.config
        tokenizer = choose_bos(load_tokenizer(program.tokenizer_files, str(folder), config.vocab_size), options.bos)
    encoded = {text: encode_prompt(tokenizer, text, options.chat, options.parse_special) for text in texts}
    return PromptedProgram(program, tokenizer, [encoded[text] for text in texts], stop_tokens(tokenizer, config.eos_token_ids))
