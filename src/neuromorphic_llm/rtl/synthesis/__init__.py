"""Synthesis of the RTL: mapping to cells, timing, activity of the mapped netlist and its energy (docs/reference/rtl/synthesis.md)."""
