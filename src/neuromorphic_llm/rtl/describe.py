"""Events of the chip in words: units, flits and their fields (docs/reference/rtl/verification.md, Lockstep)."""

from __future__ import annotations

from collections.abc import Sequence

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.routes import Route, routes_of
from neuromorphic_llm.chip.topology import HOST_TILE

_HALF = 1 << 32


class Describer:
    """Names of what a program puts on the chip."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._config = program.weights.config
        self._routes = routes_of(program.stages, self._config)
        self._stage = {stage.vector_tile: number for number, stage in enumerate(program.stages)}
        sites = [(site, regions) for stage in program.stages for site, regions in zip(stage.sites, stage.regions, strict=True)]
        self._region = {region.tile: (site, number) for site, regions in sites for number, region in enumerate(regions)}

    def unit(self, tile: int, engine: int) -> str:
        """Name of a tile with its purpose in the program."""
        if tile == HOST_TILE:
            return "host tile"
        if tile in self._region:
            site, number = self._region[tile]
            return f"synapse tile of {self._config.sites[site].name}, region {number}"
        if tile not in self._stage:
            return "unused tile"
        name = "head" if self._stage[tile] == self._config.layers else f"layer {self._stage[tile]}"
        return f"vector tile of {name}" + (f", attention engine {engine}" if engine >= 0 else "")

    def place(self, tile: int, signal: str, words: Sequence[int], index: int) -> tuple[int | None, str | None]:
        """Layer and crossbar site that an event belongs to, None where there is none; `index` counts events of the signal."""
        site: int | None = None
        if signal in ("inject", "arrive"):
            return self._route_place(words[0] >> 17 & (1 << 15) - 1)
        if tile in self._region:
            site = self._region[tile][0]
        elif signal == "residual":
            # Every block of a layer adds to the residual stream what its last site gives.
            blocks = self._config.layer_blocks(self._stage[tile])
            block = blocks[index // self._config.hidden_size % len(blocks)]
            site = self._config.site(block.sites(self._config)[-1].name).index
        elif tile in self._stage:
            layer = self._stage[tile]
            return (layer if layer < self._config.layers else None), None
        if site is None:
            return None, None
        return self._layer(site), self._config.sites[site].name

    def event(self, engine: int, signal: str, words: Sequence[int]) -> str:
        """The fields of an event."""
        first, second, third, fourth = words
        if signal in ("inject", "arrive"):
            return self._flit(first, second % _HALF, third % _HALF)
        if signal == "accumulator":
            return f"column {first} = {second}"
        if signal == "residual":
            return f"element {first} = {second}"
        if signal == "token":
            return f"token {first} of sequence {second}"
        if signal == "instructions_done":
            return "end of a token's instructions"
        group = self._config.heads // self._config.kv_heads
        head = ((first >> 16) * self._program.spec.vector.attention_engines + engine) * group + (first & 0xFFFF)
        if signal == "query_spike":
            return f"head {head}, phase {second}, element {third}, {'-' if fourth else '+'}"
        if signal == "score":
            return f"head {head}, key {second}, z = {third}"
        if signal == "probability_spike":
            return f"head {head}, key {second}, k = {third}, {'-' if fourth else '+'}"
        return f"head {head}, element {second}, sum = {third}"

    def _layer(self, site: int) -> int | None:
        stage = self._config.sites[site].stage
        return stage if stage < self._config.layers else None

    def _route(self, number: int) -> Route | None:
        return self._routes[number] if number < len(self._routes) else None

    def _route_place(self, number: int) -> tuple[int | None, str | None]:
        route = self._route(number)
        if route is None:
            return None, None
        if route.kind in ("residual", "credit"):
            stage = int(route.label)
            return (stage if stage < self._config.layers else None), None
        names = [site.name for site in self._config.sites]
        name = route.label if route.kind == "spike" else route.label.rsplit(".", 1)[0] if route.kind == "value" else names[-1]
        return self._layer(names.index(name)), name

    def _flit(self, header: int, low: int, high: int) -> str:
        route, flag, tag = self._route(header >> 17 & (1 << 15) - 1), header >> 16 & 1, header & 0xFFFF
        if route is None:
            return f"flit of unknown route {header >> 17 & (1 << 15) - 1}, flag {flag}, tag {tag:#06x}, payload {high:08x}{low:08x}"
        if route.kind == "spike":
            events = [word >> shift & 0xFFFF for word in (low, high) for shift in (0, 16)]
            inputs = " ".join(f"{'-' if event >> 14 & 1 else '+'}{event & 0x3FFF}" for event in events if event >> 15) or "none"
            last = ", last of its phase" if flag else ""
            return f"spikes of {route.label}: {inputs}; k_min {tag & 31}{last}{', the last' if tag >> 5 & 1 else ''}"
        values = [word - _HALF if word >> 31 else word for word in (low, high)]
        if route.kind == "value" and route.label.rsplit(".", 1)[0] == self._config.head.name:
            return f"result of {route.label}: largest logit {values[0]} of token {high}, region {tag}"
        if route.kind == "value":
            return f"values of {route.label}: element {tag} = {values[0]}" + ("" if flag else f", {tag + 1} = {values[1]}")
        if route.kind == "residual":
            wanted = ", logits wanted" if tag >> 15 else ""
            return (
                f"residual of stage {route.label}: {values[0]}" + ("" if flag else f", {values[1]}") + f"; sequence {tag & 0x7FFF}{wanted}"
            )
        if route.kind == "credit":
            return f"credit of stage {route.label}"
        return f"token {low} of sequence {tag}"
