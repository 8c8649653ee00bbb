"""Compensation of errors without training (docs/reference/conversion.md): changes of the decoder, corrections of its integers."""
