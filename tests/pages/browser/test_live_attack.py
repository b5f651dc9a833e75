"""The page Live attack in a real browser, with a real attack behind it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from benchmarks.browser import LIVE_ATTACK, STAGE, button, running_app
from tests.pages.browser.elements import (
    KEPT,
    MESSAGE,
    TRACK,
    expect_kept,
    expect_no_error,
    expect_recorded,
    headline,
    places,
    settled,
    shown,
    start,
    timeline,
)
from ui.address import WELCOME
from ui.live.examples import recorded_for

pytestmark = pytest.mark.browser
LONG = "/?indices=0,1,3,4&max_iterations=100000"
SHORT = "/?indices=0,4&max_iterations=30"
WINDOW = 720  # height in pixels


def live_picture(page: Page) -> None:
    """Wait until the stage shows a run that goes on."""
    expect(page.locator(f"{TRACK} .status")).to_contain_text("iteration")


def expect_playing(page: Page, playing: bool) -> None:
    """The recording moves, or does not."""
    expect(page.locator(f"{STAGE} .frame.playing")).to_have_count(int(playing))


def finished(page: Page) -> None:
    """Wait until a run is over and drawn: buttons come before the player has decoded the pictures."""
    button(page, "pictures").wait_for()
    expect_recorded(page, STAGE)


def until_new(page: Page, before: str) -> str:
    """Wait for another first picture."""
    for _ in range(900):
        if (now := shown(page)[0]) != before:
            return now
        page.wait_for_timeout(100)
    raise AssertionError("the picture does not change")


@pytest.mark.skipif(recorded_for(WELCOME) is None, reason="no recording of it in the gallery")
def test_the_first_visit_plays_a_recorded_attack_beside_the_button_that_runs_it(visit: Any) -> None:
    page = visit(ready=(f"{STAGE} .frame.playing", *LIVE_ATTACK))
    expect_kept(page, ["cat", "ship", "airplane", "frog"])
    expect(button(page, "start")).to_be_enabled()
    expect_playing(page, False)  # when it has reached its end
    expect(page.locator(f"{TRACK} [data-verdict]").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"/$"))


def test_one_click_rebuilds_the_images_and_a_reload_finds_the_same_run(visit: Any) -> None:
    page = visit("/?indices=0,1,3,4&seed=5")
    expect_kept(page, ["cat", "ship", "airplane", "frog"])
    before = shown(page)[0]
    start(page)
    live_picture(page)
    for _ in range(3):  # the pictures change while the attack goes on
        before = until_new(page, before)
    finished(page)
    expect(page).to_have_url(re.compile(r".*/\?run=[\w-]+$"))
    address, last, sentence = page.url, shown(page), headline(page).inner_text()
    page.reload()
    finished(page)
    expect(page).to_have_url(address)
    expect(headline(page)).to_have_text(sentence)
    assert shown(page) == last
    with page.expect_download() as download:
        button(page, "figures").click()
    assert '"mean_psnr"' in download.value.path().read_text()
    with page.expect_download() as download:
        button(page, "pictures").click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
    expect_no_error(page)


def test_moments_are_pushed_and_the_page_ends_with_the_run(visit: Any) -> None:
    page = visit(LONG)
    pushed: list[str | bytes] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: pushed.append(frame)))
    start(page)
    for _ in range(900):
        page.wait_for_timeout(100)
        if sum(isinstance(frame, str) for frame in pushed) > 2:  # Streamlit's own are bytes
            break
    else:
        raise AssertionError("no moments are pushed")
    button(page, "stop").click()
    finished(page)


def test_without_pushed_moments_the_pictures_still_change(visit: Any) -> None:
    page = visit()
    page.route_web_socket(re.compile("/moments/"), lambda socket: socket.close())
    page.goto(page.url.rstrip("/") + LONG)
    start(page)
    live_picture(page)
    until_new(page, shown(page)[0])
    button(page, "stop").click()
    finished(page)


def test_the_settings_opened_after_a_run_are_those_of_the_run(visit: Any) -> None:
    page = visit("/?indices=0,4&max_iterations=30&attack=exact")
    start(page)
    button(page, "pictures").wait_for()
    page.wait_for_url("**/?run=*")
    run = re.compile(re.escape(page.url) + "(&.*)?$")
    page.locator(".st-key-drawer button").first.click()
    expect(page.locator(".st-key-mode [aria-checked=true], .st-key-mode [aria-pressed=true]")).to_have_count(1)
    page.locator(".st-key-suspense label").click()  # returns the values of all settings
    page.wait_for_url("**suspense=true")
    expect(page).to_have_url(run)
    expect(button(page, "pictures")).to_be_visible()


def test_settings_are_as_wide_for_photos_whose_cost_they_say(visit: Any) -> None:
    widths = []
    for link in ("/", "/?dataset=imagenet-samples&image_size=64&indices=0,1,2,3&attack=exact"):
        page = visit(link)
        page.locator(".st-key-drawer button").first.click()
        settings = page.get_by_test_id("stPopoverBody")
        settings.locator(".st-key-suspense").wait_for()
        widths.append(settings.evaluate("e => e.offsetWidth"))
    assert widths[0] == widths[1]


def test_the_first_window_shows_the_whole_stage(visit: Any) -> None:
    page = visit()
    boxes = [button(page, "start").bounding_box(), timeline(page).bounding_box()]
    boxes += [tile.bounding_box() for tile in page.locator(f"{KEPT} canvas, {TRACK} figure").all()]
    assert len(boxes) == 10
    assert all(box["y"] >= 0 and box["y"] + box["height"] <= WINDOW for box in boxes)
    rebuilt = page.locator(TRACK).bounding_box()
    assert rebuilt["height"] >= 0.6 * WINDOW


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080)])
@pytest.mark.parametrize(
    "link", ["/", "/?indices=0,1,3", "/?dataset=imagenet-samples&image_size=224&network=strided&indices=0,1"]
)
def test_private_and_rebuilt_images_stand_opposite_each_other(visit: Any, link: str, width: int, height: int) -> None:
    page = visit(link, width=width, height=height)
    private, rebuilt = places(page, KEPT, TRACK)
    assert private == rebuilt
    if len(rebuilt) == 4:
        stage = page.locator(f"{STAGE} .player").bounding_box()["height"]
        rows = len({y for _, y, _ in rebuilt})
        assert rows * rebuilt[0][2] >= (0.6 * stage if height == WINDOW else 400)


def test_nothing_moves_on_the_page_during_a_run(visit: Any) -> None:
    page = visit(LONG)

    def places() -> list[Any]:
        page.mouse.move(0, 0)
        found = [page.locator(place).bounding_box() for place in (".st-key-examples", ".st-key-top-row", STAGE, TRACK)]
        return [*found, page.locator(f"{TRACK} canvas").first.bounding_box(), page.locator(KEPT).bounding_box()]

    before = settled(page, places)
    start(page)
    live_picture(page)
    during = places()
    button(page, "stop").click()
    finished(page)
    assert before == during == places()


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1920, 1080)])
def test_the_page_fits_the_width_of_a_window(visit: Any, width: int, height: int) -> None:
    page = visit(width=width, height=height)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_second_visitor_follows_the_run_by_its_link_and_cannot_stop_it(visit: Any) -> None:
    first = visit(LONG)
    start(first)
    live_picture(first)
    first.wait_for_url("**/?run=*")
    second = visit(first.url.removeprefix(first.url.split("/?")[0]))
    live_picture(second)
    until_new(second, shown(second)[0])
    expect(button(second, "stop")).to_have_count(0)
    button(first, "stop").click()
    for page in (first, second):
        expect(button(page, "start")).to_be_enabled()
        finished(page)
    assert shown(first) == shown(second)


def test_a_run_that_is_over_can_be_played_again(visit: Any) -> None:
    page = visit(SHORT)
    start(page)
    finished(page)
    last = shown(page)[0]
    timeline(page).focus()
    timeline(page).press("Home")
    earlier = until_new(page, last)
    timeline(page).press("End")
    assert until_new(page, earlier) == last


def test_cards_set_the_controls_and_the_address_and_back_undoes_it(visit: Any) -> None:
    page = visit()
    page.get_by_role("button", name="Same label").click()
    page.wait_for_url("**/?indices=4*")
    expect_kept(page, ["frog"] * 4)
    page.wait_for_timeout(2500)  # until the address counts as settled
    page.go_back()
    expect_kept(page, ["cat", "ship", "airplane", "frog"])


def test_a_link_opens_the_scenario_that_its_sender_saw(visit: Any) -> None:
    page = visit("/?dataset=cifar100-samples&labels=rose,rose2,sea&mode=fedavg&local_epochs=3")
    expect(page.locator(MESSAGE).filter(has_text="rose2")).to_be_visible()  # refused in a sentence
    page = visit("/?dataset=cifar100-samples&labels=rose,sea&mode=fedavg&local_epochs=3&suspense=true")
    expect(page.locator(f"{KEPT} figure")).to_have_count(2)
    expect_kept(page, ["", ""])
    page.locator(".st-key-drawer button").first.click()
    expect(page.locator(".st-key-labels input")).to_have_value("rose, sea")
    page.locator(".st-key-suspense label").click()
    expect_kept(page, ["rose", "sea"])


def test_a_fused_batch_is_recovered_exactly(visit: Any) -> None:
    page = visit("/?indices=4,5,7,19&max_iterations=40")
    start(page)
    button(page, "further").click()
    expect(page.locator(".dl-map")).to_have_count(2)  # drawn when the run is over
    assert page.locator(".dl-stages li").count() > 2
    expect(button(page, "further")).to_be_hidden()


def test_after_a_wrong_code_the_right_one_makes_a_presenter_while_a_run_goes_on(visit: Any, tmp_path: Path) -> None:
    with running_app(tmp_path / "runs.sqlite", DEEPLEAK_PRESENTER_CODE="abc12345") as url:
        owner = visit(LONG, url=url)
        start(owner)
        live_picture(owner)
        other = visit(owner.url.removeprefix(url), url=url, ready=(STAGE,))
        live_picture(other)
        other.locator(".st-key-presenter-code-place button").first.click()
        entry = other.locator(".st-key-presenter-code input")
        for code in ("wrong", "", "abc12345"):
            other.wait_for_timeout(1500)  # the page redraws itself meanwhile
            entry.fill(code)
            entry.press("Enter")
            if code == "wrong":
                expect(other.locator(MESSAGE)).to_have_count(1)
                expect(entry).to_have_value("")
        expect(entry).to_have_count(0)
        button(other, "stop").click()
        expect(button(other, "start")).to_be_visible()
