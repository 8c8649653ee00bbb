"""Allocation of the spike budget: how the price of a spike differs between sites and inputs (docs/reference/conversion.md)."""
