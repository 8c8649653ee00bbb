"""Schedule: the vector tiles' instruction lists, in the order of the graph (timing.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.graph.ir import Node


@dataclass(frozen=True)
class Schedule:
    """One program per stage: receive the residual, one instruction per vector operation, send the result on."""

    name: str = "schedule"

    def apply(self, module: Module) -> Module:
        """CompileError for a node that no unit of the chip executes."""
        hidden, last = module.weights.config.hidden_size, module.graph.stages - 1
        programs = []
        for stage in range(module.graph.stages):
            nodes = [node for node in module.graph.nodes if node.stage == stage]
            body = [_instruction(node, module) for node in nodes]
            programs.append((f"receive residual {hidden}", *body, "send-token" if stage == last else f"send {hidden}"))
        return replace(module, programs=tuple(programs))


def _instruction(node: Node, module: Module) -> str:
    if node.operation in ("encode", "linear"):
        site = str(node.attributes["site"]).rpartition(".")[2]
        if node.operation == "encode":
            return f"encode {site} {node.type.size}"
        # Each region of the head sends its largest logit and the index of it.
        values = 2 * len(node.integers("regions")) if node.attributes.get("epilogue") == "argmax" else node.type.size
        return f"receive {site} {values}"
    if node.operation == "rope":
        return f"rope {node.integer('rotated')}"
    if node.operation == "kv_write":
        return f"kv-write {2 * node.type.size}" + (" offset" if "key_offset" in node.attributes else "")
    if node.operation == "attention":
        return "attend"
    if node.operation in ("norm", "add"):
        return f"{node.operation} {node.type.size}"
    raise CompileError(f"%{node.name} = {node.operation} has no unit that executes it on chip {module.spec.name}; was it folded?")
