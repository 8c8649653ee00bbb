"""Spike codes of the chip's encoders."""

CHIP_CODES = ("signed-digit", "rate", "first-spike", "bit-planes")
"""Names in the order of their numbers in the encoder's register."""
