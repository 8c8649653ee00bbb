"""Compiled integer arithmetic of docs/reference/numerics.md: what the functional simulation on the CPU and the event simulation share."""
