"""A fine-tuning from checkpoint and texts to the integer network; its folder keeps what a run that was cut needs to go on.

The folder holds `run.json` (what was asked for), `text.safetensors` (windows of tokens), `start.safetensors` (prices of the conversion
that training starts from), `state.safetensors` (fine_tune.FineTuner) and `log.jsonl` (a line a step); `own-text.RANK.safetensors` while
the processes write text.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from neuromorphic_llm import __version__
from neuromorphic_llm.convert.calibrate import calibrate
from neuromorphic_llm.convert.config import ConvertConfig
from neuromorphic_llm.convert.convert import convert
from neuromorphic_llm.convert.emulation import EmulatedDecoder, Prices, check_plain, emulation_of
from neuromorphic_llm.convert.fine_tune import FineTuneConfig, FineTuner, HeldOutFigures, StepFigures, process_count, process_rank
from neuromorphic_llm.convert.float_decoder import FloatDecoder
from neuromorphic_llm.convert.integers import integer_decoder
from neuromorphic_llm.convert.own_text import own_text
from neuromorphic_llm.convert.straight_through import Surrogate
from neuromorphic_llm.convert.trained_network import meet_spikes
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.spikes.registry import get_code
from neuromorphic_llm.text_file import write_text

_HELD_OUT = 1 / 20
_OWN_TEXT_TIME = 1 / 4
"""Share of the text that is held out; share of the time that writing may take."""

_PIECES = 8
"""Own text goes on from an eighth of a window of the given texts."""

_TEXT_KEYS = ("checkpoint", "texts", "own_text", "window", "batch", "seconds", "seed")
"""What the text of a run depends on."""

_CALIBRATION_TOKENS = 4096
_BUDGET_TOKENS = {"cpu": 4096, "cuda": 8192}
_LAST_STEPS = 100


@dataclass(frozen=True)
class Watch:
    """Whom a run tells how it goes."""

    progress: Callable[[str, int, int], None] | None = None  # what, done, total
    step: Callable[[StepFigures, float], None] | None = None  # figures, share of the run that has passed
    held_out: Callable[[int, HeldOutFigures], None] | None = None  # step, figures
    dense: Callable[[float], None] | None = None  # perplexity of the dense model on the held-out text

    def tell(self, what: str, done: int, total: int) -> None:
        """Progress of something before or after training."""
        if self.progress:
            self.progress(what, done, total)


def fine_tune(
    checkpoint: Checkpoint,
    texts: Sequence[str],
    recipe: FineTuneConfig,
    folder: Path,
    *,
    own_tokens: int = 0,
    device: torch.device,
    watch: Watch | None = None,
) -> SpikingNetwork | None:
    """Fine-tune a Llama or Qwen2 checkpoint on texts and on `own_tokens` tokens that it writes itself, and return the integer network.

    Goes on where an earlier run in the folder was cut. With torch.distributed initialised all processes must call it and see the same
    folder; the first one gets the network, the others None. Raises ConversionError for another decoder, texts that are too
    short, a folder of another run, and a run that diverges.
    """
    watch = watch or Watch()
    canonical = checkpoint.canonical
    check_plain(canonical)
    if recipe.batch % process_count():
        raise ConversionError(
            f"a batch of {recipe.batch} windows cannot be shared by {process_count()} processes; choose a multiple of them"
        )
    code = get_code(recipe.code, recipe.phases, **dict(recipe.code_parameters))
    surrogate = Surrogate(recipe.masked, recipe.activity)
    emulation = emulation_of(code, ConvertConfig().query_phases, surrogate, half=device.type == "cuda")
    if process_rank() == 0:
        _open(checkpoint, texts, recipe, folder, own_tokens)
    _wait()
    _make_text(checkpoint, texts, recipe, folder, own_tokens, device, watch)
    if process_rank() == 0 and not (folder / "start.safetensors").is_file():
        _write_start(checkpoint, recipe, folder, device, watch)
    _wait()
    windows, held_out, about = _load_text(folder)
    prices, price, options = _load_start(folder)
    recipe = replace(recipe, seconds=about["training_s"])
    decoder = EmulatedDecoder(canonical, prices, emulation)
    tuner = FineTuner(checkpoint, decoder, price * decoder.weights_total, recipe, device, folder)
    tuner.load()
    log = _Log(folder / "log.jsonl", tuner.step) if process_rank() == 0 else None
    dense = tuner.dense_perplexity(held_out) if log else math.nan
    if log and watch.dense:
        watch.dense(dense)
    quality = _train(tuner, windows, held_out, log, watch)
    if log is None:
        return None
    watch.tell("make the network", 0, 1)
    weights, spikes = _integers(canonical, decoder, windows, held_out, recipe, options, device)
    watch.tell("make the network", 1, 1)
    provenance = {
        "model": checkpoint.name,
        "checkpoint_hash": checkpoint.content_hash,
        "calibration_tokens": sum(map(len, _short(windows))),
        "options": replace(options, spikes=recipe.spikes).to_json(),
        "price": tuner.price / decoder.weights_total,
        "spikes_per_activation": spikes,
        "package_version": __version__,
        "fine_tuning": {
            "recipe": recipe.to_json(),
            "steps": tuner.step,
            "tokens": tuner.step * recipe.batch * recipe.window,
            "seconds": tuner.elapsed_s,
            "loss": log.last_loss(),
            "held_out_perplexity": quality.perplexity,
            "dense_held_out_perplexity": dense,
            **{key: about[key] for key in ("texts", "text_tokens", "own_text_tokens")},
        },
    }
    return SpikingNetwork(weights, provenance=provenance, tokenizer_files=checkpoint.tokenizer_files)


def _integers(
    canonical: CanonicalDecoder, decoder: EmulatedDecoder, windows: Tensor, held_out: Tensor, recipe: FineTuneConfig,
    options: ConvertConfig, device: torch.device,
) -> tuple[DecoderWeights, float]:  # fmt: skip
    """Integer weights of the trained decoder, its ranges calibrated anew, and their spikes per activation on the held-out text."""
    trained = CanonicalDecoder(canonical.config, {**canonical.tensors, **decoder.tensors()})
    calibration = calibrate(FloatDecoder(trained, device=device), _short(windows), seed=recipe.seed)
    code = get_code(options.code, options.phases, **dict(options.code_parameters))
    integers = integer_decoder(trained.config, trained.tensors, calibration, options, code)
    budget = held_out.view(-1)[: _BUDGET_TOKENS[device.type]].split(recipe.window)  # type: ignore[no-untyped-call]
    return meet_spikes(integers, decoder.prices(), recipe.spikes, [window.tolist() for window in budget], str(device))


def _train(tuner: FineTuner, windows: Tensor, held_out: Tensor, log: _Log | None, watch: Watch) -> HeldOutFigures:
    """Run to the end, and return the last figures on the held-out text."""

    def look() -> HeldOutFigures:
        quality = tuner.evaluate(held_out)
        tuner.hold_on(quality.spikes)
        if log:
            log.write({"step": tuner.step, "held_out_perplexity": quality.perplexity, "held_out_spikes": quality.spikes})
            if watch.held_out:
                watch.held_out(tuner.step, quality)
        return quality

    # A state is written before its step's look at the held-out text, so a run that goes on takes it again.
    try:
        quality = look() if tuner.step % tuner.recipe.evaluate_every == 0 else None
        for figures in tuner.run(windows):
            if log:
                log.write(asdict(figures))
                if watch.step:
                    watch.step(figures, tuner.passed)
            quality = look() if tuner.step % tuner.recipe.evaluate_every == 0 else None
        return quality or look()
    except KeyboardInterrupt:
        tuner.save_interrupted()
        raise


def _wait() -> None:
    if distributed.is_initialized():
        distributed.barrier()


def _open(checkpoint: Checkpoint, texts: Sequence[str], recipe: FineTuneConfig, folder: Path, own_tokens: int) -> None:
    """Make the folder and write what is asked for into it; ConversionError if it is of another run."""
    sums = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    asked = {"checkpoint": checkpoint.content_hash, "texts": sums, "own_text": own_tokens, **recipe.to_json()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_asked(folder, asked)
    except OSError as error:
        raise ConversionError(f"{folder} cannot be written ({error.strerror or error}); choose another state folder") from error


def _check_asked(folder: Path, asked: dict[str, Any]) -> None:
    """Keep what is asked for; ConversionError naming what that which is in the folder was made for otherwise."""
    path = folder / "run.json"
    try:
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        made = [name for name in ("text", "start") if (folder / f"{name}.safetensors").is_file()]
        fixed = set(asked) if "start" in made else set(_TEXT_KEYS) if made else set()
        changed = [name for name in asked if name in fixed and before.get(name) != asked[name]]
    except (ValueError, AttributeError) as error:
        raise ConversionError(f"{path} is damaged ({error}); remove the folder to begin anew") from error
    if changed:
        raise ConversionError(f"{folder} is of a run with another {', '.join(changed)}; give the same, or another folder")
    if before != asked:
        write_text(path, json.dumps(asked, indent=1) + "\n")


def _save(tensors: dict[str, Tensor], path: Path, about: dict[str, Any]) -> None:
    """Write tensors and a JSON object beside them, as a whole."""
    waiting = path.with_suffix(".partial")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, waiting, {"about": json.dumps(about)})
        waiting.replace(path)
    finally:
        waiting.unlink(missing_ok=True)


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
        return load_file(path), about
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ConversionError(f"{path} is damaged ({error}); remove the folder to begin anew") from error


def _make_text(
    checkpoint: Checkpoint, texts: Sequence[str], recipe: FineTuneConfig, folder: Path, own_tokens: int, device: torch.device, watch: Watch
) -> None:
    """Windows to train on and windows held out, unless they are there: of the given texts, and of own text, of which every process writes
    its share.
    """
    there = (folder / "text.safetensors").is_file()
    _wait()  # until all processes have looked
    if process_rank() == 0:
        for part in folder.glob("own-text.*"):  # of a run that was cut
            part.unlink()
    if there:
        return
    _wait()
    begin = time.monotonic()
    windows, held_out = text_windows(checkpoint.tokenizer(), texts, recipe.window, recipe.batch)
    parts = [folder / f"own-text.{rank}.safetensors" for rank in range(process_count() if own_tokens else 0)]
    if parts:
        limit = {} if recipe.seconds is None else {"seconds": recipe.seconds * _OWN_TEXT_TIME}
        start = max(1, recipe.window // _PIECES)
        starts = windows[:, : recipe.window // start * start].reshape(-1, start)
        written = own_text(
            checkpoint.canonical, starts, math.ceil(own_tokens / len(parts)), length=recipe.window, device=device,
            seed=recipe.seed + process_rank(), **limit,
            progress=lambda done, total: watch.tell("write own text, tokens", done * len(parts), total * len(parts)),
        )  # fmt: skip
        _save({"windows": written.int()}, parts[process_rank()], {})
    _wait()
    if process_rank() == 0:
        own = [_load(part)[0]["windows"] for part in parts]
        spent = time.monotonic() - begin
        about = {
            "texts": [hashlib.sha256(text.encode()).hexdigest() for text in texts],
            "text_tokens": windows.numel(),
            "own_text_tokens": sum(part.numel() for part in own),
            "training_s": None if recipe.seconds is None else max(recipe.seconds - spent, recipe.seconds / 2),
        }
        _save({"windows": torch.cat([windows.int(), *own]), "held_out": held_out.int()}, folder / "text.safetensors", about)
        for part in parts:
            part.unlink()


def text_windows(tokenizer: Any, texts: Sequence[str], window: int, held_out: int) -> tuple[Tensor, Tensor]:
    """(windows to train on, at most `held_out` windows of the ends of the texts), int64 [n, window].

    Raises ConversionError if the texts do not fill two windows.
    """
    kept: list[Tensor] = []
    apart: list[Tensor] = []
    for text in texts:
        ids = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=torch.int64)
        windows = ids[: len(ids) // window * window].view(-1, window)
        last = max(1, round(len(windows) * _HELD_OUT))
        kept.append(windows[:-last])
        apart.append(windows[-last:])
    train, rest = torch.cat(kept), torch.cat(apart)
    if len(train) == 0:
        raise ConversionError(f"the texts do not fill two windows of {window} tokens; give longer ones with --text, or a shorter window")
    return train, rest[torch.linspace(0, len(rest) - 1, min(held_out, len(rest))).round().long()]


def _load_text(folder: Path) -> tuple[Tensor, Tensor, dict[str, Any]]:
    tensors, about = _load(folder / "text.safetensors")
    return tensors["windows"].long(), tensors["held_out"].long(), about


def _short(windows: Tensor) -> list[list[int]]:
    """Windows of 512 tokens or less from all of the text, for calibration."""
    length = min(512, windows.shape[1])
    chosen = torch.linspace(0, len(windows) - 1, min(_CALIBRATION_TOKENS // length, len(windows))).long()
    return [row[:length].tolist() for row in windows[chosen]]


def _write_start(checkpoint: Checkpoint, recipe: FineTuneConfig, folder: Path, device: torch.device, watch: Watch) -> None:
    """Prices of the conversion without training."""
    windows, _, _ = _load_text(folder)
    options = ConvertConfig(recipe.code, recipe.phases, recipe.first_spikes, seed=recipe.seed, code_parameters=recipe.code_parameters)
    network = convert(checkpoint, options, _short(windows), device=str(device), progress=watch.progress)
    prices = Prices.of(network.weights)
    tensors = {f"sites.{index}": price for index, price in enumerate(prices.sites)}
    tensors |= {f"queries.{index}": price for index, price in enumerate(prices.queries)}
    # A price of conversion is one of a synaptic operation.
    _save(tensors, folder / "start.safetensors", {"price": network.provenance["price"], "options": options.to_json()})


def _load_start(folder: Path) -> tuple[Prices, float, ConvertConfig]:
    """(prices, price of a synaptic operation, options)."""
    tensors, about = _load(folder / "start.safetensors")
    sites, queries = (
        tuple(tensors[f"{kind}.{index}"] for index in range(sum(name.startswith(kind) for name in tensors)))
        for kind in ("sites", "queries")
    )
    options = about["options"]
    parameters = tuple((name, value) for name, value in options.get("code_parameters", []))
    return Prices(sites, queries), about["price"], ConvertConfig(**{**options, "code_parameters": parameters})


class _Log:
    """A JSON object a line; lines after the training step that a run goes on from are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        lines = path.read_text(encoding="utf-8").splitlines() if step and path.is_file() else []
        entries = [(line, json.loads(line)) for line in lines if line.endswith("}")]
        kept = [line for line, entry in entries if entry["step"] < step or (entry["step"] == step and "loss" in entry)]
        self._losses: list[float] = [entry["loss"] for _, entry in entries if entry["step"] <= step and entry.get("loss") is not None]
        write_text(path, "".join(line + "\n" for line in kept))
        self._path = path

    def write(self, entry: dict[str, Any]) -> None:
        """Append a line."""
        # A step that diverges has no finite figures; JSON has no word for them.
        finite = {key: value if math.isfinite(value) else None for key, value in entry.items()}
        if finite.get("loss") is not None:
            self._losses.append(entry["loss"])
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite) + "\n")

    def last_loss(self) -> float | None:
        """Mean over the last hundred steps; None if there were none."""
        last = self._losses[-_LAST_STEPS:]
        return sum(last) / len(last) if last else None
