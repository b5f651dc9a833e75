"""The guided tour in a real browser: every step by its links, left, and resumed."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, WebSocketRoute, expect
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.browser import STAGE, button
from tests.pages.browser.elements import expect_no_error
from ui.tour import STEPS
from ui.tour.steps import Step

pytestmark = pytest.mark.browser
BAR = (".dl-tour",)
COMPARED = ".st-key-player-compared"
PLAYED = {"live_attack": STAGE, "one_wrong_label": COMPARED, "same_label_fusion": COMPARED}  # the players of pages
LEFT = 3  # the step at which the visitor leaves and resumes


def link(page: Page, name: str) -> Locator:
    """A link of the bar, by its words."""
    return page.locator(".st-key-tour").get_by_role("link", name=name)


def expect_step(page: Page, number: int) -> None:
    """The bar shows this step and leads on to the next one, and the address names it."""
    expect(page.locator(".dl-tour b")).to_have_text(f"{number}/{len(STEPS)}")
    if number < len(STEPS):
        expect(link(page, "Next")).to_have_attribute("href", re.compile(rf"[?&]tour={number + 1}(&|$)"))
    expect(page).to_have_url(re.compile(rf"[?&]tour={number}(&|$)"))


def test_the_tour_is_walked_left_and_resumed(visit: Callable[..., Page]) -> None:
    page = visit("/?tour=1", ready=BAR)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    for number in range(1, len(STEPS)):
        expect_step(page, number)
        expect_no_error(page)
        if number == LEFT:
            button(page, "tour-leave").press("Enter")
            expect(page.locator(".dl-tour")).to_have_count(0)
            expect(page).not_to_have_url(re.compile("tour="))
            page.get_by_role("link", name="Tour", exact=True).press("Enter")
            expect_step(page, number)
        link(page, "Next").press("Enter")
    expect_step(page, len(STEPS))
    link(page, "Back").press("Enter")
    expect_step(page, len(STEPS) - 1)
    assert errors == []


def late_addresses(socket: WebSocketRoute) -> None:
    """Relay all, and repeat the last address from the server after each request for step 3, as if it had been late."""
    server, addresses = socket.connect_to_server(), list[bytes]()

    def to_browser(data: str | bytes) -> None:
        if isinstance(data, bytes) and ForwardMsg.FromString(data).WhichOneof("type") == "page_info_changed":
            addresses.append(data)
        socket.send(data)

    def to_server(data: str | bytes) -> None:
        server.send(data)
        if isinstance(data, bytes) and "tour=3" in BackMsg.FromString(data).rerun_script.query_string:
            socket.send(addresses[-1])

    server.on_message(to_browser)
    socket.on_message(to_server)


def test_an_address_of_the_page_before_that_comes_late_does_not_stay(visit: Callable[..., Page]) -> None:
    page = visit("/?tour=1", ready=BAR)
    page.route_web_socket(re.compile("/_stcore/stream"), late_addresses)
    page.reload()
    expect_step(page, 1)
    link(page, "Next").press("Enter")
    page.wait_for_url("**/label_inference?tour=2")  # shorter than that of the link: the page has written it
    expect_step(page, 2)
    link(page, "Next").press("Enter")
    expect_step(page, 3)
    link(page, "Next").press("Enter")
    expect_step(page, 4)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080)])
@pytest.mark.parametrize("step", [step for step in STEPS if step.page in PLAYED], ids=lambda step: step.page)
def test_a_player_below_the_bar_fits_the_window(
    visit: Callable[..., Page], step: Step, width: int, height: int
) -> None:
    link = "/" if step.page == "live_attack" else f"/{step.page}"
    page = visit(f"{link}?tour={STEPS.index(step) + 1}", ready=(*BAR, PLAYED[step.page]), width=width, height=height)
    clock = page.locator(f"{PLAYED[step.page]} .clock").bounding_box()
    assert clock is not None
    assert clock["y"] + clock["height"] <= height + 0.5


def test_a_link_opens_its_step_beside_the_content_on_a_phone(visit: Callable[..., Page]) -> None:
    page = visit("/one_wrong_label?tour=3", ready=BAR, width=390, height=844)
    expect_step(page, 3)
    bar, sentence = page.locator(".st-key-tour").bounding_box(), page.locator(".dl-headline").first.bounding_box()
    assert bar is not None
    assert sentence is not None
    assert bar["y"] + bar["height"] <= sentence["y"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
