"""Colours of the style sheet have enough contrast, and every class in it is used."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.helpers import ROOT

CSS = (ROOT / "assets/style.css").read_text()
THEME = tomllib.loads((ROOT / ".streamlit/config.toml").read_text())["theme"]
TOKENS = {
    name: {"light": light, "dark": dark}
    for name, light, dark in re.findall(r"--dl-([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", CSS)
}
TEXT, LARGE = 4.5, 3.0  # WCAG 2.2 AA: text, and graphics or large text
BEHIND_WHITE = {"badge", "button"}
GRAPHICS = {"neutral"}  # bars, never text
NO_TEXT = {"line", "surface"}


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG defines it."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("appearance", ["light", "dark"])
@pytest.mark.parametrize("token", sorted(set(TOKENS) - NO_TEXT))
def test_colours_of_text_can_be_read(token: str, appearance: str) -> None:
    colour = TOKENS[token][appearance]
    if token in BEHIND_WHITE:
        assert contrast(colour, "#ffffff") >= TEXT
        return
    least = LARGE if token in GRAPHICS else TEXT
    assert contrast(colour, THEME[appearance]["backgroundColor"]) >= least
    assert contrast(colour, TOKENS["surface"][appearance]) >= least


@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_buttons_and_links_can_be_read(appearance: str) -> None:
    theme = THEME[appearance]
    assert contrast(theme["textColor"], theme["secondaryBackgroundColor"]) >= TEXT
    assert contrast(theme["linkColor"], theme["backgroundColor"]) >= TEXT
    assert contrast(theme["primaryColor"], "#ffffff") >= TEXT


def test_every_colour_is_a_token() -> None:
    rest = re.sub(r"--dl-[\w-]+: [^;]+;", "", CSS)
    assert not re.findall(r"#[0-9a-f]{6}\b|light-dark\(", rest)


def test_every_class_and_token_of_the_style_sheet_is_used() -> None:
    users = [*ROOT.glob("ui/**/*"), *ROOT.glob("pages/*.py"), ROOT / "app.py"]
    code = "\n".join(file.read_text() for file in users if file.suffix in {".py", ".html", ".js", ".css"})
    classes = set(re.findall(r"\.(dl-[\w-]+)", CSS))
    made = {"dl-recovered", "dl-recognisable", "dl-not-recovered"}  # composed in recent.html
    assert {name for name in classes - made if not re.search(rf"\b{name}\b", code)} == set()
    keys = set(re.findall(r"\.st-key-([\w-]+)", CSS))
    assert {key for key in keys if f'"{key}' not in code} == set()
    assert {token for token in TOKENS if f"var(--dl-{token})" not in CSS + code} == set()


def test_every_template_is_used() -> None:
    code = "\n".join(file.read_text() for file in [*ROOT.glob("ui/**/*.py"), *ROOT.glob("pages/*.py")])
    assert {file.name for file in ROOT.glob("ui/templates/*.html") if file.name not in code} == set()
