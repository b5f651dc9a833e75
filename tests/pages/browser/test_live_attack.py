"""The page Live attack in a real browser, with a real attack behind it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from benchmarks.browser import button
from tests.pages.browser.elements import expect_no_error, expect_private, headline, rebuilt, slider, start

pytestmark = pytest.mark.browser
LONG = "/?indices=0,1,3,4&max_iterations=100000"
SHORT = "/?indices=0,4&max_iterations=30"


def test_one_click_rebuilds_the_images_and_a_reload_finds_the_same_run(visit: Any) -> None:
    page = visit()
    expect_private(page, ["cat", "ship", "airplane", "frog"])
    start(page)
    page.wait_for_selector(".dl-rebuilt img")
    seen = {rebuilt(page)[0]}
    while len(seen) < 5:  # the pictures change while the attack goes on
        page.wait_for_timeout(100)
        seen.add(rebuilt(page)[0])
    button(page, "pictures").wait_for()  # drawn last
    expect(page).to_have_url(re.compile(r".*/\?run=[\w-]+$"))
    address, last, sentence = page.url, rebuilt(page), headline(page).inner_text()
    page.reload()
    button(page, "pictures").wait_for()
    expect(page).to_have_url(address)
    expect(headline(page)).to_have_text(sentence)
    assert rebuilt(page) == last
    with page.expect_download() as download:
        button(page, "figures").click()
    assert '"mean_psnr"' in download.value.path().read_text()
    with page.expect_download() as download:
        button(page, "pictures").click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
    expect_no_error(page)


def test_the_first_window_shows_the_button_the_private_and_the_rebuilt_pictures(visit: Any) -> None:
    page = visit()
    boxes = [button(page, "start").bounding_box()]
    boxes += [tile.bounding_box() for tile in page.locator(".dl-thumbs img, .dl-rebuilt .dl-tile").all()]
    assert len(boxes) == 9
    assert all(box["y"] >= 0 and box["y"] + box["height"] <= 720 for box in boxes)


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1920, 1080)])
def test_the_page_fits_the_width_of_a_window(visit: Any, width: int, height: int) -> None:
    page = visit(width=width, height=height)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_second_visitor_follows_the_run_by_its_link_and_stops_it(visit: Any) -> None:
    first = visit(LONG)
    start(first)
    first.wait_for_selector(".dl-rebuilt img")
    first.wait_for_url("**/?run=*")
    second = visit(first.url.removeprefix(first.url.split("/?")[0]))
    second.wait_for_selector(".dl-rebuilt img")
    before = rebuilt(second)
    second.wait_for_function("before => document.querySelector('.dl-rebuilt img').src != before", arg=before[0])
    button(second, "stop").click()
    for page in (first, second):
        expect(button(page, "start")).to_be_enabled()
        button(page, "pictures").wait_for()  # drawn last
    assert rebuilt(first) == rebuilt(second)


def test_the_replay_shows_an_earlier_picture(visit: Any) -> None:
    page = visit(SHORT)
    start(page)
    slider(page).wait_for()
    last = rebuilt(page)
    slider(page).focus()
    slider(page).press("Home")
    page.wait_for_function("last => document.querySelector('.dl-rebuilt img').src != last", arg=last[0])


def test_examples_set_the_controls_and_the_address_and_back_undoes_it(visit: Any) -> None:
    page = visit()
    page.locator(".st-key-example").get_by_text("Same label").click()
    page.wait_for_url("**/?indices=4*")
    expect_private(page, ["frog"] * 4)
    page.wait_for_timeout(2500)  # until the address counts as settled
    page.go_back()
    expect_private(page, ["cat", "ship", "airplane", "frog"])


def test_a_link_opens_the_scenario_that_its_sender_saw(visit: Any) -> None:
    page = visit("/?dataset=cifar100-samples&labels=rose,rose2,sea&mode=fedavg&local_epochs=3")
    expect(page.get_by_test_id("stAlert").filter(has_text="rose2")).to_be_visible()  # refused in a sentence
    page = visit("/?dataset=cifar100-samples&labels=rose,sea&mode=fedavg&local_epochs=3&suspense=true")
    expect(page.locator(".dl-thumbs img")).to_have_count(0)
    expect(page.locator(".dl-thumbs figure")).to_have_count(2)
    expect(page.locator(".st-key-labels input")).to_have_value("rose, sea")
    page.locator(".st-key-suspense label").click()
    expect_private(page, ["rose", "sea"])


def test_a_fused_batch_is_recovered_exactly(visit: Any) -> None:
    page = visit("/?indices=4,5,7,19&max_iterations=40")
    start(page)
    button(page, "further").click()
    expect(page.locator(".dl-map")).to_have_count(2)
    page.locator(".dl-stages li").nth(2).wait_for()  # drawn when the run is over
    expect(button(page, "further")).to_be_hidden()
