"""The graph of an integer decoder, as numerics.md writes it down: one node per step, nothing fused."""

from __future__ import annotations

from neuromorphic_llm.graph.ir import HOST, AttributeValue, Graph, Node, ValueType
from neuromorphic_llm.reference.weights import DecoderWeights


class _Builder:
    """Appends nodes; every method returns the name of the value it defines."""

    def __init__(self, weights: DecoderWeights) -> None:
        self.weights = weights
        self.config = weights.config
        self.formats = weights.formats
        self.nodes: list[Node] = []
        self.stage = HOST

    def add(
        self, name: str, operation: str, *operands: str, fraction: int, size: int, kind: str = "i32", **attributes: AttributeValue
    ) -> str:
        shape = (size,) if kind != "cache" else (size // self.config.head_dim, self.config.head_dim)
        self.nodes.append(Node(name, ValueType(kind, fraction, shape), operation, operands, attributes, self.stage))
        return name

    def norm(self, prefix: str, source: str, gain: str) -> str:
        size = self.config.hidden_size
        normalised = self.add(f"{prefix}.normalised", "normalise", source, fraction=24, size=size)
        return self.add(f"{prefix}.norm", "gain", normalised, fraction=self.formats.norm, size=size, gain=gain)

    def linear(self, site: int, source: str, fraction_in: int, fraction: int) -> str:
        name, (_, outputs) = self.config.site_name(site), self.config.site_shape(site)
        sums = self.add(f"{name}.sums", "matmul", source, kind="acc", fraction=fraction_in, size=outputs, site=site)
        if self.weights.site(site).bias is None:
            return self.add(name, "scale", sums, fraction=fraction, size=outputs, site=site)
        scaled = self.add(f"{name}.scaled", "scale", sums, fraction=fraction, size=outputs, site=site)
        return self.add(name, "bias", scaled, fraction=fraction, size=outputs, site=site)

    def attention(self, layer: int, residual: str) -> str:
        config, formats, prefix = self.config, self.formats, f"layers.{layer}"
        queries, keys, dim = config.heads * config.head_dim, config.kv_heads * config.head_dim, config.head_dim
        fraction = formats.qkv
        normed = self.norm(f"{prefix}.attention", residual, f"{prefix}.attention_gain")
        qkv = self.linear(4 * layer, normed, formats.norm, fraction)
        q = self.add(f"{prefix}.q", "slice", qkv, fraction=fraction, size=queries, start=0)
        k = self.add(f"{prefix}.k", "slice", qkv, fraction=fraction, size=keys, start=queries)
        v = self.add(f"{prefix}.v", "slice", qkv, fraction=fraction, size=keys, start=queries + keys)
        q = self.add(f"{prefix}.q.rotated", "rope", q, fraction=fraction, size=queries, head_dim=dim, rotated=queries)
        k = self.add(f"{prefix}.k.rotated", "rope", k, fraction=fraction, size=keys, head_dim=dim, rotated=keys)
        shape = {"kv_heads": config.kv_heads, "head_dim": dim}
        if self.weights.layers[layer].key_offset is not None:
            shape["key_offset"] = 1
        cache = self.add(f"{prefix}.cache", "kv_write", k, v, kind="cache", fraction=fraction, size=keys, **shape)
        mixed = self.add(f"{prefix}.mixed", "attention", q, cache, fraction=formats.attention, size=queries, heads=config.heads)
        output = self.linear(4 * layer + 1, mixed, formats.attention, formats.residual)
        return self.add(f"{prefix}.attended", "add", residual, output, fraction=formats.residual, size=config.hidden_size)

    def feed_forward(self, layer: int, residual: str) -> str:
        config, formats, prefix = self.config, self.formats, f"layers.{layer}"
        hidden_fraction = self.weights.layers[layer].hidden_fraction
        normed = self.norm(f"{prefix}.feed_forward", residual, f"{prefix}.feed_forward_gain")
        gate_up = self.linear(4 * layer + 2, normed, formats.norm, formats.gate)
        hidden = self.add(f"{prefix}.hidden", "gate", gate_up, fraction=hidden_fraction, size=config.intermediate_size)
        down = self.linear(4 * layer + 3, hidden, hidden_fraction, formats.residual)
        return self.add(f"{prefix}.residual", "add", residual, down, fraction=formats.residual, size=config.hidden_size)


def build_graph(weights: DecoderWeights) -> Graph:
    """Graph of one token's way from its id to the next token's id; stage l is layer l, the last stage the head.

    Only of decoders that the chip has units for (chip.program.missing_units).
    """
    config, formats = weights.config, weights.formats
    builder = _Builder(weights)
    token = builder.add("token", "token", fraction=0, size=1)
    row = builder.add(
        "row",
        "embedding",
        token,
        kind="i16",
        fraction=formats.residual - formats.embedding_shift,
        size=config.hidden_size,
        vocab=config.vocab_size,
    )
    residual = builder.add("residual", "shift", row, fraction=formats.residual, size=config.hidden_size, left=formats.embedding_shift)
    for layer in range(config.layers):
        builder.stage = layer
        residual = builder.feed_forward(layer, builder.attention(layer, residual))
    builder.stage = config.layers
    normed = builder.norm("final", residual, "final_gain")
    logits = builder.linear(4 * config.layers, normed, formats.norm, formats.logit)
    result = builder.add("next", "argmax", logits, fraction=0, size=1)
    return Graph(tuple(builder.nodes), result)
