"""Options of commands, generated from the fields of `Scenario`: a field added there is an option here.

Values are passed on as text. `Scenario` validates them and says in a sentence what it accepts. An option that takes a
list may be repeated.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from deepleak_core.scenario import Scenario
from deepleak_core.text import split_list

JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the results here, as JSON")]
ImageFolder = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="write private and rebuilt images to this folder, as PNG")
]


METAVARS = {
    "indices": "INDEX,...",
    "labels": "CLASS,...",
    "mislabel": "CLASS>CLASS,...",
    "prior": "NAME=WEIGHT,...",
    "setting": "NAME=VALUE,...",
    "defence": "NAME=STRENGTH,...",
}  # of options that take lists


def takes_scenario(command: Callable[..., int]) -> Callable[..., int]:
    """Replace the first parameter of a command, a scenario, by an option for each of its settings."""

    def with_options(**options: Any) -> int:
        values = {name: _parts(options.pop(name)) for name in Scenario.model_fields}
        return command(Scenario(**{name: value for name, value in values.items() if value is not None}), **options)

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    with_options.__signature__ = inspect.Signature([*map(_option, Scenario.model_fields), *own])  # type: ignore[attr-defined]
    with_options.__annotations__ = {}
    with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
    return with_options


def _parts(given: Any) -> Any:
    """The parts of a list, each option of which may hold several, separated by commas; other values as they are."""
    return tuple(part for text in given for part in split_list(text)) or None if isinstance(given, list) else given


def _option(name: str) -> inspect.Parameter:
    """The option of one setting, with the description and the default of its field."""
    field = Scenario.model_fields[name]
    flag = "--" + name.replace("_", "-")
    words = f"{field.description}" + ("" if field.default is None else f" (default: {str(field.default).lower()})")
    is_flag = field.annotation in (bool, bool | None)
    is_list = "tuple" in str(field.annotation)
    kind: Any = bool | None if is_flag else list[str] | None if is_list else str | None
    if is_flag:
        option = typer.Option(f"{flag}/--no-{flag[2:]}", help=words)
    else:
        metavar = METAVARS.get(name) or "|".join(_choices(field.annotation)) or name.rpartition("_")[2].upper()
        option = typer.Option(flag, metavar=metavar, help=words)
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=Annotated[kind, option]
    )


def _choices(annotation: Any) -> list[str]:
    """The values that a Literal accepts, also inside a union."""
    parts = get_args(annotation)
    return [p for part in parts for p in ([part] if isinstance(part, str) else _choices(part))]
