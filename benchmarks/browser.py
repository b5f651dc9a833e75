"""Start the app and a real browser, for tests, benchmarks and screenshots.

with running_app(database) as url, chromium() as browser:
    browser.new_page().goto(url)
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, sync_playwright

from benchmarks.ports import free_port

ROOT = Path(__file__).parent.parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
START_SECONDS = 120


@contextmanager
def running_app(database: Path, script: str = "app.py", **environment: str) -> Iterator[str]:
    """`streamlit run SCRIPT` on a free port with a run database of its own; gives its address."""
    with App({"DEEPLEAK_DB": f"sqlite:///{database}"} | environment, script) as app:
        yield app.url


class App:
    """`streamlit run SCRIPT` on a free port of its own, which runs within a block and can be started anew there.

    `quiet` drops its log.
    """

    def __init__(self, environment: Mapping[str, str], script: str = "app.py", *, quiet: bool = False):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        options = ("--server.headless=true", f"--server.port={port}")
        self._command = [sys.executable, "-m", "streamlit", "run", script, *options]
        self._environment = environment
        self._log = subprocess.DEVNULL if quiet else None
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> App:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers. Raises RuntimeError where it does not."""
        variables = {**os.environ, **self._environment}
        self.process = subprocess.Popen(self._command, cwd=ROOT, env=variables, stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + START_SECONDS
        while not _healthy(self.url):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"The app did not start within {START_SECONDS} seconds.")
            time.sleep(0.1)

    def stop(self, *, at_once: bool = False) -> None:
        """End it, if it runs, in order or `at_once`."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)
            self.process.wait(timeout=START_SECONDS)
            self.process = None


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
        page.locator(selector).first.wait_for(timeout=120_000)
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
