"""Parameters of codes: names, types, ranges, and what must go together."""

import pytest

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.spikes.parameters import parameters_of, parse_options
from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code


def test_options_are_read_in_the_types_of_the_fields() -> None:
    assert parse_options(SPIKE_CODES["burst"], ["gamma=7", "signed = no"]) == {"gamma": 7, "signed": False}
    assert parse_options(SPIKE_CODES["multi-threshold"], ["current=constant"]) == {"current": "constant"}
    assert parse_options(SPIKE_CODES["rate"], []) == {}


@pytest.mark.parametrize(
    ("code", "option", "message"),
    [
        ("burst", "gama=7", "did you mean 'gamma'"),
        ("burst", "threshold=7", "choose one of signed, clip_per_mille, gamma, shift"),
        ("rate", "levels=7", "no parameters"),
        ("burst", "gamma", "not NAME=VALUE"),
        ("burst", "gamma=many", "gamma must be 1 to 127, not 'many'"),
        ("burst", "gamma=0", "gamma must be 1 to 127, not 0"),
        ("burst", "signed=2", "signed must be true or false, not '2'"),
        ("st-bif", "current=last", "current must be constant or first, not 'last'"),
    ],
)
def test_wrong_options_say_what_is_wrong(code: str, option: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_options(SPIKE_CODES[code], [option])


def test_an_option_is_given_once() -> None:
    with pytest.raises(UsageError, match="given twice"):
        parse_options(SPIKE_CODES["burst"], ["gamma=3", "gamma=4"])


@pytest.mark.parametrize(
    ("code", "phases", "parameters", "message"),
    [
        ("burst", 4, {"shift": 3}, "needs gamma of at least 7"),
        ("burst", 7, {}, "reaches 16383"),
        ("qcfs", 8, {"levels": 9}, "9 levels need as many phases"),
        ("st-bif", 8, {"levels": 9}, "9 levels need as many phases"),
        ("first-spike-log", 4, {"steps": 5}, "steps must be one of 1, 2, 3, 4, 8"),
        ("first-spike-log", 4, {"steps": 2, "octaves": 2}, "use steps=1 or octaves=1"),
        ("burst", 4, {"gamma": True}, "gamma must be 1 to 127, not True"),
        ("rate", 4, {"gamma": 1}, "no parameters"),
    ],
)
def test_what_does_not_go_together_is_refused(code: str, phases: int, parameters: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        get_code(code, phases, **parameters)


def test_a_code_knows_what_differs_from_its_defaults() -> None:
    assert get_code("burst").parameters == {}
    code = get_code("burst", 3, gamma=7, shift=2, signed=False)
    assert code.parameters == {"gamma": 7, "signed": False}
    assert get_code(code.name, code.phases, **code.parameters) == code


def test_every_parameter_is_explained() -> None:
    for name in SPIKE_CODES:
        assert SPIKE_CODES[name].summary and SPIKE_CODES[name].source
        for each in parameters_of(SPIKE_CODES[name]):
            assert each.help and each.allowed
            each.check(name, each.default)
