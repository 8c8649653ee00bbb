"""Fingerprint of a checkout: every figure, tensor and file that the commands of checkout_steps.py give, leaf by leaf.

Commands run in processes of their own and are read through their --json and the artefacts of docs/reference/formats.md, nothing else, so
that checkouts whose modules differ can be compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from checkout_steps import ARTICLE, UNSAID, Step, chip_field, model_steps, package_steps, prepare_model, write_variants

Leaf = str | int | float | bool | None
Leaves = dict[str, Leaf]
Fingerprint = dict[str, Leaves]
"""Step -> leaf -> value."""

PACKAGE = "package"
"""Steps without a model are kept under this name."""

_CHIP = re.compile(r"((?:artefact|chips\[\d+\])\.spec\.)(.+)")

LONGEST = 64
"""Elements of a list that are leaves of their own; of a longer one there is a hash."""

REFUSED = "refused"
"""Leaf of a step that the checkout refused: the exit code."""


@dataclass(frozen=True)
class Checkout:
    """A work tree and the interpreter that its commands run with."""

    folder: Path
    python: str = sys.executable

    @cached_property
    def environment(self) -> dict[str, str]:
        """Environment of its processes: its own package, kernels compiled from the sources as they are, one thread."""
        # numba's cache follows the file of a kernel, not what it imports: one in the checkout may be stale.
        digest = hashlib.sha256()
        for path in sorted((self.folder / "src").rglob("*.py")):
            digest.update(f"{path} ".encode() + path.read_bytes())
        kernels = Path(tempfile.gettempdir()) / f"nmllm-kernels-{digest.hexdigest()[:16]}"
        own = {"PYTHONPATH": str(self.folder / "src"), "NUMBA_CACHE_DIR": str(kernels), "NO_COLOR": "1"}
        return {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", **os.environ, **own}

    def check(self) -> None:
        """SystemExit unless the folder is a checkout, and its package the one that is imported."""
        if not (self.folder / "src" / "neuromorphic_llm").is_dir():
            raise SystemExit(f"{self.folder} is no checkout (src/neuromorphic_llm is missing) and no fingerprint; give another folder")
        code = "import neuromorphic_llm; print(neuromorphic_llm.__file__)"
        found = subprocess.run([self.python, "-c", code], env=self.environment, capture_output=True, text=True, check=False)
        if not found.stdout.startswith(str(self.folder)):
            raise SystemExit(f"{self.python} does not import the package of {self.folder}: {found.stdout or found.stderr}")

    def commit(self) -> str:
        """Commit of the work tree, marked + if files differ from it."""
        git = ["git", "-C", str(self.folder)]
        try:
            commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
            changed = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return "unknown"
        return f"{commit}+" if changed else commit

    def nmllm(self, arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        """One command of this checkout, run in `folder`."""
        command = [self.python, "-m", "neuromorphic_llm.cli", *arguments]
        return subprocess.run(command, cwd=folder, env=self.environment, capture_output=True, text=True, check=False)


def fingerprint(checkout: Checkout, models: Sequence[str], work: Path, *, rtl: bool = False, tell: Callable[[str], None]) -> Fingerprint:
    """All steps of the package and of `models`, run in the new folder `work`; `tell` is called with every step's name."""
    recorder = Recorder(checkout, work, tell)
    for step in package_steps():
        recorder.keep(PACKAGE, step)
    chips = json.loads((recorder.folder(PACKAGE) / "chips.json").read_text(encoding="utf-8"))["chips"]
    names = [chip["name"] for chip in sorted(chips, key=lambda chip: int(chip["weights"]))]
    for model in models:
        write_variants(chips, recorder.folder(model))
        for step in model_steps(model, prepare_model(model, recorder.models), names, rtl=rtl):
            recorder.keep(model, step)
    return recorder.steps


class Recorder:
    """Runs steps of one checkout and keeps their leaves; every model has a folder in `work`."""

    def __init__(self, checkout: Checkout, work: Path, tell: Callable[[str], None]) -> None:
        self.checkout, self.work, self.tell = checkout, work, tell
        self.models = work / "models"
        self.models.mkdir(parents=True)
        self.steps: Fingerprint = {}

    def folder(self, model: str) -> Path:
        """Where the commands of a model run."""
        folder = self.work / "steps" / model
        if not folder.is_dir():
            folder.mkdir(parents=True)
            (folder / "article.txt").write_text(ARTICLE, encoding="utf-8")
        return folder

    def keep(self, model: str, step: Step) -> None:
        """Run a step, unless what it needs is not there; SystemExit if a vital one fails."""
        folder = self.folder(model)
        if step.needs and not (folder / step.needs).exists():
            return
        self.tell(f"{model}/{step.name}")
        result = folder / f"{step.name.replace('/', '.')}.json"
        output = ("--output", step.folder.partition("/")[0]) if step.folder else ()
        ran = self.checkout.nmllm([*step.arguments, *output, "--json", str(result)], folder)
        if ran.returncode and step.vital:
            raise SystemExit(f"{self.checkout.folder}: {model}/{step.name} failed: {ran.stderr.strip()}")
        leaves: Leaves = {}
        if ran.returncode:
            leaves |= {REFUSED: ran.returncode}
            self.tell(f"  exit code {ran.returncode}: {ran.stderr.strip().splitlines()[-1:]}")
        if result.is_file():
            leaves |= dict(_flat(json.loads(result.read_text(encoding="utf-8"))))
        if step.folder:
            leaves |= folder_leaves(folder / step.folder)
        places = {str(folder): "WORK", str(self.models): "MODELS", str(self.checkout.folder): "CHECKOUT"}
        self.steps[f"{model}/{step.name}"] = {path: _placed(value, places) for path, value in by_meaning(leaves).items()}


def _placed(value: Leaf, places: dict[str, str]) -> Leaf:
    """A text without the folders that differ between runs."""
    if isinstance(value, str):
        for place, name in places.items():
            value = value.replace(place, name)
    return value


def by_meaning(leaves: Leaves) -> Leaves:
    """Leaves with the fields of chips by the names that they are compared by, without those that say what chips mean without them."""
    found: Leaves = {}
    for path, value in leaves.items():
        if field := _CHIP.match(path):
            name = chip_field(field[2])
            if name not in UNSAID or value != UNSAID[name]:
                found[field[1] + name] = value
        else:
            found[path] = value
    return found


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """Leaves of a JSON value by their paths, such as `layers[0].qkv_shift`."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and 0 < len(value) <= LONGEST:
        for index, item in enumerate(value):
            yield from _flat(item, f"{path}[{index}]")
    elif isinstance(value, (dict, list)):
        yield path, f"{len(value)} elements, {_digest(json.dumps(value, sort_keys=True).encode())}"
    else:
        yield path, value


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def folder_leaves(folder: Path) -> Leaves:
    """Leaves of an artefact (JSON and tensors), or the hashes of all files of another folder."""
    if not (folder / "artefact.json").is_file():
        return {f"files.{path.name}": _digest(path.read_bytes()) for path in sorted(folder.glob("*")) if path.is_file()}
    leaves = {f"artefact.{path}": value for path, value in _flat(json.loads((folder / "artefact.json").read_text(encoding="utf-8")))}
    for name, tensor in sorted(load_file(folder / "tensors.safetensors").items()):
        leaves[f"tensors.{name}"] = f"{tensor.dtype} {list(tensor.shape)} {_digest(tensor.tobytes())}"
    return leaves
