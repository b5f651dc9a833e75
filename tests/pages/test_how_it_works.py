"""How it works: its levels and sections, their figures from the files that ship, its links."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from benchmarks.browser import open_page
from tests.helpers import app_page, page_html, pictures_named
from ui.how_it_works import figures, sources
from ui.how_it_works.levels import FOLDER, LEVELS, MATHEMATICS, PICTURES, WORDS, anchors, level_of
from ui.why import TOPICS

TEXTS = ("words", "mathematics")


@pytest.fixture(scope="module")
def pages() -> dict[str, AppTest]:
    return {level: app_page("how_it_works", level=level) for level in LEVELS}


def written(page: AppTest) -> str:
    return "\n".join(piece.value for piece in page.markdown)


# ------------------------------------------------------------------------------------------------------ the page


def test_pictures_are_the_default_and_another_level_is_picked() -> None:
    page = app_page("how_it_works")
    assert page_html(page).count('dl-drawing"') == len(PICTURES)
    assert not page.header
    page.segmented_control(key="level").set_value("words").run()
    assert not page.exception
    assert [header.anchor for header in page.header] == anchors("words")


def test_a_picture_has_one_sentence_and_words_for_who_does_not_see_it(pages: dict[str, AppTest]) -> None:
    html = page_html(pages["picture"])
    for picture in PICTURES:
        assert f'<section id="{picture.anchor}"><p>{picture.sentence}</p>' in html
        assert f'alt="{picture.shows}"' in html


@pytest.mark.parametrize("level", TEXTS)
def test_contents_lead_to_every_section_and_to_nothing_else(pages: dict[str, AppTest], level: str) -> None:
    contents = pages[level].markdown[0].value
    assert re.findall(r"\(#([\w-]+)\)", contents) == anchors(level) == [h.anchor for h in pages[level].header]


def test_words_are_few() -> None:
    assert len(WORDS) <= 7
    assert all(len((FOLDER / "words" / f"{section.anchor}.md").read_text().split()) < 150 for section in WORDS)


def test_every_text_belongs_to_a_section() -> None:
    named = {f"{level}/{anchor}" for level in TEXTS for anchor in anchors(level)} | {"words/questions"}
    assert {f"{file.parent.name}/{file.stem}" for file in FOLDER.glob("*/*.md")} == named - {"mathematics/sources"}


def test_every_reason_leads_to_a_section_in_words() -> None:
    assert {level_of(topic.section) for topic in TOPICS.values()} == {"words"}


def test_an_unknown_level_opens_the_pictures() -> None:
    assert "dl-drawings" in page_html(app_page("how_it_works", level="music"))


def test_the_formulas_are_there_and_closed(pages: dict[str, AppTest]) -> None:
    text = written(pages["mathematics"])
    for formula in (
        r"\frac{\theta_0 - \theta_T}{\eta\, T}",
        r"n = K\,\bar p - K",
        r"U S V^\top",
        r"S^{-1} c_l = [k = l]",
    ):
        assert formula in text
    for piece in pages["mathematics"].markdown:
        assert piece.value.count("$") % 2 == 0
        assert piece.value.count("{") == piece.value.count("}")


def test_every_figure_is_in_one_level_with_a_picture_or_chart_and_a_caption(pages: dict[str, AppTest]) -> None:
    drawn = "\n".join(page_html(pages[level]) for level in TEXTS)
    pictures = {picture for name in figures.measured() for picture in pictures_named(figures.measured()[name])}
    assert drawn.count("<img") >= len(pictures)
    functions = {name for name, draw in vars(figures).items() if inspect.isfunction(draw)}
    with_caption = {name for name in functions if "_caption" in getattr(figures, name).__code__.co_names}
    assert sorted(with_caption) == sorted(name for section in (*WORDS, *MATHEMATICS) for name in section.figures)
    assert drawn.count("dl-caption") == len(with_caption)
    assert sum(len(pages[level].get("plotly_chart")) for level in TEXTS) == 9


def test_captions_quote_the_run(pages: dict[str, AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    """Other numbers, other captions: none of them is typed by hand."""
    cases = figures.measured()["wrong_label"]["cases"]
    assert f"the worst has {min(cases[0]['psnr']):.0f} dB" in page_html(pages["words"])
    start = figures.measured()["matching"]["moments"][0]["mean_psnr"]
    assert page_html(pages["words"]).count(f"{start:.0f} dB") >= 2, "below the first picture, and in the caption"
    said: list[str] = []
    monkeypatch.setattr(figures, "_caption", said.append)
    changed = json.loads(json.dumps(figures.measured()))
    changed["fusion"] |= {"exact_pixels": False, "psnr_to_mean": 0.0}
    monkeypatch.setattr(figures, "measured", lambda: changed)
    figures.fused()
    assert "not every pixel is exact" in said[0]
    assert "no closer to their mean" in said[0]


def test_every_source_has_a_link_and_the_papers_named_are_among_them(pages: dict[str, AppTest]) -> None:
    table = sources.table()
    assert table in [piece.value for piece in pages["mathematics"].markdown]
    for paper in ("2110.09074", "1906.08935", "2001.02610", "2003.14053", "2104.07586", "2105.09369"):
        assert f"https://arxiv.org/abs/{paper}" in table
    assert all(link.startswith("https://") for _, whose in sources.SOURCES for link in whose.values())
    text = "\n".join(written(pages[level]) for level in TEXTS).replace(table, "")
    assert set(re.findall(r"\b(?:19|20)\d\d\b", text)) <= set(re.findall(r"\b(?:19|20)\d\d\b", table))


@pytest.mark.browser
@pytest.mark.parametrize("link", ["?level=mathematics#certificate", "#certificate"])
def test_a_link_to_a_section_opens_there(chrome: Any, app_url: str, link: str) -> None:
    """Though formulas and charts above it are drawn later, and push it down; whatever the level of the section."""
    page = open_page(chrome, app_url + "/how_it_works" + link, ready=("#sources",))
    top = "document.getElementById('certificate').getBoundingClientRect().top"
    page.wait_for_function(f"0 <= {top} && {top} < innerHeight / 4", timeout=60_000)
    page.context.close()


@pytest.mark.browser
@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_cut_off_on_a_phone(chrome: Any, app_url: str, level: str) -> None:
    page = open_page(
        chrome, f"{app_url}/how_it_works?level={level}", ready=(f"#{anchors(level)[-1]}",), width=390, height=844
    )
    if level == "mathematics":
        page.locator(".katex-display").last.wait_for()
    # Before their fonts have arrived formulas may be wider.
    whole = "[...document.querySelectorAll('.katex-display')].every(e => e.scrollWidth <= e.clientWidth + 1)"
    page.wait_for_function(f"{whole} && document.documentElement.scrollWidth <= innerWidth", timeout=60_000)
    page.context.close()
