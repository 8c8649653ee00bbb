"""Widths in bits of the words that the memories of the tiles hold (docs/reference/timing.md, Counters)."""

WORD_BITS = 32
"""A value in the memories of a vector tile; a gain, a stop price, a bias."""

STORED_BITS = 8
"""An element of a key or value, and the exponent of each."""

SCORE_BITS, WEIGHT_BITS = 24, 16
"""A scaled score (z) and an unnormalised probability (u) in the memory of an attention engine."""

TABLE_BITS = 16
"""A cosine, a sine, a multiplier of an output stage."""

SPIKE_BITS = 2
"""An element in one phase, spike and sign, in an event bank or an axon memory."""

STAMP_BITS = 6
"""The slot of an event of a stamped train."""
