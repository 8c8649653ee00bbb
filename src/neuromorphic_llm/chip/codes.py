"""Spike codes of the chip's encoders (docs/reference/codes.md)."""

CHIP_CODES = ("signed-digit", "rate", "first-spike", "bit-planes")
"""Names in the order of their numbers in the encoder's register."""

STAMPED_CODE = "first-spike-log"
"""Code of a chip that takes stamped trains."""

MOST_SLOTS = 64
"""Slots that a stamp tells apart."""
