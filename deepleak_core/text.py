"""Small helpers for sentences, lists and JSON: percentages, shortened input, lists of names, finite numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NEGLIGIBLE_RESIDUAL = 1e-6  # relative squared residual below which its exact size is not reported
LONGEST_QUOTE = 80  # characters of a user's input that a sentence repeats


def percent(residual: float) -> str:
    """A relative squared residual in words, in at most two digits.

    >>> percent(52.0), percent(0.997), percent(0.114), percent(0.00014), percent(3e-9), percent(math.nan)
    ('over 100%', '100%', '11%', '0.014%', 'under 0.0001%', 'an unknown share')
    """
    if math.isnan(residual):
        return "an unknown share"
    if residual > 1:
        return "over 100%"
    if residual < NEGLIGIBLE_RESIDUAL:
        return f"under {100 * NEGLIGIBLE_RESIDUAL:g}%"
    return f"{residual:.0%}" if residual >= 0.1 else f"{100 * residual:.2g}%"


def json_values(value: Any, instead: Any = lambda number: None) -> Any:
    """A value with tuples as lists and numbers that are not finite, which are no JSON, replaced; at any depth.

    `instead` gives what replaces such a number.

    >>> json_values({"psnr": (20.0, math.inf)}), json_values([math.nan], str)
    ({'psnr': [20.0, None]}, ['nan'])
    """
    if isinstance(value, Mapping):
        return {name: json_values(inner, instead) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(inner, instead) for inner in value]
    return instead(value) if isinstance(value, float) and not math.isfinite(value) else value


def printable(text: str) -> str:
    r"""A text with its control characters escaped, so that it cannot change colours or titles of a terminal.

    >>> printable("cat\x1b[31m")
    'cat\\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shorten(text: str, most: int = LONGEST_QUOTE) -> str:
    """The first characters of a text, so that a sentence that quotes it stays short; control characters escaped.

    >>> shorten("x" * 100)[-4:], len(shorten("x" * 100))
    ('x...', 80)
    """
    plain = printable(text[: most + 1])
    return plain if len(plain) <= most else plain[: most - 3] + "..."


def unknown(what: str, given: object, accepted: Iterable[str]) -> str:
    """The sentence about a value that is none of those accepted.

    >>> unknown("color", "grey", ["red", "green"])
    "color was 'grey'; accepted are red, green."
    """
    return f"{what} was {shorten(repr(given))}; accepted are {', '.join(accepted)}."


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first names, separated by commas.

    >>> listed(["a", "b", "c"], most=2)
    'a, b ...'
    """
    return ", ".join(shorten(name) for name in names[:most]) + (" ..." if len(names) > most else "")


def escape(part: str, separator: str = ",") -> str:
    r"""A part of a list, written so that `split_list` returns it unchanged.

    >>> print(escape("salt, pepper"), escape("a>b", ">"))
    salt\, pepper a\>b
    """
    text = part.replace("\\", "\\\\").replace(separator, f"\\{separator}")
    if text[-1:].isspace():
        text = f"{text[:-1]}\\{text[-1]}"
    return f"\\{text}" if text[:1].isspace() else text


def split_list(text: str, separator: str = ",") -> tuple[str, ...]:
    r"""The parts of a list that is written as text, without the spaces around them.

    A backslash before a separator, a space or a backslash makes that character part of a name.

    >>> split_list(r"cat, salt\, pepper,a b"), split_list("cat > dog", ">")
    (('cat', 'salt, pepper', 'a b'), ('cat', 'dog'))
    """
    parts, kept = [""], 0  # `kept`: leading characters of the last part that are not stripped
    characters = iter(text)
    for character in characters:
        if character == "\\":
            following = next(characters, "")
            literal = following in (separator, "\\") or following.isspace()
            parts[-1] += following if literal else character + following
            kept = len(parts[-1])
        elif character == separator:
            parts[-1] = parts[-1][:kept] + parts[-1][kept:].rstrip()
            parts.append("")
            kept = 0
        elif parts[-1] or not character.isspace():
            parts[-1] += character
    parts[-1] = parts[-1][:kept] + parts[-1][kept:].rstrip()
    return tuple(parts)


def swap_text(before: str, after: str) -> str:
    """A pair of class names as an entry of a scenario's `mislabel`; `split_list` with ">" reads it.

    >>> swap_text("cat", "dog")
    'cat>dog'
    """
    return f"{escape(before, '>')}>{escape(after, '>')}"
