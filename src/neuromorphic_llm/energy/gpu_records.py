"""GPU figures that were measured once and written down, for machines without a GPU."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True)
class GpuRecord:
    """Decode speed and whole-board energy of one model on one GPU."""

    model: str
    mode: str
    dtype: str
    tokens_per_s: float
    energy_j_per_token: float
    device: str
    recorded: str
    scope: str

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields, marked as recorded."""
        return {**asdict(self), "kind": "recorded"}


@cache
def load_gpu_records() -> tuple[GpuRecord, ...]:
    """Every record of gpu_records.yaml."""
    data = yaml.safe_load(files("neuromorphic_llm.energy").joinpath("gpu_records.yaml").read_text(encoding="utf-8"))
    common = {key: data[key] for key in ("device", "recorded", "scope")}
    return tuple(GpuRecord(**record, **common) for record in data["records"])


def records_for(model: str) -> tuple[GpuRecord, ...]:
    """Records of a model by name, compared without case, `-instruct` and the like: the shorter name begins the longer."""
    name = model.lower().rsplit("/", 1)[-1]
    return tuple(r for r in load_gpu_records() if name.startswith(r.model.lower()) or r.model.lower().startswith(name))
