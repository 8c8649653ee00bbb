"""Plain cycle-stepped model of docs/reference/timing.md: every cycle steps every router and every unit from the state at its start.

Slow on purpose and written without the ideas of the fast simulation (no timers, no lists of active routers, no merged instructions).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator
from dataclasses import dataclass, field

from neuromorphic_llm.chip.program import Program, Region
from neuromorphic_llm.simulation.trace import ActivityTrace

NORTH, EAST, SOUTH, WEST, LOCAL = range(5)


def ceil(a: int, b: int) -> int:
    return -(-a // b)


@dataclass
class Flit:
    route: int
    kind: str
    last: bool = False


@dataclass
class Entry:
    flit: Flit
    pending: set[int]


@dataclass
class Oracle:
    """Results in the shape of TimingResult."""

    token_end: dict[int, int] = field(default_factory=dict)
    count: Counter[str] = field(default_factory=Counter)
    busy: Counter[int] = field(default_factory=Counter)
    wait: Counter[tuple[str, int]] = field(default_factory=Counter)
    read: Counter[int] = field(default_factory=Counter)
    stored: Counter[tuple[int, int]] = field(default_factory=Counter)  # row, region: phases that wait
    step_begin: dict[int, int] = field(default_factory=dict)
    stage_end: dict[tuple[int, int], int] = field(default_factory=dict)
    site_begin: dict[tuple[int, int], int] = field(default_factory=dict)
    site_end: dict[tuple[int, int], int] = field(default_factory=dict)


# A unit is a generator: it is resumed at the start of every cycle, yields the flit it wants to push in this cycle or None, and is sent
# back whether the flit was accepted.
Unit = Generator[Flit | None, bool, None]


class Chip:
    """The whole chip; `run` returns the results."""

    def __init__(self, program: Program, trace: ActivityTrace) -> None:
        self.program, self.trace, self.spec = program, trace, program.spec
        self.config = program.weights.config
        self.wake = program.spec.power.wake_cycles if program.spec.power.gating != "none" else 0
        self.inputs: list[list[deque[Entry]]] = [[deque() for _ in range(5)] for _ in range(self.spec.topology.tiles)]
        self.pointer = [[0] * 5 for _ in range(self.spec.topology.tiles)]
        self.result = Oracle()
        self.cycle = 0
        stages = self.config.layers + 1
        self.credits = [2] * stages  # of sender s: the host, then the stages
        self.credit_due = [0] * stages
        self.residual = [0] * stages
        self.values = [0] * stages
        self.tokens = 0
        self.returned: deque[int] = deque()  # sequences whose token has come back and is fed to the chip again
        self.regions = [region for stage in program.stages for site in stage.regions for region in site]
        self.phases_complete: list[deque[int]] = [deque() for _ in self.regions]
        self.region_at = {region.tile: n for n, region in enumerate(self.regions)}
        self.stage_at = {stage.vector_tile: n for n, stage in enumerate(program.stages)}
        self.destination: dict[int, str] = {}
        routes = program.routes
        for n in routes.spike:
            self.destination[int(n)] = "spike"
        for group in routes.value:
            for n in group:
                self.destination[int(n)] = "value"
        for n in routes.residual:
            self.destination[int(n)] = "residual"
        for n in routes.credit:
            self.destination[int(n)] = "credit"
        self.destination[routes.token] = "token"

    # routers

    def ports(self, route: int, tile: int) -> set[int]:
        mask = int(self.program.route_masks[route, tile])
        return {port for port in range(5) if mask >> port & 1}

    def neighbour(self, tile: int, port: int) -> tuple[int, int]:
        width = self.spec.mesh.width
        return {
            NORTH: (tile - width, SOUTH),
            EAST: (tile + 1, WEST),
            SOUTH: (tile + width, NORTH),
            WEST: (tile - 1, EAST),
        }[port]

    def step_routers(self, occupied: list[list[int]]) -> tuple[list[tuple[int, int, Flit]], list[tuple[int, Flit]]]:
        pushes: list[tuple[int, int, Flit]] = []
        arrivals: list[tuple[int, Flit]] = []
        for tile in range(self.spec.topology.tiles):
            heads = [fifo[0] if fifo else None for fifo in self.inputs[tile]]
            for output in range(5):
                order = [(self.pointer[tile][output] + n) % 5 for n in range(5)]
                chosen = next((i for i in order if (head := heads[i]) is not None and output in head.pending), None)
                if chosen is None:
                    continue
                head = heads[chosen]
                assert head is not None
                if output == LOCAL:
                    arrivals.append((tile, head.flit))
                else:
                    target, port = self.neighbour(tile, output)
                    if occupied[target][port] >= self.spec.noc.fifo_depth:
                        self.result.count["link_stalls"] += 1
                        continue
                    pushes.append((target, port, head.flit))
                    self.result.count["hops"] += 1
                head.pending.discard(output)
                self.pointer[tile][output] = (chosen + 1) % 5
            for fifo, head in zip(self.inputs[tile], heads, strict=True):
                if head is not None and not head.pending:
                    fifo.popleft()
        return pushes, arrivals

    # units

    def pause(self, cycles: int, stage: int | None = None) -> Unit:
        for _ in range(cycles):
            if stage is not None:
                self.result.busy[stage] += 1
            yield None

    def push(self, flits: list[Flit], stage: int | None = None) -> Unit:
        for flit in flits:
            accepted = False
            while not accepted:
                if stage is not None:
                    self.result.busy[stage] += 1
                accepted = yield flit

    def wait(self, ready: str, stage: int, need: int) -> Unit:
        counter = getattr(self, ready)
        while counter[stage] < need:
            self.result.wait[ready, stage] += 1
            yield None
        counter[stage] -= need

    def host(self) -> Unit:
        spec, config, trace = self.spec, self.config, self.trace
        for row in range(trace.tokens):
            if row >= trace.prompt_tokens:
                while not self.returned:
                    yield None
                assert self.returned.popleft() == trace.sequence[row]
            self.result.step_begin[row] = self.cycle
            fetch = spec.host.latency + spec.host.dram_latency + ceil(2 * config.hidden_size, spec.host.dram_bytes_per_cycle)
            yield from self.pause(fetch)
            yield from self.pause(self.wake - fetch)  # the vector tile of layer 0
            yield from self.wait("credits", 0, 1)
            yield from self.push([Flit(int(self.program.routes.residual[0]), "residual")] * self.flits_of(config.hidden_size))

    def flits_of(self, values: int) -> int:
        return ceil(values, self.spec.noc.flit_bits // 32)

    def passes(self, elements: int) -> int:
        return ceil(elements, self.spec.vector.lanes)

    def norm(self, elements: int) -> int:
        passes = 3 if self.spec.vector.maximum == "read" else 2
        return passes * self.passes(elements) + self.spec.vector.norm_latency

    def attend(self, row: int, layer: int) -> int:
        spec, config, trace = self.spec, self.config, self.trace
        engines = [0] * spec.vector.attention_engines
        context = int(trace.context[row])
        for head in range(config.heads):
            kv_head = head // (config.heads // config.kv_heads)
            cycles, phases = self.passes(config.head_dim), int(trace.query_phases[row, layer, head])
            cycles = cycles + phases if spec.vector.encoder == "element" else cycles * phases
            words, place = ceil(context, spec.vector.softmax_lanes), head % (config.heads // config.kv_heads)
            cycles += spec.vector.attend_latency + words  # exponentials
            if spec.vector.maximum == "read":
                cycles += words
            if place % spec.vector.head_lanes == 0:  # the probabilities of a set of heads are coded together
                cycles += words
            cycles += int(trace.score_steps[row, layer, head]) * ceil(context, spec.vector.key_lanes)
            cycles += int(trace.value_steps[row, layer, head])
            engines[kv_head % spec.vector.attention_engines] += cycles
        return max(engines)

    def encode(self, stage: int, site: int, row: int) -> Unit:
        spec, elements = self.spec, self.config.sites[site].shape[0]
        if spec.vector.maximum == "read":
            yield from self.pause(self.passes(elements), stage)
        yield from self.pause(spec.vector.latency, stage)
        phases = int(self.trace.phases[row, site])
        awake = self.result.site_begin[row, site] + self.wake
        if spec.vector.encoder == "element" or spec.readout.kind == "membrane-decay":
            yield from self.pause(self.passes(elements) + phases, stage)
            yield from self.pause(awake - self.cycle, stage)
            for phase in self.order(row, site):
                yield from self.inject(stage, site, row, phase)
            return
        scan = self.passes(elements)
        yield from self.pause(awake - scan - self.cycle, stage)
        begin = self.cycle
        scanned: list[int] = []
        injected: list[int] = []
        for phase in range(phases):
            scan_start = max(scanned[phase - 1] if phase else begin, injected[phase - 2] if phase > 1 else begin)
            scanned.append(scan_start + scan)
            while self.cycle < max(scanned[phase], injected[phase - 1] if phase else begin):
                self.result.busy[stage] += 1
                yield None
            yield from self.inject(stage, site, row, phase)
            injected.append(self.cycle)

    def order(self, row: int, site: int) -> list[int]:
        """Phases of a train in the order of their injection."""
        phases = list(range(int(self.trace.phases[row, site])))
        return phases[::-1] if self.spec.vector.encoder == "element" and self.spec.readout.kind == "membrane" else phases

    def inject(self, stage: int, site: int, row: int, phase: int) -> Unit:
        events, held = int(self.trace.events[row, site, phase].sum()), self.spec.noc.events_per_flit
        if self.spec.readout.kind == "membrane-decay":
            events, held = int(self.trace.events[row, site].sum()), min(held, self.spec.noc.flit_bits // 21)
        route = int(self.program.routes.spike[site])
        flits = [Flit(route, "spike") for _ in range(max(1, ceil(events, held)))]
        flits[-1].last = True
        yield from self.push(flits, stage)

    def result_flits(self, region: Region) -> int:
        return self.flits_of(2 if region.site == self.config.head.index else region.outputs)

    def receive_site(self, stage: int, position: int, row: int) -> Unit:
        sites = self.program.stages[stage].sites
        yield from self.wait("values", stage, sum(self.result_flits(region) for region in self.program.stages[stage].regions[position]))
        self.result.site_end[row, sites[position]] = self.cycle
        if position + 1 < len(sites):
            self.result.site_begin[row, sites[position + 1]] = self.cycle

    def receive_residual(self, stage: int, row: int) -> Unit:
        yield from self.wait("residual", stage, self.flits_of(self.config.hidden_size))
        self.credit_due[stage] += 1
        self.result.site_begin[row, self.program.stages[stage].sites[0]] = self.cycle

    def layer(self, stage: int) -> Unit:
        spec, config = self.spec, self.config
        n, query, key_value = config.hidden_size, config.heads * config.head_dim, config.kv_heads * config.head_dim
        for row in range(self.trace.tokens):
            site = 4 * stage
            yield from self.receive_residual(stage, row)
            yield from self.pause(self.norm(n), stage)
            yield from self.encode(stage, site, row)
            yield from self.receive_site(stage, 0, row)
            yield from self.pause(self.passes(query + key_value) + spec.vector.latency, stage)  # rope
            yield from self.pause(self.passes(2 * key_value) + spec.vector.latency, stage)  # kv-write
            yield from self.pause(self.attend(row, stage), stage)
            yield from self.encode(stage, site + 1, row)
            yield from self.receive_site(stage, 1, row)
            yield from self.pause(self.passes(n) + spec.vector.latency, stage)  # add
            yield from self.pause(self.norm(n), stage)
            yield from self.encode(stage, site + 2, row)
            yield from self.receive_site(stage, 2, row)
            yield from self.encode(stage, site + 3, row)
            yield from self.receive_site(stage, 3, row)
            yield from self.pause(self.passes(n) + spec.vector.latency, stage)  # add
            if stage < config.layers - 1 or self.trace.logits_wanted[row]:
                yield from self.wait("credits", stage + 1, 1)
                yield from self.push([Flit(int(self.program.routes.residual[stage + 1]), "residual")] * self.flits_of(n), stage)
            else:
                self.result.token_end[row] = self.cycle
            self.result.stage_end[row, stage] = self.cycle

    def head(self) -> Unit:
        stage = self.config.layers
        for row in range(self.trace.tokens):
            if not self.trace.logits_wanted[row]:
                continue
            yield from self.receive_residual(stage, row)
            yield from self.pause(self.norm(self.config.hidden_size), stage)
            yield from self.encode(stage, 4 * stage, row)
            yield from self.receive_site(stage, 0, row)
            yield from self.push([Flit(self.program.routes.token, "token")], stage)
            self.result.stage_end[row, stage] = self.cycle

    def groups(self, row: int, site: int, phase: int) -> int:
        """Groups of driven rows in the row block that has the most of them."""
        return max(ceil(int(block), self.spec.readout.active_rows) for block in self.trace.events[row, site, phase])

    def reads(self, row: int, site: int, region: int, phase: int) -> int:
        """Cycles of a phase whose reads are converted one by one."""
        groups, readout = self.groups(row, site, phase), self.spec.readout
        halves = int(self.trace.halves[row, region, phase]) if readout.kind == "reread" else 0
        again = halves * (readout.read_latency + readout.column_mux * readout.conversion_cycles)
        return readout.read_latency + readout.column_mux * readout.conversion_cycles * groups + again if groups else 1

    def membrane(self, row: int, site: int, phase: int) -> int:
        """Cycles of a phase on membranes (devices.md, Membrane), with three repetitions at most; the phases arrive in either order."""
        readout, phases, order = self.spec.readout, range(int(self.trace.phases[row, site])), self.order(row, site)
        converting = phase == order[-1] and any(self.groups(row, site, each) for each in phases)
        integrated = [phase]
        if order[0] != phases[-1]:  # most significant first
            integrated = list(phases) if converting else []
        if not integrated:
            return 1
        cycles = sum(readout.read_latency * self.groups(row, site, each) + 1 for each in integrated)
        return cycles + (4 * readout.column_mux * readout.conversion_cycles if converting else 0)

    def decaying(self, row: int, site: int) -> int:
        """Cycles of a stamped train (devices.md, Decay)."""
        readout, trace = self.spec.readout, self.trace.events[row, site]
        occupied = [slot for slot in range(len(trace)) if trace[slot].any()]
        if not occupied:
            return 1
        decays = len(trace) - 1 - occupied[0]
        integrations = sum(self.groups(row, site, slot) for slot in occupied)
        return 1 + decays + readout.read_latency * integrations + 4 * readout.column_mux * readout.conversion_cycles

    def phase_cycles(self, row: int, site: int, region: int, phase: int) -> int:
        """Cycles of a phase in a tile."""
        kind = self.spec.readout.kind
        if kind == "membrane-decay":
            return self.decaying(row, site)
        return self.membrane(row, site, phase) if kind == "membrane" else self.reads(row, site, region, phase)

    def synapse(self, number: int) -> Unit:
        spec, region = self.spec, self.regions[number]
        head = region.site == self.config.head.index
        stage = region.site // 4
        position = region.site - 4 * stage
        index = self.program.stages[stage].regions[position].index(region)
        route = int(self.program.routes.value[region.site][index])
        for row in range(self.trace.tokens):
            if head and not self.trace.logits_wanted[row]:
                continue
            for phase in self.order(row, region.site):
                while not self.phases_complete[number]:
                    yield None
                if self.phases_complete[number].popleft() + 1 < self.cycle:
                    self.result.stored[row, number] += 1
                cycles = self.phase_cycles(row, region.site, number, phase)
                self.result.read[number] += cycles
                yield from self.pause(cycles)
            if head:
                yield from self.pause(ceil(region.columns, spec.synapse.argmax_lanes) + spec.synapse.output_latency)
            else:
                yield from self.pause(spec.synapse.gate_latency if position == 2 else spec.synapse.output_latency)
            yield from self.push([Flit(route, "value")] * self.result_flits(region))

    def arrive(self, tile: int, flit: Flit) -> None:
        kind = self.destination[flit.route]
        assert kind == flit.kind or flit.kind == "credit"
        if kind == "spike":
            if flit.last:
                self.phases_complete[self.region_at[tile]].append(self.cycle)
        elif kind == "value":
            self.values[self.stage_at[tile]] += 1
        elif kind == "residual":
            self.residual[self.stage_at[tile]] += 1
        elif kind == "credit":
            self.credits[0 if tile == 0 else self.stage_at[tile] + 1] += 1
        else:
            row = [row for row in range(self.trace.tokens) if self.trace.logits_wanted[row]][self.tokens]
            self.tokens += 1
            self.result.token_end[row] = self.cycle + 1
            of_sequence = [other for other in range(self.trace.tokens) if self.trace.sequence[other] == self.trace.sequence[row]]
            following = [other for other in of_sequence if other > row]
            if following and following[0] >= self.trace.prompt_tokens:
                self.returned.append(int(self.trace.sequence[row]))

    def run(self) -> Oracle:
        """Step every unit and router until every row has ended and the mesh is empty."""
        # (tile, generator, stage whose credits this tile injects)
        units: list[tuple[int, Unit, int | None]] = [(0, self.host(), None)]
        for s, stage in enumerate(self.program.stages):
            units.append((stage.vector_tile, self.head() if s == self.config.layers else self.layer(s), s))
        units += [(region.tile, self.synapse(n), None) for n, region in enumerate(self.regions)]
        answers: list[bool | None] = [None] * len(units)
        stopped = [False] * len(units)
        while True:
            occupied = [[len(fifo) for fifo in tile] for tile in self.inputs]
            wishes: list[Flit | None] = []
            for n, (_, unit, _) in enumerate(units):
                wish = None
                if not stopped[n]:
                    try:
                        wish = next(unit) if answers[n] is None else unit.send(bool(answers[n]))
                    except StopIteration:
                        stopped[n] = True
                wishes.append(wish)
            if all(stopped) and not any(any(tile) for tile in occupied) and not any(self.credit_due):
                return self.result
            pushes, arrivals = self.step_routers(occupied)
            for n, (tile, _, stage) in enumerate(units):
                credit = stage is not None and self.credit_due[stage] > 0
                free = occupied[tile][LOCAL] < self.spec.noc.fifo_depth
                answers[n] = free and not credit
                flit = wishes[n]
                if stage is not None and credit:
                    flit = Flit(int(self.program.routes.credit[stage]), "credit")
                if flit is None:
                    continue
                if not free:
                    self.result.count["injection_stalls"] += 1
                    continue
                if stage is not None and credit:
                    self.credit_due[stage] -= 1
                self.result.count["flits"] += 1
                pushes.append((tile, LOCAL, flit))
            for tile, port, flit in pushes:
                self.inputs[tile][port].append(Entry(flit, self.ports(flit.route, tile)))
            for tile, flit in arrivals:
                self.arrive(tile, flit)
            self.cycle += 1
