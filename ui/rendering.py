"""HTML from the templates in ui/templates; every value is escaped unless a template made it.

Characters that cannot be seen and act on what is around them, such as marks that turn the direction of writing, are
replaced by their codes. A percentage stays on one line.

>>> render("paragraph.html", kind="dl-note", words="<b>cat</b>")
Markup('<p class="dl-note">&lt;b&gt;cat&lt;/b&gt;</p>')
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent / "templates"
NOTHING = Markup("")
# Control characters but tab and line feed, marks of direction that act beyond a word, halves of a character.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
BEFORE_PERCENT = re.compile(r"(?<=\d) (?=%)")


@cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, finalize=_visible)


def _visible(value: object) -> object:
    """The value that a template writes, without characters that cannot be seen, each percentage on one line."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return unbroken(INVISIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", value))


def unbroken(words: str) -> str:
    r"""The words with every percentage kept on one line.

    >>> unbroken("70 % accuracy")
    '70\xa0% accuracy'
    """
    return BEFORE_PERCENT.sub("\N{NO-BREAK SPACE}", words)


def render(template: str, **values: object) -> Markup:
    """The HTML of a template. `Markup` values, which are HTML already, go in as they are, all others escaped."""
    return Markup(_environment().get_template(template).render(values))


def base64_of(data: bytes) -> str:
    """The bytes of a picture as text, for templates and components."""
    return b64encode(data).decode("ascii")


def joined(pieces: Iterable[Markup]) -> Markup:
    """Pieces of HTML, one after the other."""
    return NOTHING.join(pieces)
