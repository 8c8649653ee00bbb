"""A fine-tuning from checkpoint and texts to the integer network; its folder keeps what a run that was cut needs to go on.

The folder holds `run.json` (what was asked for), `text.safetensors` (windows of tokens), `start.safetensors` (prices of the conversion
that training starts from), `state.safetensors` (fine_tune.FineTuner) and `log.jsonl` (one line per step); `own-text.RANK.safetensors` while
the processes write text.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor

from neuromorphic_llm import __version__
from neuromorphic_llm.conversion.balance import converted_decoder
from neuromorphic_llm.conversion.budget import SITE_SPIKES
from neuromorphic_llm.conversion.calibrate import calibrate
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.emulation import EmulatedDecoder, Prices, check_plain, emulation_of
from neuromorphic_llm.conversion.fine_tune import FineTuner, HeldOutFigures, StepFigures, process_count, process_rank
from neuromorphic_llm.conversion.fine_tune_config import FineTuneConfig
from neuromorphic_llm.conversion.float_decoder import FloatDecoder
from neuromorphic_llm.conversion.integers import integer_decoder
from neuromorphic_llm.conversion.own_text import own_text
from neuromorphic_llm.conversion.ranges import for_readout
from neuromorphic_llm.conversion.straight_through import Surrogate
from neuromorphic_llm.conversion.trained_network import meet_spikes
from neuromorphic_llm.conversion.training_state import (
    TrainingLog,
    check_folder,
    check_number,
    check_tensors,
    damaged,
    load_tensors,
    save_tensors,
)
from neuromorphic_llm.devices.readout import Readout
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.models.text_tokens import choose_bos, plain_ids, text_prefix, token_windows
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.weights import DecoderWeights, unfit_code
from neuromorphic_llm.spikes.registry import get_code
from neuromorphic_llm.text_file import LIMITS, FileRefusedError, read_bytes, write_text

_HELD_OUT = 1 / 20
_OWN_TEXT_TIME = 1 / 4
"""Share of the text that is held out; share of the time that writing may take."""

_PIECES = 8
"""Own text goes on from an eighth of a window of the given texts."""

_TEXT_KEYS = ("checkpoint", "texts", "own_text", "window", "batch", "seconds", "seed", "bos")
"""Inputs that the text of a run depends on."""

_MADE = ("text", "start", "state")
"""Files of tensors that a run makes, in this order."""

_CALIBRATION_TOKENS = 4096
_BUDGET_TOKENS = {"cpu": 4096, "cuda": 8192}


@dataclass(frozen=True)
class Watch:
    """Callbacks that follow a run."""

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
    tolerance: float = 0.01,
    readout: Readout | None = None,
) -> SpikingNetwork | None:
    """Fine-tune a Llama or Qwen2 checkpoint on texts and on `own_tokens` tokens that it writes itself, and return the integer network.

    Goes on where an earlier run in the folder was cut. With torch.distributed initialised all processes must call it and see the same
    folder; the first one gets the network, the others None. The network's spikes lie at most twice the share `tolerance` below those of
    the recipe, with a note in its provenance from once the share on. Training takes exact sums; the network is for `readout` (None: the
    exact one), its ranges calibrated on the held-out text, so a folder whose run has ended gives networks for other readouts too. Raises
    ConversionError for another decoder, texts that are too short, a folder of another run, and a run that diverges.
    """
    watch = watch or Watch()
    canonical = converted_decoder(checkpoint).canonical
    check_plain(canonical)
    if recipe.batch % process_count():
        raise ConversionError(
            f"a batch of {recipe.batch} windows cannot be shared by {process_count()} processes; choose a multiple of them"
        )
    code = get_code(recipe.code, recipe.phases, **dict(recipe.code_parameters))
    if readout is not None and (reason := unfit_code(code, readout)):
        raise ConversionError(reason)
    surrogate = Surrogate(recipe.masked, recipe.activity)
    emulation = emulation_of(code, ConvertConfig().query_phases, surrogate, half=device.type == "cuda")
    with _nothing_left_behind(folder):
        if process_rank() == 0:
            _open(checkpoint, texts, recipe, folder, own_tokens)
        _wait()
        _make_text(checkpoint, texts, recipe, folder, own_tokens, device, watch)
    if process_rank() == 0 and not (folder / "start.safetensors").is_file():
        _write_start(checkpoint, recipe, folder, device, watch)
    _wait()
    windows, held_out, about = _load_text(folder, recipe, canonical.config)
    prices, price, options = _load_start(folder, canonical.config)
    options = options if readout is None else options.for_readout(readout)
    recipe = replace(recipe, seconds=about["training_s"])
    decoder = EmulatedDecoder(canonical, prices, emulation)
    tuner = FineTuner(checkpoint, decoder, price * decoder.weights_total, recipe, device, folder)
    tuner.load()
    log = TrainingLog(folder / "log.jsonl", tuner.step) if process_rank() == 0 else None
    dense = tuner.dense_perplexity(held_out) if log else math.nan
    if log and watch.dense:
        watch.dense(dense)
    quality = _train(tuner, windows, held_out, log, watch)
    if log is None:
        return None
    watch.tell("make the network", 0, 1)
    weights, spikes = _network_of(tuner, canonical, windows, held_out, options, tolerance)
    watch.tell("make the network", 1, 1)
    figures = {"loss": log.last_loss(), "held_out_perplexity": quality.perplexity, "dense_held_out_perplexity": dense}
    provenance = {
        **_provenance(checkpoint, tuner, options, {**figures, **{key: about[key] for key in ("texts", "text_tokens", "own_text_tokens")}}),
        "calibration_tokens": sum(map(len, _short(windows))),
        "spikes_per_activation": spikes,
    }
    if spikes < (1 - tolerance) * recipe.spikes:
        provenance["budget_note"] = f"asked for {recipe.spikes:g} {SITE_SPIKES} (reached {spikes:.3g})"
    return SpikingNetwork(weights, provenance=provenance, tokenizer_files=checkpoint.tokenizer_files)


def _provenance(checkpoint: Checkpoint, tuner: FineTuner, options: ConvertConfig, figures: dict[str, Any]) -> dict[str, Any]:
    """Provenance of the network: its model, and how it was trained."""
    recipe = tuner.recipe
    return {
        "model": checkpoint.name,
        "checkpoint_hash": checkpoint.content_hash,
        "options": replace(options, spikes=recipe.spikes).to_json(),
        "price": tuner.price / tuner.decoder.weights_total,
        "package_version": __version__,
        "fine_tuning": {
            "recipe": recipe.to_json(),
            "steps": tuner.step,
            "tokens": tuner.step * recipe.batch * recipe.window,
            "seconds": tuner.elapsed_s,
            **figures,
        },
    }


def _network_of(
    tuner: FineTuner, canonical: CanonicalDecoder, windows: Tensor, held_out: Tensor, options: ConvertConfig, tolerance: float
) -> tuple[DecoderWeights, float]:
    """_integers of the trained decoder; its state is in the folder and stays there whatever happens."""
    try:
        return _integers(canonical, tuner.decoder, windows, held_out, tuner.recipe, options, tuner.device, tolerance)
    except ConversionError as error:
        reason = str(error).partition(";")[0]  # its advice is for a conversion: this folder takes no other spikes
        raise ConversionError(
            f"after training, {reason}; the trained state stays in {tuner.folder}, a run in another state folder may train on more text "
            "(more is held out then) or for other spikes, and a larger --tolerance takes the spikes that were reached"
        ) from error


def _integers(
    canonical: CanonicalDecoder, decoder: EmulatedDecoder, windows: Tensor, held_out: Tensor, recipe: FineTuneConfig,
    options: ConvertConfig, device: torch.device, tolerance: float,
) -> tuple[DecoderWeights, float]:  # fmt: skip
    """Integer weights of the trained decoder, its ranges calibrated anew, and their spikes per activation on the held-out text."""
    trained = CanonicalDecoder(canonical.config, {**canonical.tensors, **decoder.tensors()})
    calibration = calibrate(FloatDecoder(trained, device=device), _short(windows), seed=recipe.seed)
    code = get_code(options.code, options.phases, **dict(options.code_parameters))
    integers = integer_decoder(trained.config, trained.tensors, calibration, options, code)
    budget = held_out.view(-1)[: _BUDGET_TOKENS[device.type]].split(recipe.window)  # type: ignore[no-untyped-call]
    tokens = [window.tolist() for window in budget]
    weights, spikes = meet_spikes(integers, decoder.prices(), recipe.spikes, tokens, str(device), tolerance)
    return for_readout(weights, options, tokens, str(device)), spikes


def _train(tuner: FineTuner, windows: Tensor, held_out: Tensor, log: TrainingLog | None, watch: Watch) -> HeldOutFigures:
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


@contextmanager
def _nothing_left_behind(folder: Path) -> Iterator[None]:
    """Remove what was asked for, and the folders that are new, if no text comes of it."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    asked = folder / "run.json"
    before = asked.exists()
    _wait()  # until all processes have looked
    try:
        yield
    except BaseException:
        if process_rank() == 0 and not before and not any((folder / f"{name}.safetensors").is_file() for name in _MADE):
            for path in (asked, *folder.glob("own-text.*")) if asked.is_file() else ():
                path.unlink(missing_ok=True)
            for path in new:
                with suppress(OSError):
                    path.rmdir()
        raise


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
    path, anew = folder / "run.json", f"remove {folder} to begin anew"
    made = [name for name in _MADE if (folder / f"{name}.safetensors").is_file()]
    if made and not path.is_file():
        raise ConversionError(f"{path} is missing, which says what {made[0]}.safetensors beside it was made for; {anew}")
    check_folder(folder, "run.json", "--state")
    try:
        before = json.loads(read_bytes(path, LIMITS["json"])) if path.is_file() else {}
    except (ValueError, RecursionError, FileRefusedError) as error:
        raise damaged(path, error, anew) from error
    if isinstance(before, dict) and before:
        before.setdefault("bos", "auto")  # runs made before there was a choice
    if path.is_file() and not (isinstance(before, dict) and set(_TEXT_KEYS) <= set(before)):
        raise damaged(path, "it does not say what a fine-tuning was asked for", anew)
    fixed = set(asked) if set(made) - {"text"} else set(_TEXT_KEYS) if made else set()
    changed = [name for name in asked if name in fixed and before.get(name) != asked[name]]
    if changed:
        raise ConversionError(f"{folder} is of a run with another {', '.join(changed)}; give the same, or another folder")
    if before != asked:
        write_text(path, json.dumps(asked, indent=1) + "\n")


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
    tokenizer = choose_bos(checkpoint.tokenizer(), recipe.bos)
    windows, held_out = text_windows(tokenizer, texts, recipe.window, recipe.batch)
    parts = [folder / f"own-text.{rank}.safetensors" for rank in range(process_count() if own_tokens else 0)]
    if parts:
        limit = {} if recipe.seconds is None else {"seconds": recipe.seconds * _OWN_TEXT_TIME}
        start = max(1, recipe.window // _PIECES)
        starts = _starts(windows, start, text_prefix(tokenizer))
        written = own_text(
            checkpoint.canonical, starts, math.ceil(own_tokens / len(parts)), length=recipe.window, device=device,
            seed=recipe.seed + process_rank(), **limit,
            progress=lambda done, total: watch.tell("write own text, tokens", done * len(parts), total * len(parts)),
        )  # fmt: skip
        save_tensors(parts[process_rank()], {"windows": written.int()}, {})
    _wait()
    if process_rank() == 0:
        own = [load_tensors(part)[0]["windows"] for part in parts]
        spent = time.monotonic() - begin
        about = {
            "texts": [hashlib.sha256(text.encode()).hexdigest() for text in texts],
            "text_tokens": windows.numel(),
            "own_text_tokens": sum(part.numel() for part in own),
            "training_s": None if recipe.seconds is None else max(recipe.seconds - spent, recipe.seconds / 2),
        }
        save_tensors(folder / "text.safetensors", {"windows": torch.cat([windows.int(), *own]), "held_out": held_out.int()}, about)
        for part in parts:
            part.unlink()


def _starts(windows: Tensor, start: int, prefix: Sequence[int]) -> Tensor:
    """Pieces of windows int64 [n, window] that own text begins with, [m, start], each with the prefix that the windows have."""
    first = len(prefix)
    if not first:
        return windows[:, : windows.shape[1] // start * start].reshape(-1, start)
    length = max(start - first, 1)
    pieces = windows[:, first : first + (windows.shape[1] - first) // length * length].reshape(-1, length)
    return torch.cat([torch.tensor(prefix, dtype=windows.dtype).expand(len(pieces), first), pieces], dim=1)


def text_windows(tokenizer: Any, texts: Sequence[str], window: int, held_out: int) -> tuple[Tensor, Tensor]:
    """(windows to train on, at most `held_out` windows of the ends of the texts), int64 [n, window], each begun as a text is.

    Raises ConversionError if the texts do not fill two windows.
    """
    kept: list[Tensor] = []
    apart: list[Tensor] = []
    for text in texts:
        whole = [part for part in token_windows(plain_ids(tokenizer, text), window, text_prefix(tokenizer)) if len(part) == window]
        windows = torch.tensor(whole, dtype=torch.int64).view(-1, window)
        last = max(1, round(len(windows) * _HELD_OUT))
        kept.append(windows[:-last])
        apart.append(windows[-last:])
    train, rest = torch.cat(kept), torch.cat(apart)
    if len(train) == 0:
        raise ConversionError(f"the texts do not fill two windows of {window} tokens; give longer ones with --text, or a shorter window")
    return train, rest[torch.linspace(0, len(rest) - 1, min(held_out, len(rest))).round().long()]


def _load_text(folder: Path, recipe: FineTuneConfig, config: DecoderConfig) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """(windows to train on, windows held out, what is known of them); ConversionError unless they are token ids of the model."""
    path, advice = folder / "text.safetensors", f"remove {folder} to begin anew"
    tensors, about = load_tensors(path, advice=advice)
    try:
        for name in ("windows", "held_out"):
            if name not in tensors:
                raise ValueError(f"it lacks {name}")
            ids = tensors[name]
            if ids.dtype not in (torch.int32, torch.int64) or ids.ndim != 2 or ids.shape[1] != recipe.window or len(ids) == 0:
                raise ValueError(f"{name} are no windows of {recipe.window} tokens")
            if not 0 <= int(ids.min()) <= int(ids.max()) < config.vocab_size:
                raise ValueError(f"{name} have tokens outside the vocabulary of {config.vocab_size}")
        for name in ("text_tokens", "own_text_tokens", *(["training_s"] if recipe.seconds is not None else [])):
            check_number(about, name)
        if "texts" not in about or (about.get("training_s") is None) != (recipe.seconds is None) or about.get("training_s") == 0:
            raise ValueError("it lacks what was noted of the texts or of the time")
    except ValueError as error:
        raise damaged(path, error, advice) from error
    return tensors["windows"].long(), tensors["held_out"].long(), about


def _short(windows: Tensor) -> list[list[int]]:
    """Windows of 512 tokens or less from all of the text, for calibration."""
    length = min(512, windows.shape[1])
    chosen = torch.linspace(0, len(windows) - 1, min(_CALIBRATION_TOKENS // length, len(windows))).long()
    return [row[:length].tolist() for row in windows[chosen]]


def _write_start(checkpoint: Checkpoint, recipe: FineTuneConfig, folder: Path, device: torch.device, watch: Watch) -> None:
    """Prices of the conversion without training."""
    windows, _, _ = _load_text(folder, recipe, checkpoint.canonical.config)
    options = ConvertConfig(
        code=recipe.code, code_parameters=recipe.code_parameters, phases=recipe.phases, spikes=recipe.first_spikes, seed=recipe.seed
    )
    try:
        network = convert(checkpoint, options, _short(windows), device=str(device), progress=watch.progress)
    except ConversionError as error:
        raise ConversionError(
            f"the conversion before training at {recipe.first_spikes:g} spikes per activation: {error} ({folder} keeps the text, and takes "
            "other spikes and start spikes)"
        ) from error
    prices = Prices.of(network.weights)
    tensors = {f"sites.{index}": price for index, price in enumerate(prices.sites)}
    tensors |= {f"queries.{index}": price for index, price in enumerate(prices.queries)}
    # A price of conversion is one of a synaptic operation.
    save_tensors(folder / "start.safetensors", tensors, {"price": network.provenance["price"], "options": options.to_json()})


def _load_start(folder: Path, config: DecoderConfig) -> tuple[Prices, float, ConvertConfig]:
    """(prices, price of a synaptic operation, options); ConversionError unless they are of the model."""
    path, advice = folder / "start.safetensors", "remove it, and it is made anew"
    tensors, about = load_tensors(path, advice=advice)
    shapes: dict[str, tuple[int, ...]] = {f"sites.{site.index}": (site.inputs,) for site in config.sites}
    shapes |= {f"queries.{layer}": (config.heads, config.head_dim) for layer in range(config.layers)}
    try:
        check_tensors(tensors, shapes)
        price, options = check_number(about, "price"), about.get("options")
        if not isinstance(options, dict):
            raise ValueError("it lacks its options")
        parameters = tuple((name, value) for name, value in options.get("code_parameters", []))
        found = ConvertConfig(**{**options, "code_parameters": parameters})
    except (TypeError, ValueError) as error:
        raise damaged(path, error, advice) from error
    sites, queries = (tuple(tensors[name] for name in shapes if name.startswith(kind)) for kind in ("sites", "queries"))
    return Prices(sites, queries), price, found
