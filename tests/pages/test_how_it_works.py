"""How it works: every section, its figures from the files that ship, its links."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from benchmarks.browser import open_page
from tests.helpers import ROOT, app_page, page_html, pictures_named
from ui.how_it_works import figures, sources

SHIPPED = 500_000  # bytes of all figures together


@pytest.fixture(scope="module")
def page() -> AppTest:
    return app_page("how_it_works")


def anchors(page: AppTest) -> list[str]:
    return [header.anchor for header in page.header]


def written(page: AppTest) -> str:
    return "\n".join(piece.value for piece in page.markdown)


def drawn(page: AppTest) -> str:
    return page_html(page)


# ------------------------------------------------------------------------------------------------------ the page


def test_contents_lead_to_every_section_and_to_nothing_else(page: AppTest) -> None:
    contents = page.markdown[0].value
    assert re.findall(r"\(#([\w-]+)\)", contents) == anchors(page)
    assert len(set(anchors(page))) == len(anchors(page)) >= 14
    assert all(header.value.startswith(f"{n}. ") for n, header in enumerate(page.header, 1))


def test_every_section_that_a_page_links_to_is_there(page: AppTest) -> None:
    files = [*(ROOT / "ui").rglob("*.py"), *(ROOT / "pages").glob("*.py"), ROOT / "README.md"]
    linked = {anchor for file in files for anchor in re.findall(r"how_it_works#([\w-]+)", file.read_text())}
    assert linked <= set(anchors(page))


def test_sections_named_by_number_are_the_ones_meant(page: AppTest) -> None:
    titles = {header.value.partition(". ")[0]: header.anchor for header in page.header}
    named = {titles[n] for n in re.findall(r"[Ss]ections? (\d+)", written(page))}
    assert named == {"labels", "separation", "certificate"}


def test_the_formulas_are_there_and_closed(page: AppTest) -> None:
    text = written(page)
    for formula in (
        r"\frac{\theta_0 - \theta_T}{\eta\, T}",
        r"n = K\,\bar p - K",
        r"U S V^\top",
        r"S^{-1} c_l = [k = l]",
    ):
        assert formula in text
    for piece in page.markdown:
        assert piece.value.count("$") % 2 == 0
        assert piece.value.count("{") == piece.value.count("}")


def test_every_figure_has_a_picture_or_chart_and_a_caption(page: AppTest) -> None:
    named = [picture for name in figures.measured() for picture in pictures_named(figures.measured()[name])]
    assert drawn(page).count("<img") >= len(set(named))
    functions = [draw for draw in vars(figures).values() if inspect.isfunction(draw)]
    with_caption = [draw for draw in functions if "_caption" in draw.__code__.co_names]
    assert drawn(page).count("dl-caption") == len(with_caption)
    assert len(page.get("plotly_chart")) == 9


def test_captions_quote_the_run(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other numbers, other captions: none of them is typed by hand."""
    cases = figures.measured()["wrong_label"]["cases"]
    assert f"the worst has {min(cases[0]['psnr']):.0f} dB" in drawn(page)
    said: list[str] = []
    monkeypatch.setattr(figures, "_caption", said.append)
    changed = json.loads(json.dumps(figures.measured()))
    changed["fusion"] |= {"exact_pixels": False, "psnr_to_mean": 0.0}
    monkeypatch.setattr(figures, "measured", lambda: changed)
    figures.exact()
    figures.fused()
    assert "not every pixel is exact" in said[0]
    assert "no closer to their mean" in said[1]


def test_every_source_has_a_link_and_the_papers_named_are_among_them(page: AppTest) -> None:
    table = sources.table()
    assert table in [piece.value for piece in page.markdown]
    for paper in ("2110.09074", "1906.08935", "2001.02610", "2003.14053", "2104.07586", "2105.09369"):
        assert f"https://arxiv.org/abs/{paper}" in table
    assert all(link.startswith("https://") for _, whose in sources.SOURCES for link in whose.values())
    years = set(re.findall(r"\b(20[12]\d)\b", written(page).replace(table, "")))
    assert years <= set(re.findall(r"\b(20[12]\d)\b", table))


@pytest.mark.browser
def test_a_link_to_a_section_opens_there(chrome: Any, app_url: str) -> None:
    """Though formulas and charts above it are drawn later, and push it down."""
    page = open_page(chrome, app_url + "/how_it_works#certificate", ready=("#ethics",))
    top = "document.getElementById('certificate').getBoundingClientRect().top"
    page.wait_for_function(f"0 <= {top} && {top} < innerHeight / 4", timeout=60_000)
    page.context.close()
