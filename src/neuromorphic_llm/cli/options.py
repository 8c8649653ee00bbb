"""Command lines of plain functions: options are the parameters of a command and the fields of its configuration classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import typer

from neuromorphic_llm.cli.common import CommandRun
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.options import Option, options_of

C = TypeVar("C")


def option_info(flag: str, about: Option) -> Any:
    """Option of that flag as typer has it."""

    def completed(incomplete: str) -> list[str]:
        return [name for name in about.possible() if name.startswith(incomplete)]

    completion = completed if about.choices else None
    return typer.Option(flag, help=about.help, metavar=about.metavar, min=about.least, show_default=about.shown, autocompletion=completion)


JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", readable=False, help="Write the result as JSON to this file.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of everything random.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
_COMMON = {"json": (JsonFile, None), "seed": (Seed, 0), "debug": (Debug, False)}
"""Options of every command: type and default."""

Tolerance = Annotated[float, option_info("--tolerance", options_of(ConvertConfig)["tolerance"])]


class Given(Generic[C]):
    """Options that are fields of a configuration class, as the command line has them; `given["spikes"]` is that of the field spikes."""

    def __init__(self, config: type[C], values: Mapping[str, Any]) -> None:
        self._config, self._values = config, values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def build(self, **others: Any) -> C:
        """Configuration of these options and of `others`, which take precedence. UsageError for a value that the class refuses."""
        given = {}
        for each in fields(self._config):  # type: ignore[arg-type]
            if each.name in self._values and (self._values[each.name] is not None or not each.metadata["option"].optional):
                value = self._values[each.name]
                given[each.name] = tuple(value or ()) if isinstance(each.default, tuple) else value
        try:
            return self._config(**given | others)
        except ValueError as error:
            raise UsageError(str(error)) from error


@dataclass(frozen=True)
class _Source:
    """A parameter of the function for typer, and where its value goes."""

    parameter: Parameter
    key: str  # in the arguments of the JSON result
    owner: str  # parameter of the command
    field: str | None = None  # of the owner's configuration class


def code_parameters_of(given: Given[Any]) -> tuple[tuple[str, Any], ...]:
    """(name, value) of every --code-option. UsageError for a code, a number of phases or a parameter that is none."""
    from neuromorphic_llm.spikes.parameters import parse_options
    from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code

    parameters = parse_options(SPIKE_CODES[given["code"]], given["code_parameters"] or [])
    get_code(given["code"], given["phases"], **parameters)
    return tuple(parameters.items())


def command_line(name: str, command: Callable[..., None]) -> Callable[..., None]:
    """Function for typer that runs `command` in a CommandRun, its first argument.

    Parameters of the command are arguments and options as typer has them. In place of one of type Given[CLASS] stand the described
    fields of the class; a mapping in `Annotated[Given[CLASS], {...}]` has defaults that differ from the class's. --json, --seed and
    --debug follow.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [each for each in signature(command).parameters.values() if hints[each.name] is not CommandRun]
    sources = [source for each in own for source in _sources(each, hints[each.name])]
    configs = {each.name: config for each in own if (config := _config_of(hints[each.name])[0]) is not None}

    def run_command(**values: Any) -> None:
        found = [(source, values[source.parameter.name]) for source in sources]
        arguments = {source.key: value.value if isinstance(value, Enum) else value for source, value in found}
        given: dict[str, Any] = {source.owner: value for source, value in found if source.field is None}
        for owner, config in configs.items():
            given[owner] = Given(config, {source.field: value for source, value in found if source.owner == owner and source.field})
        with CommandRun(name, values["json"], values["seed"], values["debug"], arguments) as run:
            command(run, **given)

    common = [Parameter(each, Parameter.KEYWORD_ONLY, default=default, annotation=hint) for each, (hint, default) in _COMMON.items()]
    run_command.__signature__ = Signature([*(source.parameter for source in sources), *common])  # type: ignore[attr-defined]
    run_command.__annotations__, run_command.__doc__ = {}, command.__doc__
    return run_command


def _sources(parameter: Parameter, hint: Any) -> Iterator[_Source]:
    """The parameter itself, or those of the fields of its configuration class."""
    config, defaults = _config_of(hint)
    if config is None:
        yield _Source(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hint), _key(parameter.name, hint), parameter.name)
        return
    types, described = get_type_hints(config), options_of(config)
    for each in fields(config):
        if each.name in described:
            name, about = f"{parameter.name}_{each.name}", described[each.name]
            annotation, default = _typed(each.name, types[each.name], defaults.get(each.name, each.default), about)
            source = Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            yield _Source(source, _key(each.name, annotation), parameter.name, each.name)


def _config_of(hint: Any) -> tuple[Any, Mapping[str, Any]]:
    """(configuration class, defaults that differ) of a type `Given[CLASS]` or `Annotated[Given[CLASS], {...}]`; (None, {}) of others."""
    plain, *about = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    return (get_args(plain)[0], about[0] if about else {}) if get_origin(plain) is Given else (None, {})


def _typed(field: str, kind: Any, default: Any, about: Option) -> tuple[Any, Any]:
    """Type, for typer, and default of the option of a field."""
    flag = "--" + (about.name or field.replace("_", "-"))
    if about.written is not None:
        kind, default = str, about.written
    elif get_origin(kind) is tuple:
        kind, default = list[str] | None, None
    elif about.optional:
        kind, default = kind | None, None
    elif default is True:
        flag += f"/--no-{flag[2:]}"
    return Annotated[kind, option_info(flag, about)], default


def _key(name: str, hint: Any) -> str:
    """Name of an argument in the JSON result: that of its long option, else of the parameter."""
    for info in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
        declared = (info.default, *(info.param_decls or ())) if hasattr(info, "param_decls") else ()
        for flag in declared:
            if isinstance(flag, str) and flag.startswith("--"):
                return flag[2:].split("/")[0].replace("-", "_")
    return name
