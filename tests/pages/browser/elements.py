"""What browser tests look for on pages: by role, key and class, not by wording."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from playwright.sync_api import Locator, Page, expect

from benchmarks.browser import STAGE, button

PATIENCE = 90_000  # milliseconds: these tests ask whether things happen, not how fast
expect.set_options(timeout=PATIENCE)
TRACK, KEPT = f"{STAGE} .track", f"{STAGE} .still"  # on the page Live attack: what is rebuilt, and the private images
MESSAGE = ".dl-message"
Found = TypeVar("Found")
PANELS = (".st-key-player-compared canvas",)  # of a comparison page that is ready


def shown(page: Page) -> list[str]:
    """What the canvases of the rebuilt pictures of the page Live attack show."""
    found: list[str] = page.locator(f"{TRACK} canvas").evaluate_all("all => all.map(canvas => canvas.toDataURL())")
    return found


def expect_kept(page: Page, names: list[str]) -> None:
    """The labels of the private images of the page Live attack, in order."""
    expect(page.locator(f"{KEPT} figcaption .name")).to_have_text(names)


def expect_private(page: Page, names: list[str]) -> None:
    """The labels of the private images, in order."""
    expect(page.locator(".dl-square figcaption")).to_have_text(names)


def headline(page: Page) -> Locator:
    """The sentence at the top of the page."""
    return page.locator(".dl-headline")


def column(page: Page, n: int) -> Locator:
    """The n-th column of a player, from the left."""
    return page.locator(".st-key-player-compared section.column").nth(n)


def timeline(page: Page) -> Locator:
    """The timeline of a player, with which a recording can be moved."""
    return page.get_by_role("slider", name="Time in the attack")


def expect_recorded(page: Page, player: str = ".st-key-player-compared") -> None:
    """A player shows runs that have ended: they can be played again, and their last pictures are drawn."""
    expect(page.locator(player).get_by_role("button", name="Play")).to_be_enabled()


def start(page: Page) -> None:
    """Press the button that starts what the page is about."""
    button(page, "start").click()


def expect_no_error(page: Page) -> None:
    """No exception and no error message on the page."""
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.locator(MESSAGE)).to_have_count(0)


def expect_drawn_by_the_app(page: Page) -> None:
    """The navigation and the style sheet are there."""
    expect(page.get_by_role("link", name="Live attack")).to_be_visible()
    assert page.locator(".dl-headline").first.evaluate("e => getComputedStyle(e).display") == "grid"


def settled(page: Page, look: Callable[[], Found]) -> Found:
    """What a look finds once it stays the same: fonts and sizes may arrive after the pictures."""
    before, now = None, look()
    while before != now:
        page.wait_for_timeout(300)
        before, now = now, look()
    return now


def places(page: Page, *columns: str) -> list[list[tuple[float, float, float]]]:
    """Where the pictures of columns stand: from the left of the first, from the top of the window, and how wide."""
    look = "all => all.map(canvas => canvas.getBoundingClientRect().toJSON())"
    found = settled(page, lambda: [page.locator(f"{column} canvas").evaluate_all(look) for column in columns])
    return [
        [(round(box["x"] - boxes[0]["x"]), round(box["y"]), round(box["width"])) for box in boxes] for boxes in found
    ]
