"""Small helpers for sentences: percentages, shortened input, lists of names."""

from __future__ import annotations

NEGLIGIBLE_RESIDUAL = 1e-6  # relative squared residual below which its exact size is not reported
LONGEST_QUOTE = 80  # characters of a user's input that a sentence repeats


def percent(residual: float) -> str:
    """A relative squared residual in words, in at most two digits.

    >>> percent(52.0), percent(0.997), percent(0.114), percent(0.00014), percent(3e-9)
    ('over 100%', '100%', '11%', '0.014%', 'under 0.0001%')
    """
    if residual > 1:
        return "over 100%"
    if residual < NEGLIGIBLE_RESIDUAL:
        return f"under {100 * NEGLIGIBLE_RESIDUAL:g}%"
    return f"{residual:.0%}" if residual >= 0.1 else f"{100 * residual:.2g}%"


def shorten(text: str) -> str:
    """The first characters of a text, so that a sentence that quotes it stays short; control characters escaped.

    >>> shorten("x" * 100)[-4:], shorten("cat\\x1b[31m")
    ('x...', 'cat\\\\x1b[31m')
    """
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return plain if len(plain) <= LONGEST_QUOTE else plain[: LONGEST_QUOTE - 3] + "..."


def listed(names: list[str] | tuple[str, ...], most: int = 10) -> str:
    """The first names, separated by commas.

    >>> listed(["a", "b", "c"], most=2)
    'a, b ...'
    """
    return ", ".join(shorten(name) for name in names[:most]) + (" ..." if len(names) > most else "")
