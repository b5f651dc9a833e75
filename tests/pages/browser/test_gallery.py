"""The gallery in a real browser: a click plays a recording, and nothing is computed for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from benchmarks.browser import button
from deepleak_core.runs.recording import gallery
from deepleak_core.runs.store import Store
from tests.pages.browser.elements import expect_no_error, headline, places

pytestmark = pytest.mark.browser


def test_a_click_on_a_card_plays_it_without_a_run(visit: Callable[..., Page], fresh_app: tuple[str, Path]) -> None:
    url, database = fresh_app
    first, *_, last = gallery()
    page = visit("/gallery", url=url, ready=(".dl-mosaic",))
    button(page, f"play-{last.name}").wait_for()  # the cards are drawn
    page.locator(".dl-mosaic").first.click(force=True)  # the button covers the card
    page.locator(".st-key-player-gallery-stage .frame.playing").wait_for()
    expect(headline(page)).to_have_text(first.sentence)
    assert f"recording={first.name}" in page.url
    button(page, "all").click()
    expect(page.locator(".dl-mosaic").first).to_be_visible()
    expect_no_error(page)
    assert not database.exists() or not Store(f"sqlite:///{database}").runs()


def test_why_a_file_is_not_taken_can_be_read(visit: Callable[..., Page], tmp_path: Path) -> None:
    """The browser refuses what is no archive by its name, and sends nothing."""
    (tmp_path / "notes.txt").write_text("no archive")
    page = visit("/gallery", ready=(".dl-mosaic",))
    button(page, "open").click()
    page.locator(".st-key-file input").set_input_files(tmp_path / "notes.txt")
    refusal = page.locator(".st-key-file [role=alert]")
    expect(refusal).to_contain_text("not allowed")
    box = refusal.bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) > 10


@pytest.mark.parametrize("recording", ["several-local-steps", "digits", "large-photos", "gradinversion"])
def test_private_and_rebuilt_images_stand_opposite_each_other(visit: Callable[..., Page], recording: str) -> None:
    stage = ".st-key-player-gallery-stage"
    page = visit(f"/gallery?recording={recording}", width=1920, height=1080, ready=(f"{stage} .track canvas",))
    private, rebuilt = places(page, f"{stage} .still", f"{stage} .track:not(.track ~ .track)")
    assert private == rebuilt
    assert rebuilt[0][2] >= 200
