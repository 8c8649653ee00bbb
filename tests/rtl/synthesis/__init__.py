"""`make synth`: units of the RTL, their stimuli, and the energy constants beside their synthesis (docs/reference/rtl/synthesis.md)."""
