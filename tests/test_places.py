"""Places to write to: what lies in an artefact, and what cannot be written, is refused before the work."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from neuromorphic_llm.artefact import METADATA
from neuromorphic_llm.errors import NeuromorphicLLMError
from neuromorphic_llm.places import PlaceError, check_file_place, check_folder_place, enclosing_artefact, temporary_name
from neuromorphic_llm.text_file import write_text


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    folder = tmp_path / "net"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / METADATA).write_text("{}")
    (tmp_path / "link").symlink_to("net")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "deep").symlink_to(folder / "tokenizer")
    return folder


@pytest.mark.parametrize(
    "name", ["net/x", "net/./x", "net/../net/x", "net/a/b/c/x", "link/x", "elsewhere/deep/x", "nowhere/../net/x", "net//tokenizer/../x"]
)
def test_a_place_in_an_artefact_is_refused(artefact: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(artefact.parent)
    for path in (Path(name), artefact.parent / name):
        assert enclosing_artefact(path) == artefact
        for check in (check_file_place, check_folder_place):
            with pytest.raises(PlaceError, match=r"lies in .*net, an artefact, whose files are its own; choose a place outside it"):
                check(path)
        with pytest.raises(NeuromorphicLLMError, match="lies in"):
            write_text(path, "")
    monkeypatch.chdir(artefact / "tokenizer")
    with pytest.raises(PlaceError, match="lies in"):
        check_file_place("x")
    check_file_place(Path("../../x"))


def test_an_artefact_does_not_lie_in_itself(artefact: Path) -> None:
    assert enclosing_artefact(artefact) is None and enclosing_artefact(artefact / ".") is None
    with pytest.raises(PlaceError, match="net holds an artefact; give another folder"):
        check_folder_place(artefact)
    with pytest.raises(PlaceError, match="net is a folder; give a file name"):
        check_file_place(artefact)


def test_a_link_out_of_an_artefact_leads_out(artefact: Path) -> None:
    (artefact / "out").symlink_to(artefact.parent)
    check_file_place(artefact / "out" / "x.json")


def test_names_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("loop", "loop/x", "a" * 300, "a\0b"):
        with pytest.raises(PlaceError, match="cannot be written"):
            check_file_place(tmp_path / name)


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, os.fsdecode(b"\xff" * 200)])
def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path, name: str) -> None:
    check_file_place(tmp_path / name)
    write_text(tmp_path / name, "a")
    assert (tmp_path / name).read_text() == "a" and len(list(tmp_path.iterdir())) == 1
    assert len(os.fsencode(temporary_name(name, "123456.partial"))) < 100


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_places_that_take_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_file_place("/dev/null")
    os.mkfifo(tmp_path / "pipe")
    check_file_place(tmp_path / "pipe")
    with pytest.raises(PlaceError, match=r"/dev/full cannot be written \(No space left on device\)"):
        check_file_place("/dev/full")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(PlaceError, match="socket is a socket, which is not written to"):
            check_file_place("socket")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc on this system")
def test_a_folder_that_only_looks_writable() -> None:
    # Root may write there, say its permissions.
    for check in (check_file_place, check_folder_place):
        with pytest.raises(PlaceError, match="is not writable"):
            check("/proc/result")


def test_a_full_disk_is_noticed_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    for check in (check_file_place, check_folder_place):
        with pytest.raises(PlaceError, match=r"is not writable \(No space left on device\); choose another"):
            check(tmp_path / "a")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(PlaceError, match="a is a file; choose another output folder"):
        check_folder_place(tmp_path / "a")
    with pytest.raises(PlaceError, match=r"a is a file; choose another output folder"):
        check_folder_place(tmp_path / "a" / "b" / "c")
    with pytest.raises(PlaceError, match=r"the folder .*missing does not exist; create it first"):
        check_file_place(tmp_path / "missing" / "a.json")
