"""Mutants of the RTL: what the tests of rtl/ would miss (docs/reference/rtl/verification.md, Mutants)."""
