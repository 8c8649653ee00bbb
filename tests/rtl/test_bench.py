"""The bench itself: arrays in and out, streams, assertions, what the user did wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl import build
from neuromorphic_llm.rtl.bench import Bench, _verilator_seed, pack, signed, unpack

SKID = """
module skid (
    input logic clk, input logic rst, input logic signed [7:0] limit,
    input logic in_valid [2], output logic in_ready [2], input logic [70:0] in_data [2], input logic [3:0] in_tag [2],
    output logic out_valid [2], input logic out_ready [2], output logic [70:0] out_data [2], output logic [3:0] out_tag [2],
    output logic [31:0] count, output logic signed [7:0] half
);
  for (genvar i = 0; i < 2; i++) begin : g
    assign in_ready[i] = !out_valid[i] || out_ready[i];
    always_ff @(posedge clk)
      if (rst) out_valid[i] <= 0;
      else if (in_ready[i]) begin
        out_valid[i] <= in_valid[i];
        out_data[i] <= in_data[i];
        out_tag[i] <= in_tag[i];
      end
  end
  always_ff @(posedge clk) count <= rst ? 0 : count + 32'(in_valid[0] && in_ready[0]);
  assign half = limit / 2;
  below_limit : assert property (@(posedge clk) disable iff (rst) limit <= 0 || count < 32'(limit)) else $error("count is %0d", count);
endmodule
"""


@pytest.fixture(scope="module")
def skid(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    path = tmp_path_factory.mktemp("rtl") / "skid.sv"
    path.write_text(SKID)
    return Bench("skid", sources=[path])


def test_streams_bring_everything_in_order_with_pauses(skid: Bench) -> None:
    rng = np.random.default_rng(1)
    data = rng.integers(0, 1 << 32, (2, 3000, 3), dtype=np.uint32) & np.array([0xFFFFFFFF, 0xFFFFFFFF, 127], np.uint32)
    tags = rng.integers(0, 16, (2, 3000))
    skid.reset()
    feed = {f"in[{i}]": {"data": data[i], "tag": tags[i]} for i in range(2)}
    until = {"out[0]": 3000, "out[1]": 3000}
    result = skid.stream(feed, ["out[0]", "out[1]"], 100_000, idle=0.3, backpressure=0.4, until=until, observe=["count"])
    for i in range(2):
        out, accepted = result.outputs[f"out[{i}]"], result.accepted[f"in[{i}]"]
        assert (out["data"] == data[i]).all() and (out["tag"] == tags[i]).all()
        assert (np.diff(accepted) > 0).all() and (out["cycle"] > accepted).all() and len(accepted) == 3000
    assert 3000 / 0.6 < result.cycles < 3000 / 0.5
    assert result.observed["count"][-1] == 3000
    again = skid.stream(feed, ["out[0]"], 20)  # never ready at out[1], and without pauses
    assert again.accepted["in[0]"].tolist() == list(range(20)) and len(again.accepted["in[1]"]) == 1
    assert again.outputs["out[0]"]["cycle"].tolist() == list(range(1, 20))


def test_run_holds_single_values_and_reads_signs(skid: Bench) -> None:
    skid.reset()
    outputs = skid.run({"limit": [-5, -128, -1, 0], "in_valid": [1, 0]}, outputs=["half", "count"])
    assert signed(outputs["half"], 8).tolist() == [-2, -64, 0, 0]
    assert outputs["count"].tolist() == [0, 1, 1, 1]  # the output is never taken, so one fits


def test_a_failed_assertion_is_named(skid: Bench) -> None:
    skid.reset()
    with pytest.raises(SimulationError, match=r"skid, cycle 3 of this call: .*below_limit: count is 3; start again with reset"):
        skid.run({"limit": 3, "in_valid": [1, 1], "out_ready": [1, 1]}, cycles=10)
    skid.reset()
    skid.run({}, cycles=10)


def test_wrong_arguments_say_what_is_expected(skid: Bench) -> None:
    with pytest.raises(ValueError, match="no input 'limits'; its inputs are clk, rst, limit"):
        skid.run({"limits": [1]})
    with pytest.raises(ValueError, match="from 1 to 300 do not fit 8 bits"):
        skid.run({"limit": [1, 300]})
    with pytest.raises(ValueError, match="2 values for 3 cycles"):
        skid.run({"limit": [1, 2]}, cycles=3)
    with pytest.raises(ValueError, match=r"shape \[3\], expected \[2\]"):
        skid.run({"in_valid": np.ones((5, 3), int)})
    with pytest.raises(ValueError, match="fields in_data, in_tag; give values for each"):
        skid.stream({"in[0]": [1, 2]}, [], 10)


def test_a_module_with_an_error_is_not_built(tmp_path: Path) -> None:
    path = tmp_path / "broken.sv"
    path.write_text("module broken (input logic clk); assign nothing = clk; endmodule\n")
    with pytest.raises(SimulationError, match=r"(?s)verilator failed .*nothing"):
        Bench("broken", sources=[path])
    with pytest.raises(SimulationError, match=r"there is no missing\.sv"):
        Bench("missing")


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "needs a C++ compiler: no-such-compiler is not on the PATH" in str(build.missing_tools())
    with pytest.raises(SimulationError, match="install g"):
        Bench("nmllm_ram")
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda _: None)
    assert "pip install" in str(build.missing_tools())


def test_a_compiler_may_have_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++ -DUNUSED=1")
    assert build._compiler() == ["g++", "-DUNUSED=1"]
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    assert "no-such-compiler is not on the PATH" in str(build.missing_tools())
    monkeypatch.setenv("CXX", 'g++ "')
    with pytest.raises(SimulationError, match="CXX is no command"):
        build.missing_tools()


def test_a_cache_that_is_no_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NMLLM_CACHE", str(tmp_path / "file"))
    with pytest.raises(SimulationError, match=r"file/rtl cannot be made .*NMLLM_CACHE"):
        build._cached("any", lambda _: None)


def test_what_killed_builds_left_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NMLLM_CACHE", str(tmp_path))
    for name in ("mine.abc/made", "mine-too.abc"):
        (tmp_path / "rtl" / name).mkdir(parents=True)
    with pytest.raises(ZeroDivisionError):
        build._cached("mine", lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    assert [path.name for path in (tmp_path / "rtl").iterdir()] == ["mine-too.abc"]


def test_names_in_comments_are_no_sources() -> None:
    assert build._code("a // nmllm_ram\n/* nmllm_add\n */ b") == "a \n b"
    assert [path.stem for path in build.source_files("nmllm_isqrt")] == ["nmllm_isqrt"]


def test_every_seed_is_one_of_verilators(skid: Bench) -> None:
    """0 would be a seed of its own choice."""
    seeds = [1, 2**31 - 2, 2**31 - 1, 2**31, 2**63 - 1]
    assert [_verilator_seed(seed) for seed in seeds] == [1, 2**31 - 2, 2**31 - 1, 1, 1]


def test_a_waveform_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    bench = Bench("nmllm_ram", {"DEPTH": 24}, trace=True)
    bench.trace(tmp_path / "good.vcd", "", 0, 5)
    bench.run({}, cycles=10)
    bench.end_trace()
    assert "$enddefinitions" in (tmp_path / "good.vcd").read_text()
    bench.trace(Path("/dev/full"), "", 0, 5)
    bench.run({}, cycles=10)
    with pytest.raises(SimulationError, match="could not be written"):
        bench.end_trace()


def test_the_library_comes_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    Bench("nmllm_ram", {"DEPTH": 24})
    monkeypatch.setattr(build, "verilator", lambda _: pytest.fail("built twice"))
    assert Bench("nmllm_ram", {"DEPTH": 24}).ports["read_address"].bits == 5


def test_ram_reads_old_words_in_the_cycle_of_a_write() -> None:
    rng = np.random.default_rng(3)
    cycles, depth = 20_000, 24
    write, read, address, other = rng.integers(0, 2, cycles), rng.integers(0, 2, cycles), *rng.integers(0, depth, (2, cycles))
    write[:depth], address[:depth], read[:depth] = 1, np.arange(depth), 0
    data = rng.integers(0, 1 << 32, cycles)
    ports = {"write_enable": write, "write_address": address, "write_data": data, "read_enable": read, "read_address": other}
    seen = Bench("nmllm_ram", {"DEPTH": depth}).run(ports)["read_data"]
    words = [0] * depth
    expected = None
    for cycle in range(cycles):
        if expected is not None:
            assert seen[cycle] == expected, cycle
        if read[cycle]:
            expected = words[other[cycle]]
        if write[cycle]:
            words[address[cycle]] = data[cycle]


def test_packing() -> None:
    rng = np.random.default_rng(2)
    sizes = [9, 1, 16, 64, 33, 64]
    values = [
        rng.integers(0, 1 << size, 50, dtype=np.uint64, endpoint=False) if size < 64 else rng.integers(0, 1 << 63, 50, np.uint64)
        for size in sizes
    ]
    words = pack(list(zip(values, sizes, strict=True)))
    assert words.shape == (50, 6)
    for found, value in zip(unpack(words, sizes), values, strict=True):
        assert (found == value).all()
    whole = 0
    for value, size in zip(values, sizes, strict=True):
        whole = whole << size | int(value[0])
    assert sum(int(word) << 32 * i for i, word in enumerate(words[0])) == whole
