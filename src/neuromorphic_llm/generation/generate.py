"""Generation over any engine: greedy, sampling and beam search, for ragged batches of prompts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.generation.choice import Choice, GenerationConfig, largest, sampler
from neuromorphic_llm.generation.engine import Engine, Sequences, TokenEngine

Progress = Callable[[int, int], None]
"""Called with (tokens generated per sequence, limit)."""

OnToken = Callable[[int, int], None]
"""Called with (index of the prompt, new token)."""


def decode(
    sequences: Sequences, prompts: Sequence[Sequence[int]], choose: Choice, max_new_tokens: int, ends: Collection[int] = ()
) -> Iterator[list[tuple[int, int]]]:
    """New tokens of every step as (prompt, token), of the sequences that still go on; a token of `ends` is the last of its sequence.

    The last token is not fed back.
    """
    slots: Sequence[int] = range(len(prompts))
    tokens = [token for logits in sequences.prefill(slots, prompts) for token in choose(logits)]
    for step in range(max_new_tokens):
        chosen = list(zip(slots, tokens, strict=True))
        yield chosen
        going = [(slot, token) for slot, token in chosen if token not in ends]
        if not going or step + 1 == max_new_tokens:
            return
        slots, fed = [slot for slot, _ in going], [token for _, token in going]
        tokens = choose(sequences.step(slots, fed))


def generate(
    engine: Engine | TokenEngine,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    progress: Progress | None = None,
    on_token: OnToken | None = None,
) -> list[list[int]]:
    """New tokens of every prompt, the end-of-sequence token included where it was reached.

    Prompts may have different lengths; each result is what the prompt alone would give, except that sampling draws from one random stream.
    `on_token` is called as soon as a token is known, but by beam search, which knows its tokens at the end.
    UsageError for an empty prompt, or for sampling or beams of an engine that yields tokens alone.
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise UsageError("empty prompt: give at least one token")
    if not isinstance(engine, Engine):
        return _tokens_alone(engine, prompts, config, progress, on_token)
    if config.num_beams > 1:
        from neuromorphic_llm.generation.beams import beam_search  # with torch

        return [beam_search(engine, prompt, config, progress) for prompt in prompts]
    choose = sampler(engine.weights, config, getattr(engine, "device", "cpu")) if config.do_sample else largest
    sequences = engine.sequences(len(prompts), max(map(len, prompts)) + config.max_new_tokens)
    results: list[list[int]] = [[] for _ in prompts]
    for done, step in enumerate(decode(sequences, prompts, choose, config.max_new_tokens, config.eos_token_ids), 1):
        for index, token in step:
            results[index].append(token)
            if on_token:
                on_token(index, token)
        if progress:
            progress(done, config.max_new_tokens)
    return results


def _tokens_alone(
    engine: TokenEngine, prompts: Sequence[Sequence[int]], config: GenerationConfig, progress: Progress | None, on_token: OnToken | None
) -> list[list[int]]:
    """Greedy tokens of an engine that does not report logits, one prompt after another."""
    if not config.greedy:
        raise UsageError("the RTL reports tokens, not logits: it decodes greedily; sample or search with beams on another engine")
    results: list[list[int]] = []
    for index, prompt in enumerate(prompts):
        tokens: list[int] = []

        def told(token: int, index: int = index, tokens: list[int] = tokens) -> None:
            tokens.append(token)
            if on_token:
                on_token(index, token)
            if progress:
                progress(len(tokens), config.max_new_tokens)

        results.append(engine.greedy_tokens(prompt, config.max_new_tokens, config.eos_token_ids, told))
    return results
