"""Allocate: vector memory of every stage, key/value memory and the longest context, axon memories, DRAM."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from neuromorphic_llm.chip.program import kv_bytes_per_token, longest_context
from neuromorphic_llm.chip.routes import entry_bits
from neuromorphic_llm.compiler.module import Buffer, MemoryPlan, Module
from neuromorphic_llm.compiler.shortage import ShortageError
from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.graph.ir import Node

_SUGGESTED_CONTEXT = 512
"""Tokens that a chip should hold which is suggested instead of one that holds none."""

_ATTENTION_MEMORIES = ("key_value", "attention_scores", "rotary_tables")
"""Memories of vector tiles that every report states."""


@dataclass(frozen=True)
class Allocate:
    """Give every value of a stage a place in its vector memory and find how many tokens the key/value memories hold."""

    name: str = "allocate"

    def apply(self, module: Module) -> Module:
        """CompileError if a vector memory is too small, or a key/value memory does not hold a single token."""
        context = _max_context(module)
        buffers, used, needs = [], [], _stage_memories(module, context)
        for stage, own in enumerate(needs):
            fixed = _fixed_bytes(module, own)
            placed = place_buffers([node for node in module.graph.nodes if node.stage == stage], fixed)
            needed = max([fixed, *(buffer.offset + buffer.size for buffer in placed)])
            if needed > module.spec.vector.memory_bytes:
                raise ShortageError(
                    f"stage {stage} needs {needed} bytes of vector memory, chip {module.spec.name} has {module.spec.vector.memory_bytes}, "
                    "and more chips do not help; raise vector.memory_bytes",
                    {"vector.memory_bytes": needed},
                )
            buffers.append(tuple(placed))
            used.append(needed)
        memory = MemoryPlan(context, tuple(buffers), tuple(used), _sram(module, sum(needs, Counter()), sum(used)), _dram(module))
        return replace(module, memory=memory)


def place_buffers(nodes: list[Node], start: int) -> list[Buffer]:
    """First-fit places from `start` on for the values of one stage; two values overlap only if they never live together.

    Spike trains and the cache have memories of their own; the encoder consumes its input in place.
    """
    last_use = {operand: index for index, node in enumerate(nodes) for operand in node.operands}
    live: list[tuple[int, Buffer]] = []
    placed = []
    for index, node in enumerate(nodes):
        # A value read by this instruction is still live while the result is written.
        live = [(last, buffer) for last, buffer in live if last >= index]
        if node.type.kind != "i32":
            continue
        size, offset = 4 * node.type.size, start
        for _, buffer in sorted(live, key=lambda entry: entry[1].offset):
            if offset + size <= buffer.offset:
                break
            offset = max(offset, buffer.offset + buffer.size)
        buffer = Buffer(node.name, offset, size)
        placed.append(buffer)
        # A value without a user in its stage is what the stage sends on.
        live.append((last_use.get(node.name, len(nodes)), buffer))
    return placed


def _max_context(module: Module) -> int:
    spec, weights, config = module.spec, module.weights, module.weights.config
    tokens = longest_context(spec, config, len(weights.rope_cos))
    if tokens < 1:
        heads_per_engine = -(-config.kv_heads // spec.vector.attention_engines)
        context, token_bytes = min(_SUGGESTED_CONTEXT, config.max_positions), kv_bytes_per_token(config.head_dim)
        raise ShortageError(
            f"one token needs {heads_per_engine * token_bytes} bytes in a key/value memory ({heads_per_engine} heads an "
            f"engine), chip {spec.name} has {spec.vector.kv_bytes_per_engine}, and more chips do not help; raise "
            "vector.kv_bytes_per_engine or vector.attention_engines",
            {"vector.kv_bytes_per_engine": context * heads_per_engine * token_bytes},
        )
    return tokens


def _stage_memories(module: Module, context: int) -> list[Counter[str]]:
    """Bytes by memory that the instructions of every stage need for constants and state."""
    if not module.programs:
        raise CompileError("memory is planned for instructions; run schedule before allocate")
    stages = []
    for program in module.programs:
        needed = Counter[str]()
        for instruction in program:
            needed.update(instruction.memory(module.spec, context))
        stages.append(needed)
    return stages


def _fixed_bytes(module: Module, needed: Counter[str]) -> int:
    """Constants and state in the vector memory of a stage, two incoming residuals and the residual memory."""
    total = 3 * 4 * module.weights.config.hidden_size + needed["vector_memory"]
    return -(-total // 4) * 4  # buffers start on whole words


def _sram(module: Module, needed: Counter[str], vector_memory: int) -> dict[str, int]:
    """On-chip memory in use, bytes, over every tile that the program occupies."""
    spec, graph = module.spec, module.graph
    sizes = {node.name: node.type.size for node in graph.nodes}
    phases = module.weights.code.phases
    axon = accumulators = parameters = banks = 0
    for node in graph.linear_nodes():
        inputs, columns = sizes[node.operands[0]], node.integer("columns")
        # A tile can store a whole train, so an event is never held back.
        axon += len(node.integers("regions")) * -(-inputs * spec.train_bits(phases) // 8)
        accumulators += columns * -(-spec.synapse.accumulator_bits // 8)
        parameters += columns * (6 if "bias" in node.attributes else 2)
    for number in range(graph.stages):
        inputs = max(sizes[node.operands[0]] for node in graph.linear_nodes() if node.stage == number)
        banks += spec.site_encoder.banks(phases) * -(-spec.spike_bits * inputs // 8)
    return {
        "vector_memory": vector_memory,
        "event_banks": banks,
        **{memory: needed[memory] for memory in dict.fromkeys((*_ATTENTION_MEMORIES, *needed)) if memory != "vector_memory"},
        "axon": axon,
        "accumulators": accumulators,
        "output_parameters": parameters,
        "routing_tables": _routing_bytes(module),
    }


def _routing_bytes(module: Module) -> int:
    """An entry for every route at every tile that it visits."""
    if module.routes is None:
        return 0
    visited = int((module.routes.masks != 0).sum())
    return -(-visited * entry_bits(len(module.routes.routes)) // 8)


def _dram(module: Module) -> dict[str, int]:
    """DRAM in use, bytes: the embedding table. Weights live in the crossbars."""
    return {"embedding": module.weights.embedding.nbytes}
