"""ChipSpec: the one source of the chip's sizes, word lengths, clocks and latencies (docs/reference/chip.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any, ClassVar

from neuromorphic_llm.chip.encoders import ENCODERS, Encoder, LevelEncoder
from neuromorphic_llm.chip.flat_names import FLAT_NAMES
from neuromorphic_llm.chip.parameter import LONGEST_SHOWN, FieldError, Section, cycles, described, parameter, refuse, shown
from neuromorphic_llm.chip.topology import MeshTopology
from neuromorphic_llm.chip.widths import SPIKE_BITS, STAMP_BITS
from neuromorphic_llm.devices.cells import DEVICES
from neuromorphic_llm.devices.readout import READOUTS, Readout, get_readout
from neuromorphic_llm.errors import CompileError, UsageError
from neuromorphic_llm.registry import nearest

LARGEST_MESH = 16384
"""Tiles of the largest mesh; route tables grow with it."""

VALUE_BITS, EVENT_BITS, STAMPED_EVENT_BITS = 32, 16, 21
"""Widths of a value and of an event in a flit (docs/reference/rtl/index.md, Flits)."""

MAGNITUDE_BITS = 7
"""Bits of a weight beside its sign (numerics.md)."""


@dataclass(frozen=True)
class MeshSpec(Section):
    """Grid of tiles, and the rule by which some of them are vector tiles."""

    title: ClassVar[str] = "mesh"

    width: int = parameter(18, "tiles in a row", "area and leakage of every tile, longer routes", unit="tiles")
    height: int = parameter(18, "rows of tiles", "area and leakage of every tile, longer routes", unit="tiles")
    vector_period: int = parameter(8, "distance of vector tiles along the snake order", "fewer vector tiles, so fewer layers", unit="tiles")
    vector_offset: int = parameter(4, "place of the first vector tile along the snake order", "nothing by itself", unit="tiles", least=0)

    def relate(self) -> None:
        """The mesh is not too large, and a vector tile lies in every period."""
        if self.width * self.height > LARGEST_MESH:
            what = f"mesh.width * mesh.height is {self.width * self.height}, the mesh holds at most {LARGEST_MESH} tiles"
            refuse(what, "mesh.width", "mesh.height")
        if self.vector_offset >= self.vector_period:
            what = f"mesh.vector_offset ({self.vector_offset}) must be below mesh.vector_period ({self.vector_period})"
            refuse(what, "mesh.vector_offset", "mesh.vector_period")


@dataclass(frozen=True)
class SynapseSpec(Section):
    """Synapse tile: crossbars that hold weights, column accumulators and the output stage."""

    title: ClassVar[str] = "synapse"

    crossbars: int = parameter(24, "crossbar macros per tile", "area", unit="macros")
    rows: int = parameter(256, "inputs per macro; a site with more has several row blocks", "area", unit="cells")
    columns: int = parameter(256, "columns per macro", "area", unit="cells")
    cell: str = parameter("generic", "device of the cells ([energy.md](energy.md))", "energy per cell read, area", choices=DEVICES)
    cell_bits: int = parameter(4, "bits per cell", "wider converters", unit="bits", most=16)
    slices: int = parameter(2, "pairs of cells per weight", "macros, reads and conversions", unit="cells", most=16)
    accumulator_bits: int = parameter(
        32, "width of a column accumulator, which bounds a network's sums", "area, energy per access, leakage", unit="bits", most=64
    )
    output_latency: int = cycles(8, "from the end of the last phase to the first value")
    gate_latency: int = cycles(12, "from the end of the last phase to the first product of a gate")
    argmax_lanes: int = parameter(16, "logits compared per cycle", "area", unit="logits")
    max_phases: int = parameter(32, "phases that a tile counts, which bounds the spike codes", "wider counters", unit="phases", most=256)

    def relate(self) -> None:
        """The slices of a weight hold its magnitude."""
        if self.cell_bits * self.slices < MAGNITUDE_BITS:
            held = f"{self.cell_bits} * {self.slices}"
            what = f"synapse.cell_bits * synapse.slices must hold the {MAGNITUDE_BITS} magnitude bits of a weight, got {held}"
            refuse(what, "synapse.cell_bits", "synapse.slices")

    def row_blocks(self, inputs: int) -> int:
        """Macros below each other that hold so many inputs."""
        return -(-inputs // self.rows)

    def usable_columns(self, per_output: int = 1) -> int:
        """Columns of a macro that outputs of `per_output` columns take: those of one output lie in one macro."""
        return max(self.columns // per_output, 1) * per_output

    def column_blocks(self, columns: int, per_output: int = 1) -> int:
        """Macros side by side that hold so many columns."""
        return -(-columns // self.usable_columns(per_output))

    def macros(self, inputs: int, columns: int, per_output: int = 1) -> int:
        """Macros that hold a matrix, its slices included."""
        return self.row_blocks(inputs) * self.slices * self.column_blocks(columns, per_output)


@dataclass(frozen=True)
class ReadoutSpec(Section):
    """Readout of a macro: converters, and the rows that are driven at once."""

    title: ClassVar[str] = "readout"

    kind: str = parameter(
        "exact", "circuit that turns column currents into integers ([devices.md](devices.md))", "its own", choices=READOUTS
    )
    active_rows: int = parameter(32, "rows driven by one read", "wider converters", unit="rows")
    column_mux: int = parameter(8, "columns per converter, taken one after another", "time; saves converters", unit="columns")
    conversion_cycles: int = parameter(1, "cycles of a conversion", "time; saves energy beyond the corner rate", unit="cycles")
    read_latency: int = cycles(2, "of a read before its first conversion")
    converter_bits: int | None = parameter(
        None,
        "converter width, sign included; null: the readout's own, with `exact` the fewest bits that make a read exact",
        "energy per conversion, area",
        unit="bits",
        most=32,
        optional=True,
    )
    repeats: int | None = parameter(
        None,
        "conversions after one that saturates at most, of a readout that repeats them; null: the readout's own",
        "time, conversions",
        unit="conversions",
        least=0,
        most=8,
        optional=True,
    )
    range_bits: int | None = parameter(
        None, "bits of a column's range, of a readout that has ranges; null: the readout's own", "area", unit="bits", most=6, optional=True
    )
    high_bits: int | None = parameter(
        None,
        "width of the converters of the highest slice, of a readout that has them; null: the readout's own",
        "energy per conversion, area; saves rereads",
        unit="bits",
        most=32,
        optional=True,
    )
    steps: int | None = parameter(
        None,
        "time slots of an octave, of a readout whose membranes decay, and of the networks that it takes; null: the readout's own",
        "time, integrations",
        unit="slots",
        most=8,
        optional=True,
    )
    joined: int | None = parameter(
        None,
        "row blocks whose charges meet before a conversion, of a readout with membranes; null: the readout's own",
        "finer steps of the converter; saves conversions",
        unit="row blocks",
        optional=True,
    )

    @property
    def mux_cycles(self) -> int:
        """Cycles in which the converters take every column once."""
        return self.column_mux * self.conversion_cycles


@dataclass(frozen=True)
class VectorSpec(Section):
    """Vector tile: residual stream, norm, rotation, encoder and attention engines with their key/value memory."""

    title: ClassVar[str] = "vector"

    lanes: int = parameter(32, "elements per cycle", "area", unit="elements")
    latency: int = cycles(4, "of the pipelines of `add`, `rope`, `kv-write` and the encoder's maximum")
    norm_latency: int = cycles(88, "of the square root and the reciprocal of a norm")
    encoder: str = parameter(
        "phase",
        "a scan of the vector for every phase, or one of every element through all phases ([timing.md](timing.md#vector-tile))",
        "`element`: area, a stage of every lane and an event bank for each phase",
        choices=ENCODERS,
    )
    maximum: str = parameter(
        "read",
        "largest magnitude of a vector: by a read of it, or taken while it is written ([timing.md](timing.md#vector-tile))",
        "`written`: area, comparisons at every writer; saves reads and time",
        choices=("read", "written"),
    )
    attention_engines: int = parameter(
        4, "engines per tile, each of which takes one key/value head at a time", "area, key/value memories", unit="engines"
    )
    key_lanes: int = parameter(64, "keys scored at once", "area", unit="keys")
    head_lanes: int = parameter(
        1, "query heads of a key/value head whose scores and values are added at once", "area, leakage, buffers of weights", unit="heads"
    )
    softmax_lanes: int = parameter(32, "scores per cycle of a softmax", "area", unit="scores")
    attend_latency: int = cycles(24, "of attention's pipeline, per query head")
    kv_bytes_per_engine: int = parameter(
        262144, "key/value memory of an engine, which bounds the context", "area, leakage, energy per access", unit="bytes", most=1 << 40
    )
    kv_bank_bytes: int | None = parameter(
        None, "bank of the key/value memory; null: one bank", "energy per access; saves area", unit="bytes", most=1 << 40, optional=True
    )
    memory_bytes: int = parameter(
        65536, "working memory of a tile, which bounds the width of a layer", "area, leakage, energy per access", unit="bytes", most=1 << 40
    )
    memory_bank_bytes: int | None = parameter(
        None,
        "bank of the tile's other memories (working memory, rotary tables, scores of an engine); null: one bank each",
        "energy per access; saves area",
        unit="bytes",
        most=1 << 40,
        optional=True,
    )


@dataclass(frozen=True)
class NocSpec(Section):
    """Network on chip: routers, links, and what a flit holds."""

    title: ClassVar[str] = "noc"

    fifo_depth: int = parameter(4, "flits per input of a router", "area", unit="flits", most=256)
    events_per_flit: int = parameter(4, "events per spike flit", "bits of a flit", unit="events")
    flit_bits: int = parameter(
        64, "payload of a flit: one value per 32 bits, one event per 16", "energy per flit, wires", unit="bits", least=VALUE_BITS
    )

    def relate(self) -> None:
        """The events of a flit fit into it."""
        if self.events_per_flit * EVENT_BITS > self.flit_bits:
            held = f"a flit of {self.flit_bits} bits (noc.flit_bits) holds {self.flit_bits // EVENT_BITS} events of {EVENT_BITS}"
            refuse(f"noc.events_per_flit is {self.events_per_flit}, and {held}", "noc.events_per_flit", "noc.flit_bits")

    @property
    def values_per_flit(self) -> int:
        """Values that a flit holds."""
        return self.flit_bits // VALUE_BITS

    def value_flits(self, values: int) -> int:
        """Flits that carry so many values of one vector."""
        return -(-values // self.values_per_flit)


@dataclass(frozen=True)
class HostSpec(Section):
    """Host tile: the embedding rows come through it from DRAM."""

    title: ClassVar[str] = "host"

    latency: int = cycles(32, "of a token's step before its embedding row is asked for")
    dram_latency: int = cycles(50, "from a request to the first bytes of a row")
    dram_bytes_per_cycle: int = parameter(16, "bytes per cycle from DRAM", "pins", unit="bytes")


@dataclass(frozen=True)
class PowerSpec(Section):
    """Power gating: tiles that are switched off while they have no work."""

    title: ClassVar[str] = "power"

    gating: str = parameter(
        "none",
        "`tiles`: vector and synapse tiles without work are off; `all`: routers too ([timing.md](timing.md#power-gating))",
        "`tiles`, `all`: energy of every wake-up; saves leakage",
        choices=("none", "tiles", "all"),
    )
    wake_cycles: int = parameter(
        64, "from the order to wake a tile until it works", "leakage; time beyond the work in front", unit="cycles", least=0
    )


_PARTS_OF: Mapping[str, str] = MappingProxyType(
    {
        "readout.active_rows": "synapse.rows",
        "readout.column_mux": "synapse.columns",
        "vector.kv_bank_bytes": "vector.kv_bytes_per_engine",
        "vector.memory_bank_bytes": "vector.memory_bytes",
    }
)
"""Field -> the field that bounds it."""

_READOUT_FIELDS = tuple(
    f"readout.{name}" for name in ("converter_bits", "repeats", "range_bits", "high_bits", "joined", "steps", "active_rows", "kind")
)
"""Fields that a readout may refuse together."""


@dataclass(frozen=True)
class ChipSpec:
    """Description of one chip. Sizes in units, latencies in clock cycles, memory in bytes."""

    name: str
    clock_hz: float = parameter(
        5.0e8,
        "frequency of the digital part; a conversion takes `readout.conversion_cycles`",
        "energy per conversion, beyond the corner rate (energy.md)",
        unit="Hz",
        most=1e12,
    )
    mesh: MeshSpec = field(default_factory=MeshSpec)
    synapse: SynapseSpec = field(default_factory=SynapseSpec)
    readout: ReadoutSpec = field(default_factory=ReadoutSpec)
    vector: VectorSpec = field(default_factory=VectorSpec)
    noc: NocSpec = field(default_factory=NocSpec)
    host: HostSpec = field(default_factory=HostSpec)
    power: PowerSpec = field(default_factory=PowerSpec)

    def __post_init__(self) -> None:
        check_field("name", self.name)
        check_field("clock_hz", self.clock_hz)
        for part, whole in _PARTS_OF.items():
            wanted, there = self.value(part), self.value(whole)
            if wanted is not None and wanted > there:
                raise FieldError(f"{part} is {wanted}, and {whole} {there}; set {part} to at most {there}, or raise {whole}", part, whole)
        try:
            _ = self.readout_circuit
        except UsageError as error:
            raise FieldError(str(error), *_READOUT_FIELDS, "synapse.cell_bits") from error

    @cached_property
    def topology(self) -> MeshTopology:
        """Places and ways of the tiles."""
        mesh = self.mesh
        return MeshTopology(mesh.width, mesh.height, mesh.vector_period, mesh.vector_offset)

    @cached_property
    def readout_circuit(self) -> Readout:
        """Definition of the readout, with the sizes of this chip (docs/reference/devices.md)."""
        names = ("repeats", "range_bits", "high_bits", "joined", "steps")
        own = {name: value for name in names if (value := getattr(self.readout, name)) is not None}
        return get_readout(
            self.readout.kind,
            **own,
            rows=self.synapse.rows,
            active_rows=self.readout.active_rows,
            cell_bits=self.synapse.cell_bits,
            slices=self.synapse.slices,
            converter_bits=self.readout.converter_bits or 0,
        )

    @property
    def encoder(self) -> Encoder:
        """Encoder of the queries, and of the sites' vectors unless their trains are stamped."""
        return ENCODERS[self.vector.encoder]

    @property
    def maximum_read(self) -> bool:
        """The largest magnitude of a vector takes a read of it."""
        return self.vector.maximum == "read"

    @property
    def maximum_lanes(self) -> int:
        """Comparators of a vector tile that take maxima while vectors are written: norm, `add`, flits, outputs and scores of engines."""
        vector = self.vector
        written = 2 * vector.lanes + self.noc.values_per_flit + vector.attention_engines * (vector.lanes + vector.key_lanes)
        return 0 if self.maximum_read else written

    @property
    def site_encoder(self) -> Encoder:
        """Encoder of the vectors of sites."""
        return LevelEncoder() if self.stamped else self.encoder

    @property
    def stamped(self) -> bool:
        """The readout takes stamped trains (docs/reference/timing.md)."""
        return self.readout_circuit.stamped

    @property
    def spike_bits(self) -> int:
        """Bits of an element in one phase of a train, in an event bank or an axon memory."""
        return SPIKE_BITS + (STAMP_BITS if self.stamped else 0)

    def train_bits(self, phases: int) -> int:
        """Bits of an input in an axon memory, for trains of at most so many phases."""
        return self.spike_bits * (1 if self.stamped else phases)

    @property
    def flit_events(self) -> int:
        """Events of a flit."""
        held = self.noc.flit_bits // STAMPED_EVENT_BITS if self.stamped else self.noc.events_per_flit
        return min(held, self.noc.events_per_flit)

    @property
    def gated(self) -> bool:
        """Tiles without work are switched off."""
        return self.power.gating != "none"

    @property
    def routers_gated(self) -> bool:
        """Routers without work are switched off."""
        return self.power.gating == "all"

    @property
    def wake_wait(self) -> int:
        """Cycles from the order to wake a tile until it works; none on a chip whose tiles are always on."""
        return self.power.wake_cycles if self.gated else 0

    @property
    def least_significant_first(self) -> bool:
        """Order of the phases that are sent: from the least significant one on if the readout takes them so and the encoder can."""
        return self.readout_circuit.least_significant_first and self.encoder.whole_train

    @property
    def passes_axons(self) -> bool:
        """A phase that a synapse tile takes at once passes its axon memory by (docs/reference/timing.md, Synapse tile)."""
        return self.least_significant_first and not self.stamped

    @property
    def converter_bits(self) -> int:
        """Converter width: `readout.converter_bits`, or that of an exact read."""
        return self.readout_circuit.converter_bits

    @property
    def route_bits(self) -> int:
        """Bits of a route: at least 512 routes, 8 for each tile if that is more, rounded up to a power of two (docs/reference/rtl)."""
        return max(9, (8 * self.topology.tiles - 1).bit_length())

    @property
    def header_bits(self) -> int:
        """Bits that a flit carries beside its `flit_bits` of payload: route, flag and tag (docs/reference/rtl/index.md)."""
        return self.route_bits + 1 + 16

    def value(self, path: str) -> Any:
        """Value of the field `path`, as in `synapse.rows`."""
        section, _, name = path.rpartition(".")
        return getattr(getattr(self, section) if section else self, name)

    def with_fields(self, changes: Mapping[str, Any]) -> ChipSpec:
        """Return the chip with other values of some fields, by path; FieldError if they are not allowed."""
        nested: dict[str, dict[str, Any]] = {}
        for path, value in changes.items():
            unknown_field(path)
            section, _, name = path.rpartition(".")
            nested.setdefault(section, {})[name] = value
        values = nested.pop("", {})
        return replace(self, **values, **{section: replace(getattr(self, section), **given) for section, given in nested.items()})

    def to_json(self) -> dict[str, Any]:
        """JSON object of the sections and their fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any], source: str = "chip specification") -> ChipSpec:
        """Inverse of to_json, also for fields without sections (FLAT_NAMES); CompileError naming `source` and a field that is not right."""
        if not isinstance(data, dict):
            raise CompileError(f"{source}: expected fields of a chip and their values, got {type(data).__name__}; give name: value pairs")
        entries = [(name, value) for name, value in data.items() if name not in SECTIONS or not isinstance(value, dict)]
        for title in SECTIONS:
            if isinstance(section := data.get(title), dict):
                entries += [(f"{title}.{name}", value) for name, value in section.items()]
        changes: dict[str, Any] = {}
        try:
            for name, value in entries:
                path = FLAT_NAMES.get(name, name)
                if path in changes:
                    raise FieldError(f"{path} is there twice, once as {name}; leave one of them out")
                changes[path] = value
            if "name" not in changes:
                raise FieldError("name is missing; give the chip a name")
            return cls(changes.pop("name")).with_fields(changes)
        except FieldError as error:
            raise CompileError(f"{source}: {error}") from error


SECTIONS: dict[str, type[Section]] = {
    section.title: section for section in (MeshSpec, SynapseSpec, ReadoutSpec, VectorSpec, NocSpec, HostSpec, PowerSpec)
}
"""Sections of a chip description by their name."""


@cache
def parameters() -> Mapping[str, Any]:
    """Every field but `name`, as dataclass fields by path."""
    top = {entry.name: entry for entry in fields(ChipSpec) if "parameter" in entry.metadata}
    return MappingProxyType(top | {f"{title}.{entry.name}": entry for title, section in SECTIONS.items() for entry in fields(section)})


def unknown_field(path: object) -> None:
    """FieldError with the nearest path if no field is called so."""
    known = ["name", *parameters()]
    if path in known:
        return
    if path in SECTIONS:
        raise FieldError(f"{path} is a section; write its fields below it, as chip/configs/nc1.yaml does")
    raise FieldError(f"unknown field {shown(str(path))}; {_advice(str(path), known)}")


def _advice(path: str, known: list[str]) -> str:
    """Advice on an unknown path: the field with the nearest name in its section, else in any."""
    section, _, own = path.rpartition(".")
    for paths in ([each for each in known if each.rpartition(".")[0] == section], known):
        names = {each.rpartition(".")[2]: each for each in paths}
        if near := nearest(own, names):
            return f"did you mean {names[near]!r}?"
    return "leave it out; docs/reference/chip.md lists all fields"


def check_field(path: str, value: Any) -> None:
    """FieldError unless the value can be that of the field, whatever the others are."""
    if path == "name":
        if type(value) is not str or not value.strip() or not value.isprintable() or len(value) > LONGEST_SHOWN:
            refuse(f"name must be text, got {shown(value)}", path)
        return
    entry = parameters()[path]
    described(entry).check(path, value, str(entry.type))
