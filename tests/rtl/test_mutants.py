"""The tool that makes mutants: which ones it finds, that each computes what it says, and how their ends are told apart."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mutants.command import main
from mutants.find import KINDS, Mutant, find_mutants, instantiated, off_by_one
from mutants.processes import run_forked
from mutants.report import EQUIVALENTS, Report, load_equivalents, read_results
from mutants.run import Killed
from mutants.schema import PACKAGE, VARIABLE, sample, write_schemata

from neuromorphic_llm.errors import DataError
from neuromorphic_llm.rtl.bench import Bench
from neuromorphic_llm.rtl.package import RTL_FOLDER

MODULE = """
module tally #(
    parameter int unsigned WIDTH = 7 + 1,
    localparam int unsigned BITS = widened(WIDTH - 1)
) (
    input  logic                    clk,
    input  logic                    rst,
    input  logic signed [BITS-1:0]  a,
    input  logic signed [WIDTH-1:0] b,
    output logic signed [15:0]      sum,
    output logic [WIDTH-1:0]        held
);
  function automatic int widened(input int n);
    widened = n + 1;
  endfunction

  logic signed [WIDTH:0] total;
  assign total = a[7] == 1'b1 ? a - b : a + b;

  always_comb begin
    sum = 16'(total);
    if (a > b) sum = 16'sd5;
  end

  always_ff @(posedge clk) begin
    for (int i = 0; i < 8; i++) if (!rst) held[i] <= b[i];
    if (rst) held <= '0;
  end

`ifndef SYNTHESIS
  in_range : assert property (@(posedge clk) disable iff (rst) held < 8'd255 || held == 8'd255);
`endif
endmodule
"""


@pytest.fixture
def rtl(tmp_path: Path) -> Path:
    """A folder like rtl/ with one module."""
    folder = tmp_path / "rtl"
    folder.mkdir()
    (folder / "tally.sv").write_text(MODULE)
    return folder


def test_every_place_in_running_code_is_found_and_no_other(rtl: Path) -> None:
    found = [(m.kind, m.line, m.text) for m in find_mutants(rtl / "tally.sv")]
    assert found == [
        ("operator", 18, "a[7] != 1'b1"),
        ("constant", 18, "1'd0"),
        ("operator", 18, "a + b"),
        ("operator", 18, "a - b"),
        ("condition", 22, "!(a > b)"),
        ("operator", 22, "a >= b"),
        ("assignment", 22, ""),
        ("constant", 22, "16'sd6"),
        ("condition", 26, "!(!rst)"),
        ("assignment", 26, ""),
        ("condition", 27, "!(rst)"),
        ("assignment", 27, ""),
        ("constant", 27, "1'b1"),
    ]


@pytest.mark.parametrize(
    ("literal", "changed"),
    [("0", "1"), ("4'd7", "4'd8"), ("4'hf", "4'd14"), ("3'sd3", "3'sd2"), ("8'b1_0", "8'd3"), ("'0", "1'b1"), ("'1", "'0"), ("'x", None)],
)
def test_constants_stay_in_their_width(literal: str, changed: str | None) -> None:
    assert off_by_one(literal) == changed


def test_each_mutant_computes_what_it_says(rtl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mutants = find_mutants(rtl / "tally.sv")
    write_schemata(rtl, tmp_path / "copy", mutants)
    bench = Bench("tally", sources=[tmp_path / "copy" / "tally.sv", tmp_path / "copy" / f"{PACKAGE}.sv"])
    rng = np.random.default_rng(1)
    a, b = rng.integers(-128, 128, (2, 2000))

    def outputs(number: int) -> tuple[list[int], list[int]]:
        monkeypatch.setenv(VARIABLE, str(number))
        bench.reset()
        seen = bench.run({"a": a & 255, "b": b & 255})
        return seen["sum"].astype(np.uint16).view(np.int16).tolist(), seen["held"].tolist()

    total = np.where(a < 0, a - b, a + b)
    held = [0, *(b[:-1] & 255).tolist()]
    assert outputs(0) == (np.where(a > b, 5, total).tolist(), held)
    sums = {
        "a[7] != 1'b1": np.where(a > b, 5, np.where(a < 0, a + b, a - b)),
        "a + b": np.where(a > b, 5, a + b),
        "a - b": np.where(a > b, 5, a - b),
        "!(a > b)": np.where(a > b, total, 5),
        "a >= b": np.where(a >= b, 5, total),
        "16'sd6": np.where(a > b, 6, total),
    }
    for mutant in mutants:
        if mutant.text in sums:
            assert outputs(mutant.number) == (sums[mutant.text].tolist(), held)
    (drop,) = (m for m in mutants if m.kind == "assignment" and m.line == 26)
    assert outputs(drop.number)[1] == [0] * len(b)


def test_a_sample_has_all_kinds_and_outlives_changes_elsewhere(rtl: Path) -> None:
    mutants = find_mutants(RTL_FOLDER / "nmllm_norm.sv")
    chosen = sample(mutants, 20)
    assert [sum(m.kind == kind for m in chosen) for kind in KINDS] == [5, 5, 5, 5]
    without = [m for m in mutants if m not in chosen[:1]]
    assert set(chosen[1:]) < set(sample(without, 20))


def test_instances_are_told_from_names_in_comments() -> None:
    assert instantiated(RTL_FOLDER / "nmllm_norm.sv") == {"nmllm_isqrt", "nmllm_divide"}
    assert "nmllm_router" in instantiated(RTL_FOLDER / "nmllm_chip.sv")


def test_mutants_of_all_modules_have_numbers_of_their_own() -> None:
    mutants = [m for path in RTL_FOLDER.glob("*.sv") for m in sample(find_mutants(path), 20)]
    assert len({m.number for m in mutants}) == len(mutants)
    assert {m.module for m in mutants} == {path.stem for path in RTL_FOLDER.glob("nmllm_*.sv")}


def test_processes_that_hang_wait_and_crash_are_ended() -> None:
    def hang() -> None:
        while True:
            pass

    def crash() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    calls = {"result": lambda: [1, "a"], "long": lambda: "x" * 200_000, "hang": hang, "crash": crash}
    ends = {key: ended.result for key, ended in run_forked(calls, 2, 1.0)}
    assert ends == {"result": [1, "a"], "long": "x" * 200_000, "hang": None, "crash": None}
    ((_, waiting),) = run_forked({"waits": lambda: time.sleep(60)}, 1, 0.05)
    assert waiting.result is None


def test_the_table_counts_every_mutant_once() -> None:
    mutants = [Mutant("nmllm_a", "operator", n, n + 1, "-", n, "a + b", "a - b", n) for n in range(4)]
    mutants.append(replace(mutants[0], module="nmllm_b"))
    killed = {mutants[0].number: Killed("test", "t"), mutants[1].number: Killed("hang", "t"), mutants[4].number: Killed("assertion", "t")}
    report = Report(mutants, killed, {mutants[2].number: "same sum"}, 1.0)
    assert report.table()[4:7] == ["| a | 4 | 1 | 0 | 1 | 1 | 1 |", "| b | 1 | 0 | 1 | 0 | 0 | 0 |", "| all | 5 | 1 | 1 | 1 | 1 | 1 |"]
    assert report.share == 0.75
    assert report.survivors == [mutants[3]]


def test_calls_together_know_what_each_found(tmp_path: Path) -> None:
    mutants = [Mutant("nmllm_a", "operator", n, n + 1, "-", n, "a + b", "a - b", n) for n in range(4)]
    numbers = [m.number for m in mutants]
    Report(mutants, {numbers[0]: Killed("test", "t")}, {numbers[3]: "same"}, 2.0, set(numbers[1:3])).write(tmp_path / "a.json")
    Report(mutants[1:], {numbers[1]: Killed("hang", "u")}, {}, 3.0).write(tmp_path / "b.json")
    found = read_results([tmp_path / "a.json", tmp_path / "b.json"], numbers)
    assert found.killed == {numbers[0]: Killed("test", "t"), numbers[1]: Killed("hang", "u")}
    assert (found.survived, found.minutes) == ({numbers[2], numbers[3]}, 5.0)
    with pytest.raises(DataError, match="before the modules changed"):
        read_results([tmp_path / "a.json"], numbers[:2])
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(DataError, match="is no result of rtl-mutants"):
        read_results([tmp_path / "c.json"], numbers)


def test_unfinished_mutants_are_no_survivors() -> None:
    mutants = [Mutant("nmllm_a", "operator", n, n + 1, "-", n, "a + b", "a - b", n) for n in range(3)]
    report = Report(mutants, {mutants[0].number: Killed("test", "t")}, {}, 1.0, {mutants[1].number})
    assert report.share == 0.5 and report.survivors == [mutants[2]]
    assert report.table()[-1] == "1 mutants are not finished, of a."


def test_what_is_not_done_in_time_has_no_result() -> None:
    calls = {"soon": lambda: 1, "late": lambda: time.sleep(60)}
    assert [key for key, _ in run_forked(calls, 2, until=time.monotonic() + 2)] == ["soon"]


@pytest.mark.parametrize("arguments", [["nosuch"], ["--minutes", "0"], ["--resume", "a", "--merge", "b"]])
def test_wrong_arguments_are_usage_errors(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


def test_a_file_that_is_no_result_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--merge", str(tmp_path / "missing.json")]) == 2
    assert "missing.json is no result of rtl-mutants" in capsys.readouterr().err


def test_the_equivalent_mutants_exist() -> None:
    for entry in load_equivalents(EQUIVALENTS):
        mutants = find_mutants(RTL_FOLDER / f"{entry.module}.sv")
        assert any(entry.is_of(m) for m in mutants), f"{EQUIVALENTS.name}: {entry.module} has no mutant {entry.after!r}; remove it"
        assert len(entry.reason) > 10
