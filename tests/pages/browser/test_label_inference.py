"""The page Label inference in a real browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from benchmarks.browser import button
from tests.pages.browser.elements import TRACK, expect_kept, expect_private, headline, start

pytestmark = pytest.mark.browser
LINK = "/label_inference?indices=4,5,7,19&model=lenet64-elu"
READY = (".dl-answers", ".st-key-accuracy")


def points(page: Page) -> int:
    """How many batches the curves are made of so far."""
    return int((page.locator(".dl-progress span").last.inner_text() or "0").split()[0])


def test_every_strategy_stands_beside_the_pictures_and_tables_come_on_request(visit: Any) -> None:
    page = visit(LINK, ready=READY)
    expect(headline(page)).to_contain_text("1 of 4 frog")
    expect(page.locator(".dl-square figcaption")).to_have_text(["frog"] * 4)
    expect(page.locator(".dl-answers > li")).to_have_count(6)
    expect(page.locator(".dl-answers .dl-wrong").first).to_be_visible()
    assert page.locator(".dl-answers").bounding_box()["y"] < 720
    steps, matrix = page.get_by_test_id("stExpander").all()
    expect(steps.locator(".dl-steps")).to_be_hidden()
    steps.locator("summary").click()
    expect(steps.locator(".dl-steps tbody tr")).to_have_count(5)
    matrix.locator("summary").click()
    hit, miss = page.locator(".dl-matrix .dl-hit").first, page.locator(".dl-matrix .dl-miss").first
    expect(hit).to_have_text("4")
    expect(miss).to_have_text("1")
    look = "e => [getComputedStyle(e).borderRadius, getComputedStyle(e).borderTopStyle]"
    assert hit.evaluate(look)[0] == "50%"
    assert miss.evaluate(look)[1] == "dashed"


def test_curves_come_point_by_point_stop_and_outlive_a_reload(visit: Any) -> None:
    page = visit(LINK + "&draws=50", ready=READY)
    expect(headline(page)).to_contain_text("1 of 4 frog")
    start(page)
    button(page, "stop").wait_for()
    progress = page.locator(".dl-progress span").last
    expect(progress).to_have_text(re.compile("^[1-9]"))
    expect(progress).not_to_have_text(progress.inner_text())  # more come while the visitor watches
    button(page, "stop").click()
    expect(button(page, "start")).to_be_enabled()
    kept = points(page)
    assert 0 < kept < 250
    page.reload()
    expect(button(page, "start")).to_be_enabled()
    expect(progress).to_have_text(re.compile("^[1-9]"))
    assert kept <= points(page) < 250  # the last ones may have been on their way


def test_going_to_another_page_and_back_keeps_both_in_order(visit: Any) -> None:
    page = visit(LINK, ready=READY)
    expect(headline(page)).to_contain_text("1 of 4 frog")
    page.get_by_role("link", name="Live attack").click()
    page.locator(f"{TRACK} figure").first.wait_for()
    expect_kept(page, ["cat", "ship", "airplane", "frog"])
    expect(button(page, "start")).to_be_enabled()
    page.go_back()
    expect(headline(page)).to_contain_text("1 of 4 frog")
    expect_private(page, ["frog"] * 4)


def test_going_back_at_once_shows_the_batch_before(visit: Any) -> None:
    page = visit(LINK, ready=READY)
    examples = page.locator(".st-key-example button")
    mixed, frogs = ["cat", "ship", "airplane", "frog"], ["frog"] * 4
    for place, batch in ((1, mixed), (2, frogs)):
        examples.nth(place).click()
        expect_private(page, batch)
    page.wait_for_url(re.compile("indices=4%2C5"))
    page.go_back()
    expect_private(page, mixed)
    page.wait_for_url(re.compile("indices=0%2C1"))
    page.go_forward()
    expect_private(page, frogs)
