"""HTML from the templates in ui/templates; every value is escaped unless a template made it.

>>> render("paragraph.html", kind="dl-note", words="<b>cat</b>")
Markup('<p class="dl-note">&lt;b&gt;cat&lt;/b&gt;</p>')
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent / "templates"
NOTHING = Markup("")


@cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)


def render(template: str, **values: object) -> Markup:
    """The HTML of a template. `Markup` values, which are HTML already, go in as they are, all others escaped."""
    return Markup(_environment().get_template(template).render(values))


def base64_of(data: bytes) -> str:
    """The bytes of a picture as text, for templates and components."""
    return b64encode(data).decode("ascii")


def joined(pieces: Iterable[Markup]) -> Markup:
    """Pieces of HTML, one after the other."""
    return NOTHING.join(pieces)
