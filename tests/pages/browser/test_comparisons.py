"""The comparison pages in a real browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from benchmarks.browser import button
from tests.pages.browser.elements import (
    PANELS,
    column,
    expect_no_error,
    expect_recorded,
    headline,
    settled,
    start,
    timeline,
)

pytestmark = pytest.mark.browser
QUICK = "/one_wrong_label?indices=0,4&max_iterations=150"


def captions(page: Page, n: int) -> list[str]:
    """The words below the pictures of a column."""
    return column(page, n).locator("figcaption").all_inner_texts()


def picture(page: Page, n: int) -> str:
    """The first picture of a column, as data."""
    return column(page, n).locator("canvas").first.evaluate("canvas => canvas.toDataURL()")


def test_one_wrong_label_streams_beside_the_correct_ones(visit: Any) -> None:
    page = visit(QUICK, ready=PANELS)
    start(page)
    expect(column(page, 1).locator("figcaption", has_text="dB")).to_have_count(2)
    expect(column(page, 2).locator("figcaption", has_text="dB")).to_have_count(2)
    expect_recorded(page)
    expect(column(page, 2).locator("figure.wrong")).to_have_count(1)
    expect(column(page, 1).locator("figure.wrong")).to_have_count(0)
    expect(column(page, 2).locator(".gauge b")).to_contain_text("%")
    expect(page).to_have_url(re.compile(r".*/one_wrong_label\?pair=[\w-]+$"))
    last, sentence = captions(page, 2), headline(page).inner_text()
    page.reload()
    expect_recorded(page)
    expect(headline(page)).to_have_text(sentence)
    assert captions(page, 2) == last
    shown = picture(page, 2)
    timeline(page).focus()
    timeline(page).press("Home")
    expect(column(page, 2).locator("figcaption").first).not_to_have_text(last[0])
    assert picture(page, 2) != shown
    expect_no_error(page)


def test_a_label_picked_below_a_private_image_is_wrong_and_the_attacker_corrects_it(visit: Any) -> None:
    page = visit(QUICK, ready=PANELS)
    column(page, 0).locator("select").nth(1).select_option("truck")
    expect(column(page, 2).locator("figure.wrong")).to_contain_text("truck")
    expect_recorded(page)
    before = captions(page, 2)
    button(page, "repair").click()
    expect(page.locator(".st-key-player-compared section.track")).to_have_count(3)
    expect(button(page, "start")).to_be_visible()
    expect(column(page, 3).locator("figcaption", has_text="dB")).to_have_count(2)
    assert captions(page, 2) == before, "columns stay"
    expect(page).to_have_url(re.compile(r"\?pair=[\w-]+&repair=[\w-]+$"))
    button(page, "sweep").click()
    expect(page.locator(".st-key-sweep-chart").first).to_be_visible()
    expect(button(page, "start")).to_be_visible()
    expect_no_error(page)


def test_a_cell_of_the_map_shows_its_attack_and_arrow_keys_move_between_cells(visit: Any) -> None:
    page = visit("/one_wrong_label", ready=PANELS)
    cells = page.locator(".st-key-every-wrong-label button")
    expect(cells).to_have_count(36)
    cell = page.locator(".st-key-every-wrong-label button.chosen")
    expect(cell).to_contain_text("worst")
    cell.focus()
    cell.press("ArrowUp")
    other = page.locator(".st-key-every-wrong-label button:focus")
    assert other.get_attribute("data-id") != cell.get_attribute("data-id")
    chosen = other.get_attribute("data-id")
    other.press("Enter")  # takes the place of what is recorded
    button(page, "stop").wait_for()
    expect(page.locator(".st-key-every-wrong-label button.chosen")).to_have_attribute("data-id", str(chosen))
    expect(headline(page)).to_be_in_viewport()  # the page has gone up to what was started
    button(page, "stop").click()
    expect(button(page, "start")).to_be_visible()
    expect_no_error(page)


def test_a_blend_is_taken_apart_and_results_that_started_apart_melt_into_it(visit: Any) -> None:
    page = visit("/same_label_fusion?indices=3,10&max_iterations=60", ready=PANELS)
    start(page)
    expect_recorded(page)
    tracks = page.locator(".st-key-player-compared section.track")
    for key, count in (("separate", 2), ("scatter", 3)):
        button(page, key).click()
        expect(tracks).to_have_count(count)
        expect(button(page, "start")).to_be_visible()
        expect_recorded(page)
    apart = column(page, 4)
    before, slider = picture(page, 4), apart.locator("input[type=range]")
    slider.focus()
    slider.press("End")
    expect(apart.locator("figcaption").first).not_to_have_text(captions(page, 1)[0])
    pictures = apart.locator("canvas").evaluate_all("all => all.map((canvas) => canvas.toDataURL())")
    assert pictures[0] == pictures[1] != before
    page.reload()
    expect(tracks).to_have_count(3)
    expect_no_error(page)


def test_the_dial_runs_another_batch(visit: Any) -> None:
    page = visit("/same_label_fusion?indices=0,4&max_iterations=40", ready=PANELS)
    page.get_by_role("radio", name="none").click()
    expect_recorded(page)
    expect(page.locator(".st-key-player-compared section.still")).to_have_count(1)
    expect_no_error(page)


def test_gradinversion_infers_a_label_too_few(visit: Any) -> None:
    page = visit("/gradinversion?indices=0,1,4&max_iterations=10", ready=PANELS)
    start(page)
    expect(column(page, 1)).to_contain_text("2/3")
    expect(column(page, 2)).to_contain_text("3/3")
    expect_recorded(page)
    page.get_by_role("link", name="Live attack").click()  # and back to the page of single runs
    expect(button(page, "start")).to_be_enabled()
    expect_no_error(page)


@pytest.mark.parametrize("name", ["one_wrong_label", "same_label_fusion", "gradinversion"])
def test_columns_stack_on_a_narrow_window(visit: Any, name: str) -> None:
    page = visit(f"/{name}", ready=PANELS, width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_on_a_phone_settings_stay_beside_the_first_button(visit: Any) -> None:
    page = visit(QUICK, ready=PANELS, width=390, height=844)
    settings = page.locator(".st-key-slot").get_by_test_id("stPopover")
    before = settled(page, settings.bounding_box)
    start(page)
    expect_recorded(page)
    button(page, "repair").wait_for()  # a third button, which takes a row of its own
    after, first, third = settled(
        page, lambda: [place.bounding_box() for place in (settings, button(page, "start"), button(page, "repair"))]
    )
    assert after["x"] == pytest.approx(before["x"], abs=1)
    assert after["y"] == pytest.approx(first["y"], abs=1)
    assert third["y"] > first["y"] + first["height"]
