"""The libraries that `make synth` maps to, where they are found."""

from __future__ import annotations

import os
from pathlib import Path

from neuromorphic_llm.rtl.synthesis.liberty import read_library
from neuromorphic_llm.rtl.synthesis.mapping import SynthesisTarget

IHP, GT2N = "ihp-sg13g2", "gt2n"
MACRO = "RM_IHPSG13_1P_64x64_c2_bm_bist_typ_1p20V_25C.lib"


def folder() -> Path:
    """NMLLM_PDK, or shared/pdk beside the repository."""
    return Path(os.environ.get("NMLLM_PDK") or Path(__file__).resolve().parents[4] / "shared" / "pdk")


def targets() -> list[SynthesisTarget]:
    """Those libraries that are there."""
    found = []
    path = folder() / IHP / "sg13g2_stdcell_typ_1p20V_25C.lib"
    if path.is_file():
        found.append(SynthesisTarget(IHP, path, read_library(path), 130, "sg13g2_buf_2", 6e-15, 2e-9))
    path = folder() / GT2N / "gt2_6t_w13_svt_tt_0p7v25c.lib"
    if path.is_file():
        found.append(SynthesisTarget(GT2N, path, read_library(path), 2, "gt2_6t_buf_x2_w13_svt", 1e-15, 1e-10))
    return found


def macro_area_per_bit() -> float | None:
    """um^2 a bit of the 64 x 64 SRAM macro of the 130 nm library; None without it."""
    path = folder() / IHP / MACRO
    if not path.is_file():
        return None
    macro = next(iter(read_library(path).cells.values()))
    return macro.area / (64 * 64)
