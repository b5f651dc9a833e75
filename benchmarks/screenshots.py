"""Take the screenshot of the README from the running app: `python -m benchmarks.screenshots`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.browser import ROOT, button, chromium, open_page, running_app, warm_up

SCREENSHOT = ROOT / "assets" / "screenshot.png"
WIDTH, HEIGHT = 1280, 720


def main() -> None:
    """Run the attack that the app opens with, and capture the page when it has ended."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_app(Path(folder) / "runs.sqlite") as url,
        chromium() as browser,
    ):
        warm_up(browser, url)
        page = open_page(browser, url, width=WIDTH, height=HEIGHT)
        button(page, "start").click()
        page.mouse.move(0, 0)
        button(page, "pictures").wait_for(timeout=180_000)
        page.wait_for_timeout(1000)  # until fonts and pictures have settled
        page.screenshot(path=SCREENSHOT)
    print(f"{SCREENSHOT.relative_to(ROOT)} ({SCREENSHOT.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
