"""Settings of attacks: frozen dataclasses whose fields say what they mean and which values they accept.

An attack declares its settings once. The command line, the app's controls, `list` and the docs are generated from them.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True, kw_only=True)
... class Example:
...     rate: float = setting(0.1, "step size", above=0, most=10)
>>> changed(Example(), {"rate": "0.5"})
Example(rate=0.5)
>>> changed(Example(), {"rate": "fast"})
Traceback (most recent call last):
    ...
deepleak_core.errors.UnsupportedScenario: rate was 'fast'; accepted is a number above 0 to 10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar, get_args, get_type_hints

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.text import shorten

Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Which values a setting accepts: a number from `least` (or above `above`) to `most`, or one of `choices`."""

    help: str
    least: float | None = None
    above: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()

    def allows(self, value: Any) -> bool:
        """Whether a value of the right type is within the limits."""
        if self.choices:
            return value in self.choices
        if isinstance(value, (int, float)):
            low = (self.least is None or value >= self.least) and (self.above is None or value > self.above)
            return low and (self.most is None or value <= self.most)
        return True

    @property
    def accepted(self) -> str:
        """The accepted values in words."""
        if self.choices:
            return f"are {', '.join(self.choices)}"
        words = {" from": self.least, " above": self.above, " to": self.most}
        return "is a number" + "".join(f"{word} {bound:g}" for word, bound in words.items() if bound is not None)


def setting(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """A dataclass field with a default, one sentence of help and the accepted values."""
    limits = Limits(help=help, least=least, above=above, most=most, choices=tuple(choices))
    return field(default=default, metadata={"limits": limits})


def limits_of(settings: Any) -> dict[str, Limits]:
    """The declared settings of an attack by name; other fields, which only the registry sets, are left out."""
    return {f.name: f.metadata["limits"] for f in fields(settings) if "limits" in f.metadata}


def changed(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """A copy with some values replaced; text is converted to the type of the setting.

    Raises `UnsupportedScenario` with a sentence for each name that is no setting and each value that is not accepted.
    """
    limits, types = limits_of(settings), get_type_hints(type(settings))
    problems, accepted = [], {}
    for name, given in values.items():
        if name not in limits:
            known = ", ".join(limits) or "none"
            problems.append(f"{shorten(name)} is no setting of this attack, whose settings are {known}; leave it out.")
            continue
        value = _converted(given, types[name])
        if value is None or not limits[name].allows(value):
            accepts = "are true and false" if types[name] is bool else limits[name].accepted
            if types[name] is int:
                accepts = accepts.replace("is a number", "is a whole number")
            problems.append(f"{name} was {shorten(repr(given))}; accepted {accepts}.")
        accepted[name] = value
    if problems:
        raise UnsupportedScenario(problems)
    return replace(settings, **accepted)  # type: ignore[type-var]


def _converted(given: Any, kind: Any) -> Any:
    """A value, maybe given as text, in the type of its setting; None where it is of another type.

    >>> _converted("0.5", float), _converted("2.5", int), _converted(True, int | None)
    (0.5, None, None)
    """
    wanted = next((each for each in (bool, int, float, str) if each is kind or each in get_args(kind)), None)
    if wanted is None:  # one of several words, which the limits know
        return given
    if isinstance(given, str):
        try:
            return {"true": True, "false": False}[given.lower()] if wanted is bool else wanted(given)
        except (KeyError, ValueError):
            return None
    if isinstance(given, bool) and wanted is not bool:
        return None
    return given if isinstance(given, (int, float) if wanted is float else wanted) else None


def assignments(texts: Sequence[str], option: str) -> dict[str, str]:
    """Pairs such as "total-variation=0.01" as a mapping.

    Raises `UnsupportedScenario` for a text that is no pair, and for a name that is given twice.

    >>> assignments(["total-variation=0.01"], "prior")
    {'total-variation': '0.01'}
    """
    malformed = [text for text in texts if not text.partition("=")[0] or not text.partition("=")[2]]
    if malformed:
        raise UnsupportedScenario([f"{option} was {shorten(repr(malformed[0]))}; accepted are pairs like NAME=VALUE."])
    pairs = [(name.strip(), value.strip()) for name, _, value in (text.partition("=") for text in texts)]
    repeated = next((name for name, count in Counter(name for name, _ in pairs).items() if count > 1), None)
    if repeated is not None:
        raise UnsupportedScenario([f"{option} named {shorten(repeated)} more than once; give it one value."])
    return dict(pairs)
