"""One-word names of the fields of a chip: parameters of the RTL package, and fields of chip files without sections."""

from collections.abc import Mapping
from types import MappingProxyType

FLAT_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "clock_hz": "clock_hz",
        "mesh_width": "mesh.width",
        "mesh_height": "mesh.height",
        "vector_period": "mesh.vector_period",
        "vector_offset": "mesh.vector_offset",
        "crossbars_per_tile": "synapse.crossbars",
        "rows": "synapse.rows",
        "columns": "synapse.columns",
        "cell_bits": "synapse.cell_bits",
        "slices": "synapse.slices",
        "active_rows": "readout.active_rows",
        "column_mux": "readout.column_mux",
        "conversion_cycles": "readout.conversion_cycles",
        "read_latency": "readout.read_latency",
        "output_latency": "synapse.output_latency",
        "gate_latency": "synapse.gate_latency",
        "argmax_lanes": "synapse.argmax_lanes",
        "max_phases": "synapse.max_phases",
        "accumulator_bits": "synapse.accumulator_bits",
        "vector_lanes": "vector.lanes",
        "vector_latency": "vector.latency",
        "norm_latency": "vector.norm_latency",
        "attention_engines": "vector.attention_engines",
        "key_lanes": "vector.key_lanes",
        "softmax_lanes": "vector.softmax_lanes",
        "attend_latency": "vector.attend_latency",
        "kv_bytes_per_engine": "vector.kv_bytes_per_engine",
        "vector_memory_bytes": "vector.memory_bytes",
        "fifo_depth": "noc.fifo_depth",
        "events_per_flit": "noc.events_per_flit",
        "flit_bits": "noc.flit_bits",
        "host_latency": "host.latency",
        "dram_latency": "host.dram_latency",
        "dram_bytes_per_cycle": "host.dram_bytes_per_cycle",
    }
)
"""One-word name -> path of the field, in the order of the package. A new field takes its place here to become a parameter of the RTL."""
