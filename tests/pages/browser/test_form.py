"""Every page, as a visitor finds it, in windows from a phone to a lecture hall, light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.helpers import ROOT
from tests.pages.browser.elements import PATIENCE

pytestmark = pytest.mark.browser

PAGES = sorted(file.stem for file in (ROOT / "pages").glob("*.py"))
WINDOWS = {"laptop": (1280, 720), "hall": (1920, 1080), "phone": (390, 844)}
FAULTS = (Path(__file__).parent / "form.js").read_text()
SETTLED = "document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'"
SETTLING_MS = 1200  # for charts, pictures and components after the last message
RESIZING_MS = 300  # for what is laid out by scripts
MOST_LOOKS = 40  # at a page that shows faults: a busy machine may not have laid it out yet
BACKGROUND = "getComputedStyle(document.querySelector('.stApp')).backgroundColor"


def opened(browser: Any, url: str, name: str, window: str = "laptop") -> tuple[Page, list[str]]:
    """A page that has come to rest, and what its console says of errors, then and later."""
    width, height = WINDOWS[window]
    page = browser.new_page(color_scheme="light", viewport={"width": width, "height": height})
    page.set_default_timeout(PATIENCE)
    errors: list[str] = []
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url + ("/" if name == "live_attack" else f"/{name}"))
    page.locator(".dl-headline, .stHeading").first.wait_for()
    page.wait_for_function(SETTLED)
    page.wait_for_timeout(SETTLING_MS)
    return page, errors


def turn(page: Page, appearance: str) -> None:
    """Have the page drawn in the other appearance, and wait until it is."""
    before = page.evaluate(BACKGROUND)
    page.emulate_media(color_scheme=appearance)  # type: ignore[arg-type]
    page.wait_for_function(f"before => {BACKGROUND} !== before", arg=before)


def faults_of(page: Page) -> list[str]:
    """What is wrong with the page, once it is at rest."""
    for _ in range(MOST_LOOKS):
        page.wait_for_timeout(RESIZING_MS)
        found: list[str] = page.evaluate(FAULTS)
        if not found:
            break
    return found


@pytest.mark.parametrize("name", PAGES)
def test_nothing_overlaps_is_cut_or_too_faint(chrome: Any, app_url: str, name: str) -> None:
    page, errors = opened(chrome, app_url, name)
    faults, appearance = {}, "light"
    for window, (width, height) in WINDOWS.items():
        page.set_viewport_size({"width": width, "height": height})
        faults[window, appearance] = faults_of(page)
        appearance = "dark" if appearance == "light" else "light"
        turn(page, appearance)
        faults[window, appearance] = faults_of(page)
    page.close()
    assert len(faults) == 2 * len(WINDOWS)
    assert {where: found for where, found in faults.items() if found} == {}
    assert errors == []


SHIFTS = """() => new Promise((done) => {
  let sum = 0;
  const added = (list) => list.getEntries().forEach((entry) => (sum += entry.value));
  new PerformanceObserver(added).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done(sum), 500);
})"""
GOOD_SHIFT = 0.1  # cumulative layout shift that counts as good, https://web.dev/articles/cls


@pytest.mark.parametrize("window", ["laptop", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_what_loads_later_moves_nothing(chrome: Any, app_url: str, name: str, window: str) -> None:
    page, _ = opened(chrome, app_url, name, window)
    shift = page.evaluate(SHIFTS)
    page.close()
    assert shift < GOOD_SHIFT
