"""Parts of a network that spike."""

PARTS = ("all", "feed-forward", "attention")
