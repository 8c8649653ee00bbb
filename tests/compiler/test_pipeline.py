"""The whole compiler on random shapes and chips, and its errors."""

import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program, Region
from neuromorphic_llm.chip.program_io import load_program, save_program
from neuromorphic_llm.chip.routes import wire_hops
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.compiler.partition import split_evenly
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.compiler.place import Place
from neuromorphic_llm.compiler.route import list_routes, verify_routes
from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.graph.text import print_graph
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, SMOLLM2_135M, random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights

NANO = load_spec("nano")


@st.composite
def configs(draw: st.DrawFn) -> DecoderConfig:
    kv_heads = draw(st.integers(1, 3))
    return DecoderConfig(
        vocab_size=draw(st.integers(2, 300)),
        hidden_size=draw(st.integers(1, 100)),
        intermediate_size=draw(st.integers(1, 150)),
        layers=draw(st.integers(1, 3)),
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_dim=2 * draw(st.integers(1, 6)),
        max_positions=draw(st.integers(1, 40)),
        rms_norm_eps=1e-5,
        rope_theta=1e4,
        tie_embeddings=False,
    )


specs = st.fixed_dictionaries(
    {
        "mesh.width": st.integers(5, 13),
        "mesh.height": st.integers(5, 13),
        "mesh.vector_period": st.integers(3, 12),
        "mesh.vector_offset": st.integers(0, 2),
        "synapse.crossbars": st.integers(4, 20),
        "synapse.rows": st.integers(16, 64),
        "synapse.columns": st.integers(2, 64),
    }
).map(NANO.with_fields({"readout.column_mux": 2}).with_fields)


@settings(max_examples=40, deadline=None)
@given(configs(), specs, st.integers(0, 3))
def test_any_network_is_placed_once_or_refused(config: DecoderConfig, spec: ChipSpec, seed: int) -> None:
    weights = random_decoder(seed, config=config)
    try:
        program = compile_network(weights, spec, seed=seed)
    except CompileError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert not refusal or ("chips" in refusal and "\n" not in refusal)
    assume(not refusal)
    _check_placement(program)
    _check_routes(program)
    for site in range(len(config.sites)):
        np.testing.assert_array_equal(program.weights_t[site], weights.site(site).weight.T)
        assert program.weights_t[site].flags.c_contiguous
    with tempfile.TemporaryDirectory() as folder:
        save_program(program, Path(folder) / "program")
        loaded = load_program(Path(folder) / "program")
    assert loaded.stages == program.stages
    np.testing.assert_array_equal(loaded.route_masks, program.route_masks)


def _check_placement(program: Program) -> None:
    """Every output column on one tile, every tile of the right kind used once and within its crossbars."""
    spec, config = program.spec, program.weights.config
    tiles = [stage.vector_tile for stage in program.stages]
    assert set(tiles) <= set(spec.topology.vector_tiles())
    crossbars = 0
    for stage in program.stages:
        for site, regions in zip(stage.sites, stage.regions, strict=True):
            pair = 2 if site % 4 == 2 and site != config.head.index else 1
            columns: list[int] = []
            for region in regions:
                assert region.columns == pair * region.outputs > 0
                columns += range(pair * region.first_output, pair * region.first_output + region.columns)
                used = _crossbars(region, pair, program)
                assert used <= spec.synapse.crossbars
                crossbars += used
                tiles.append(region.tile)
                assert region.tile in spec.topology.synapse_tiles()
            assert columns == list(range(config.sites[site].shape[1]))
    assert len(set(tiles)) == len(tiles)
    assert program.report["tiles"] == len(tiles) + 1
    assert program.report["crossbars"] == crossbars
    assert 0 < program.report["utilisation"] <= 1


def _crossbars(region: Region, pair: int, program: Program) -> int:
    block = program.spec.synapse.columns // pair * pair
    return program.row_blocks(region.site) * program.spec.synapse.slices * -(-region.columns // block)


def _check_routes(program: Program) -> None:
    """Routes by name reach exactly the tiles they are for, over shortest ways."""
    routes, stages = program.routes, program.stages
    for stage in stages:
        for site, regions in zip(stage.sites, stage.regions, strict=True):
            assert _arrivals(program, int(routes.spike[site])) == (stage.vector_tile, {region.tile for region in regions})
            for region, route in zip(regions, routes.value[site], strict=True):
                assert _arrivals(program, int(route)) == (region.tile, {stage.vector_tile})
    chain = [0, *(stage.vector_tile for stage in stages)]
    for number in range(len(stages)):
        assert _arrivals(program, int(routes.residual[number])) == (chain[number], {chain[number + 1]})
        assert _arrivals(program, int(routes.credit[number])) == (chain[number + 1], {chain[number]})
    assert _arrivals(program, routes.token) == (chain[-1], {0})
    for region, route in zip(stages[-1].regions[0], routes.logits, strict=True):
        assert _arrivals(program, int(route)) == (region.tile, {0})
    assert len(program.route_masks) == routes.logits[-1] + 1


def _arrivals(program: Program, route: int) -> tuple[int, set[int]]:
    """Source and receiving tiles of a route, one copy of a flit followed link by link."""
    width, mask, source = program.spec.mesh.width, program.route_masks[route], int(program.route_sources[route])
    arrived: list[int] = []
    flits, hops = [source], 0
    while flits:
        arrived += [tile for tile in flits if mask[tile] & 16]
        for tile in arrived:
            distance = abs(tile % width - source % width) + abs(tile // width - source // width)
            assert hops >= distance
            assert hops == distance or tile not in flits
        steps = ((1, -width), (2, 1), (4, width), (8, -1))
        flits = [tile + step for tile in flits for port, step in steps if mask[tile] & port]
        assert len(set(flits)) == len(flits)
        hops += 1
    assert len(set(arrived)) == len(arrived)
    return source, set(arrived)


@given(st.integers(1, 500), st.integers(1, 40), st.integers(1, 6), st.integers(1, 6))
def test_shares_fit_are_of_whole_flits_and_level(outputs: int, block: int, blocks_per_tile: int, values: int) -> None:
    assume(block * blocks_per_tile >= values)
    shares = split_evenly(outputs, block, blocks_per_tile, values)
    assert sum(shares) == outputs
    assert min(shares) > 0
    assert not any(share % values for share in shares[:-1])
    assert max(shares) <= block * blocks_per_tile
    if block % values == 0:
        blocks = math.ceil(outputs / block)
        assert len(shares) == math.ceil(blocks / blocks_per_tile)
        assert sum(math.ceil(share / block) for share in shares) == blocks
    tile = block * blocks_per_tile
    assert len(shares) == (1 if outputs <= tile else math.ceil(outputs / (tile // values * values)))


@given(st.integers(0, 23), st.sets(st.integers(0, 23), min_size=1, max_size=12))
def test_tree_links_count_the_links_of_the_route(source: int, destinations: set[int]) -> None:
    tiles = sorted(destinations)
    mask = NANO.topology.tree_mask(source, tiles)
    assert NANO.topology.tree_links(source, tiles) == wire_hops(mask[np.newaxis])[0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda mask: mask * 0, "reaches tiles [], expected [2]"),
        (lambda mask: mask | np.uint8(16), "reaches tiles [2, 3], expected [2]"),
        (lambda mask: np.where(np.arange(24) == 2, 2, mask).astype(np.uint8), "comes to tile"),
        (lambda mask: np.where(np.arange(24) == 20, 1, mask).astype(np.uint8), "ports set on tiles that it never visits"),
        (lambda mask: np.where(np.arange(24) == 2, 17, mask).astype(np.uint8), "leaves the mesh"),
    ],
)
def test_verify_routes(damage: object, message: str) -> None:
    module = _placed_module()
    routes = list_routes(module)[:1]
    routes = [replace(routes[0], source=3, destinations=(2,))]
    mask = NANO.topology.tree_mask(3, (2,))
    verify_routes(routes, mask[np.newaxis], NANO.topology)
    damaged: NDArray[np.uint8] = damage(mask)  # type: ignore[operator]
    with pytest.raises(CompileError) as error:
        verify_routes(routes, damaged[np.newaxis], NANO.topology)
    assert message in str(error.value)


def _placed_module() -> Module:
    modules: list[Module] = []
    compile_network(random_decoder(0), NANO, observer=lambda _name, module, _s: modules.append(module) if module else None)
    return modules[-1]


def test_placement_improves_on_the_snake_order() -> None:
    """Fewer wire hops than without swaps, the same for the same seed."""
    module = _placed_module()
    assert print_graph(Place(seed=0).apply(module).graph) == print_graph(module.graph)

    def hops(swaps: int) -> int:
        placed = Place(seed=0, swaps=swaps).apply(module)
        masks = np.stack([NANO.topology.tree_mask(route.source, route.destinations) for route in list_routes(placed)])
        return int(wire_hops(masks).sum())

    assert hops(60) <= hops(0)


def test_network_brings_its_hash_and_tokenizer_saved_or_not(tmp_path: Path) -> None:
    network = SpikingNetwork(random_decoder(0), tokenizer_files={"tokenizer.json": b"{}"})
    fresh = compile_network(network, NANO)
    content_hash = network.save(tmp_path / "network")
    loaded = compile_network(SpikingNetwork.load(tmp_path / "network"), NANO)
    assert fresh.network_hash == loaded.network_hash == content_hash
    assert fresh.tokenizer_files == loaded.tokenizer_files == {"tokenizer.json": b"{}"}
    other = compile_network(network, NANO, network_hash="own", tokenizer_files={})
    assert (other.network_hash, other.tokenizer_files) == ("own", {})


def _refused(weights: DecoderWeights, spec: ChipSpec) -> str:
    with pytest.raises(CompileError) as error:
        compile_network(weights, spec)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_too_few_tiles_says_what_is_missing_and_how_many_chips() -> None:
    weights = random_decoder(0, config=replace(SMALL_CONFIG, vocab_size=4000, layers=9))
    message = _refused(weights, NANO)
    # 4,000 columns at 512 per tile (8 column blocks) and 36 sites of one tile
    assert "needs 44 synapse tiles (the chip has 18) and 10 vector tiles (the chip has 5); 3 such chips" in message
    message = _refused(weights, NANO.with_fields({"mesh.height": 2}))
    assert "needs 44 synapse tiles (the chip has 9) and 10 vector tiles (the chip has 2); 5 such chips" in message
    assert "several is not offered" in message


def test_tiles_of_a_single_output() -> None:
    message = _refused(random_decoder(0), NANO.with_fields({"synapse.columns": 2, "synapse.crossbars": 2, "readout.column_mux": 2}))
    assert "layers.0.gate_up has 48 outputs and a tile of chip nano holds 1 of them" in message


def test_no_tiles_of_a_kind() -> None:
    assert "needs both kinds" in _refused(random_decoder(0), NANO.with_fields({"mesh.vector_period": 100, "mesh.vector_offset": 99}))


def test_too_many_inputs_for_a_tile() -> None:
    message = _refused(random_decoder(0, config=replace(SMALL_CONFIG, intermediate_size=600)), NANO)
    assert "layers.0.down has too many inputs for chip nano: one column needs 20 crossbars (10 row blocks x 2 slices)" in message


def test_memories_too_small() -> None:
    assert "key/value memory" in _refused(random_decoder(0), NANO.with_fields({"vector.kv_bytes_per_engine": 16}))
    assert "vector memory" in _refused(random_decoder(0), NANO.with_fields({"vector.memory_bytes": 100}))


def test_context_is_what_the_key_value_memory_holds() -> None:
    # 2 heads on 2 engines, 17 bytes per token each
    assert compile_network(random_decoder(0), NANO.with_fields({"vector.kv_bytes_per_engine": 17 * 5 + 16})).max_context == 5
    assert compile_network(random_decoder(0), NANO).max_context == SMALL_CONFIG.max_positions


def test_too_many_phases() -> None:
    assert "rate code has 32 phases, chip nano counts to 31" in _refused(
        random_decoder(0, code="rate"), NANO.with_fields({"synapse.max_phases": 31})
    )


@pytest.mark.parametrize("parts", ["feed-forward", "attention"])
def test_hybrids_are_refused(parts: str) -> None:
    assert "functional backend" in _refused(random_decoder(0, parts=parts), NANO)


def _with_head(weights: DecoderWeights, weight: NDArray[np.int8]) -> DecoderWeights:
    head: LinearWeights = replace(weights.head, weight=weight)
    return replace(weights, head=head)


def test_weights_beyond_cells_and_accumulators() -> None:
    weights = random_decoder(0)
    damaged = weights.head.weight.copy()
    damaged[0, 0] = -128
    assert "head has a weight of magnitude 128, chip nano holds up to 127" in _refused(_with_head(weights, damaged), NANO)
    assert "a column of layers.1.down may sum to" in _refused(weights, NANO.with_fields({"synapse.accumulator_bits": 24}))


@pytest.mark.slow
def test_smollm2_shape_on_nc1(tmp_path: Path) -> None:
    """134.5 million weights: load, compile and save within the 30 s asked for."""
    SpikingNetwork(random_decoder(0, config=SMOLLM2_135M)).save(tmp_path / "network")
    start_s = time.perf_counter()
    program = compile_network(SpikingNetwork.load(tmp_path / "network"), load_spec("nc1"))
    save_program(program, tmp_path / "program")
    assert time.perf_counter() - start_s < 30
    _check_placement(program)
    _check_routes(program)
    assert program.report["tiles_by_kind"]["synapse"]["used"] == 7 * 30 + 48
    assert program.max_context == 2032
