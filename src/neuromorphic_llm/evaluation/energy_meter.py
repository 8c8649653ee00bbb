"""Measured energy of this machine: NVML for a GPU board, RAPL for a processor package, or the reason why neither."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import torch

RAPL = Path("/sys/class/powercap/intel-rapl:0")


class EnergyMeter:
    """Context: after it, `joules` is the energy of the board or package, idle included, or None with `reason`."""

    def __init__(self, device: torch.device, rapl: Path = RAPL) -> None:
        self._device = device
        self._rapl = rapl
        self.joules: float | None = None
        self.reason: str | None = None
        self.scope = "whole GPU board, idle included" if device.type == "cuda" else "processor package (RAPL), idle included"

    def __enter__(self) -> Self:
        self._start = self._read()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        end = self._read()
        if error is None and self._start is not None and end is not None:
            spent = end - self._start
            self.joules = spent if spent >= 0 else spent + int((self._rapl / "max_energy_range_uj").read_text()) * 1e-6

    def _read(self) -> float | None:
        """The running energy counter in J, or None and a reason."""
        return self._read_nvml() if self._device.type == "cuda" else self._read_rapl()

    def _read_rapl(self) -> float | None:
        try:
            return int((self._rapl / "energy_uj").read_text()) * 1e-6
        except (OSError, ValueError):
            self.reason = "not measurable here: no GPU is used and the processor's energy counter (RAPL) is absent or not readable"
            return None

    def _read_nvml(self) -> float | None:
        import pynvml

        torch.cuda.synchronize(self._device)
        try:
            pynvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(self._device).uuid}"
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(uuid))) * 1e-3
        except pynvml.NVMLError as error:
            self.reason = f"not measurable here: NVML gives no energy counter ({error})"
            return None
