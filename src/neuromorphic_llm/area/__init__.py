"""Area of a chip and of its rivals: constants with sources, components, accounts by part (docs/reference/area.md)."""

from neuromorphic_llm.area.account import Area, area_figures, chip_area, rival_areas
from neuromorphic_llm.area.prices import load_areas

__all__ = ["Area", "area_figures", "chip_area", "load_areas", "rival_areas"]
