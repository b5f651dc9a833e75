"""The drawings of assets/explain: SVG files that adapt to light and dark, with pictures of real runs inside.

A drawing is shown as an `img`: `st.html` drops inline SVG. It follows the colour scheme of the page around it.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from markupsafe import Markup

from ui.rendering import base64_of, render

FOLDER = Path(__file__).parents[1] / "assets" / "explain"
LINKED = re.compile(r'href="([\w.-]+\.png)"')


def drawing(name: str, words: str) -> Markup:
    """The drawing assets/explain/`name`.svg; `words` say what it shows to those who do not see it."""
    return render("drawing.html", picture=_encoded(name), words=words)


@cache
def _encoded(name: str) -> str:
    """The drawing with the pictures it links to inside, as base64: an `img` loads no other files."""
    svg = LINKED.sub(
        lambda link: f'href="data:image/png;base64,{base64_of((FOLDER / link[1]).read_bytes())}"', _text(name)
    )
    return base64_of(svg.encode())


def _text(name: str) -> str:
    return (FOLDER / f"{name}.svg").read_text()
