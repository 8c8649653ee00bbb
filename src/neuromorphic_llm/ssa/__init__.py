"""Spiking self-attention after NeurTransformer, and its comparison with this project's attention (docs/reference/ssa.md)."""
