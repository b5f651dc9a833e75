"""Start the app and a real browser, for tests, benchmarks and screenshots.

with running_app(database) as url, chromium() as browser:
    browser.new_page().goto(url)
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, sync_playwright

ROOT = Path(__file__).parent.parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
START_SECONDS = 60


@contextmanager
def running_app(database: Path, script: str = "app.py", **environment: str) -> Iterator[str]:
    """`streamlit run SCRIPT` on a free port with a run database of its own; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.headless=true", f"--server.port={port}"]
    variables = os.environ | {"DEEPLEAK_DB": f"sqlite:///{database}"} | environment
    app = subprocess.Popen(command, cwd=ROOT, env=variables)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _healthy(url):
            if app.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The app did not start within {START_SECONDS} seconds.")
            time.sleep(0.1)
        yield url
    finally:
        app.terminate()
        app.wait(timeout=START_SECONDS)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium without a window: the system's where there is one, else playwright's own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        browser.close()


STAGE = ".st-key-player-attack-stage"  # the player of the page Live attack
LIVE_ATTACK = (f"{STAGE} .track figure", f"{STAGE} .still figure", ".st-key-threat-model")  # drawn last
STYLED = ".dl-headline, .stHeading"  # what every page has


def open_page(
    browser: Browser,
    url: str,
    *,
    width: int = 1280,
    height: int = 720,
    dark: bool = False,
    ready: Sequence[str] = LIVE_ATTACK,
) -> Page:
    """A fresh visitor: a page of its own context, with the elements that the selectors in `ready` name visible."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light")
    page = context.new_page()
    page.goto(url)
    for selector in (STYLED, *ready):
        page.locator(selector).first.wait_for(timeout=60_000)
    return page


def button(page: Page, key: str) -> Locator:
    """The button of this key; not what Streamlit still shows of the last run of the page."""
    return page.locator(f".st-key-{key}:not([data-retained]) button").first


def warm_up(browser: Browser, url: str) -> None:
    """One short run, after which workers are ready, modules imported and the browser's caches filled."""
    page = open_page(browser, f"{url}/?indices=0,1,3,4&max_iterations=5")
    button(page, "start").click()
    button(page, "pictures").wait_for(timeout=120_000)
    page.context.close()
