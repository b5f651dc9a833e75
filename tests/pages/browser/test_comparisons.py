"""The comparison pages in a real browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from benchmarks.browser import button
from tests.pages.browser.elements import PANELS, expect_no_error, headline, rebuilt, slider, start

pytestmark = pytest.mark.browser


def panel(page: Page, n: int) -> Locator:
    """The n-th panel from the left."""
    return page.locator(".dl-sides section").nth(n)


def test_one_wrong_label_streams_beside_the_correct_ones(visit: Any) -> None:
    page = visit("/one_wrong_label?indices=0,4&max_iterations=150", ready=PANELS)
    start(page)
    correct, wrong = panel(page, 1), panel(page, 2)
    wrong.locator(".dl-rebuilt img").first.wait_for()
    assert correct.locator(".dl-rebuilt img").count() == 2, "both are shown from the first picture on"
    slider(page).wait_for()  # drawn with the last pictures
    expect(wrong.locator(".dl-wrong")).to_have_count(1)
    expect(correct.locator(".dl-wrong")).to_have_count(0)
    expect(page).to_have_url(re.compile(r".*/one_wrong_label\?pair=[\w-]+$"))
    last, sentence = rebuilt(page), headline(page).inner_text()
    page.reload()
    slider(page).wait_for()
    expect(headline(page)).to_have_text(sentence)
    assert rebuilt(page) == last
    slider(page).focus()
    slider(page).press("Home")
    page.wait_for_function("last => document.querySelector('.dl-aside') && "
                           "document.querySelectorAll('.dl-rebuilt img')[3].src != last", arg=last[3])  # fmt: skip
    button(page, "sweep").click()
    button(page, "stop").wait_for()
    expect(button(page, "start")).to_be_visible()
    expect(page.locator(".st-key-sweep-chart").first).to_be_visible()
    expect(headline(page)).not_to_have_text(sentence)
    expect_no_error(page)


def test_fused_pictures_stand_beside_their_mean_and_are_separated(visit: Any) -> None:
    page = visit("/same_label_fusion?indices=0,4&max_iterations=40", ready=PANELS)
    start(page)
    expect(page.locator(".dl-mean img")).to_have_count(1)
    button(page, "separate").click()
    expect(page.locator(".dl-map")).to_have_count(2)
    slider(page).wait_for()
    page.reload()
    expect(page.locator(".dl-map")).to_have_count(2)
    expect_no_error(page)


def test_gradinversion_infers_a_label_too_few(visit: Any) -> None:
    page = visit("/gradinversion?indices=0,1,4&max_iterations=10", ready=PANELS)
    start(page)
    expect(panel(page, 1)).to_contain_text("2 of 3")
    expect(panel(page, 2)).to_contain_text("3 of 3")
    slider(page).wait_for()
    page.get_by_role("link", name="Live attack").click()  # and back to the page of single runs
    expect(button(page, "start")).to_be_enabled()
    expect_no_error(page)


@pytest.mark.parametrize("name", ["one_wrong_label", "same_label_fusion", "gradinversion"])
def test_panels_stack_on_a_narrow_window(visit: Any, name: str) -> None:
    page = visit(f"/{name}", ready=PANELS, width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
