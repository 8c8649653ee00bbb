"""Floor plan data and picture."""

import xml.etree.ElementTree as ElementTree

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.compiler.floorplan import COLOURS, floorplan, floorplan_svg
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.reference.random_decoder import random_decoder

PROGRAM = compile_network(random_decoder(0), load_spec("nano"))


def test_every_tile_once_with_what_it_holds() -> None:
    tiles = floorplan(PROGRAM)
    assert [tile.index for tile in tiles] == list(range(24))
    assert tiles[0].kind == "host"
    assert all(tile.part in COLOURS for tile in tiles)
    columns = {region.tile: region.columns for stage in PROGRAM.stages for regions in stage.regions for region in regions}
    assert {tile.index: tile.columns for tile in tiles if tile.columns} == columns
    assert [tile.index for tile in tiles if tile.part == "vector"] == sorted(stage.vector_tile for stage in PROGRAM.stages)


def test_picture_is_well_formed_and_shows_all_tiles() -> None:
    root = ElementTree.fromstring(floorplan_svg(PROGRAM))
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 24
    assert "tile 0 (0, 0), host: host" in titles
    assert sum("layers.0.qkv" in str(title) for title in titles) == 1
    assert ">gate_up<" in floorplan_svg(PROGRAM) and ">other<" not in floorplan_svg(PROGRAM)
