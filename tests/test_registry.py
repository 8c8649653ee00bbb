"""Registry: laziness, collisions, nearest names; its plug-ins in spikes/test_plugins.py."""

import fractions
import sys
from pathlib import Path

import pytest

from neuromorphic_llm.errors import ArtefactError, CheckpointError, UsageError
from neuromorphic_llm.registry import Registry, name_advice, nearest


def numbers() -> Registry[type]:
    return Registry("number", (("whole", int), ("fraction", "fractions:Fraction")))


def test_names_come_in_their_order_and_objects_by_name() -> None:
    registry = numbers()
    assert (
        list(registry) == ["whole", "fraction"]
        and str(registry) == "whole, fraction"
        and len(registry) == 2
        and "whole" in registry
        and "part" not in registry
    )
    assert registry["whole"] is int and registry["fraction"] is fractions.Fraction
    assert list(registry.values()) == [int, fractions.Fraction] and dict(registry.items())["fraction"] is fractions.Fraction


def test_a_location_is_imported_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazy_module.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[type] = Registry("thing", (("lazy", "lazy_module:Thing"),))
    assert "lazy" in registry and registry.origin("lazy") == "lazy_module:Thing" and "lazy_module" not in sys.modules
    assert registry["lazy"] is sys.modules.pop("lazy_module").Thing


@pytest.mark.parametrize("entry", [float, "fractions:Fraction"])
@pytest.mark.parametrize(("name", "taken"), [("whole", "builtins:int"), ("fraction", "fractions:Fraction")])
def test_a_taken_name_is_refused(entry: type | str, name: str, taken: str) -> None:
    with pytest.raises(UsageError, match=f"^number '{name}' is registered already, as {taken}; choose another name$"):
        numbers().register(name, entry)


def test_two_entries_of_one_name_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match="thing 'a' is registered already, as builtins:int"):
        Registry("thing", (("a", 1), ("a", 2)))


def test_a_wrong_name_gets_the_nearest_one_in_the_error_of_the_registry() -> None:
    registry: Registry[type] = Registry("number", (("whole", int), ("real", float)), error=CheckpointError)
    with pytest.raises(CheckpointError, match=r"^unknown number 'Whol'; did you mean 'whole'\?$"):
        registry["Whol"]
    with pytest.raises(CheckpointError, match=r"^unknown number 'xyz'; choose one of whole, real$"):
        registry.check("xyz")


def test_a_stored_name_that_is_not_known_may_be_of_a_module_to_import() -> None:
    numbers().check_stored("whole", "here")
    with pytest.raises(ArtefactError, match=r"^here: unknown number 'real'; import the module or install the distribution that"):
        numbers().check_stored("real", "here")


def test_a_temporary_entry_is_gone_after_its_context() -> None:
    registry = numbers()
    with registry.temporary("real", float):
        assert registry["real"] is float
    assert list(registry) == ["whole", "fraction"]
    with pytest.raises(UsageError, match="registered already"), registry.temporary("whole", float):
        pass
    assert registry["whole"] is int


@pytest.mark.parametrize("entry", ["json:dumps", sys.exit])
def test_a_flaw_is_named_with_its_place(entry: object) -> None:
    registry = Registry("number", (("odd", entry),), flaw=lambda name, found: None if isinstance(found, type) else f"is no class of {name}")
    with pytest.raises(UsageError, match=r"^number 'odd': (json:dumps|sys:exit) is no class of odd$"):
        registry["odd"]


def test_advice_falls_back_to_the_list_or_to_what_is_given() -> None:
    assert nearest("NANO", ["nc1", "nano"]) == "nano" and nearest("Nc2", ["NC1"]) == "NC1" and nearest("xyz", ["nc1"]) is None
    assert name_advice("nc2", ["nc1", "nano"]) == "did you mean 'nc1'?"
    assert name_advice("xyz", ["nc1", "nano"]) == "choose one of nc1, nano"
    assert name_advice("xyz", ["nc1", "nano"], "leave it out") == "leave it out"
