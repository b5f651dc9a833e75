"""Measure in a real browser how soon something moves: `python -m benchmarks.first_sight [--visits 5]`.

From the request of the first page to its third different picture, by the first visitor of a server that has just
started (cold) and by later ones (warm), and from a click in the gallery to the third picture of its recording. Prints a
table and writes benchmarks/results/first_sight.json. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize

from benchmarks import markdown, outcomes
from benchmarks.browser import chromium, running_app
from deepleak_core.runs.recording import gallery

RESULT = outcomes.RESULTS / "first_sight.json"
WINDOW: ViewportSize = {"width": 1280, "height": 720}
PATIENCE = 60_000  # ms
RECORDINGS = ("distinct", "one-wrong-label", "same-label")
PICTURES = 3
# Collects what all canvases of the page show, shadow roots included; true once that has changed so often.
MOVING = """(pictures) => {
    const canvases = [];
    const walk = (root) => root.querySelectorAll("*").forEach((element) => {
        if (element.tagName === "CANVAS") canvases.push(element);
        if (element.shadowRoot) walk(element.shadowRoot);
    });
    walk(document);
    const pixels = (canvas) => {
        const { width, height } = canvas;
        if (!width || !height) return "";
        return canvas.getContext("2d").getImageData(0, 0, width, height).data.slice(0, 4000).join();
    };
    const shown = canvases.map(pixels).join("|");
    window.picturesSeen = window.picturesSeen || new Set();
    if (shown) window.picturesSeen.add(shown);
    return window.picturesSeen.size > pictures;
}"""


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--visits", type=int, default=5)
    visits = parser.parse_args().visits
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        cold, warm, clicks = [], [], []
        for number in range(visits):
            with running_app(Path(folder) / f"{number}.sqlite") as url:
                cold.append(_visit(browser, url))
                warm.append(_visit(browser, url))
                clicks.append(_click(browser, url, RECORDINGS[number % len(RECORDINGS)]))
    seconds = {"cold": _rounded(cold), "warm": _rounded(warm), "gallery": _rounded(clicks)}
    outcomes.write(RESULT, outcomes.measured_with("benchmarks.first_sight") | {"seconds": seconds})
    print(table())


def _visit(browser: Browser, url: str) -> float:
    page = browser.new_page(viewport=WINDOW)
    began = time.monotonic()
    page.goto(url)
    seconds = _moving_since(page, began)
    page.wait_for_timeout(8000)  # the engine loads; the next measurement is not to pay for it
    page.close()
    return seconds


def _click(browser: Browser, url: str, name: str) -> float:
    page = browser.new_page(viewport=WINDOW)
    page.goto(f"{url}/gallery")
    title = next(head.title for head in gallery() if head.name == name)
    card = page.get_by_text(title).first
    card.wait_for(timeout=PATIENCE)
    page.wait_for_timeout(2000)
    began = time.monotonic()
    card.click()
    seconds = _moving_since(page, began)
    page.close()
    return seconds


def _moving_since(page: Page, began: float) -> float:
    page.wait_for_function(MOVING, arg=PICTURES, timeout=PATIENCE, polling=30)
    return time.monotonic() - began


def _rounded(seconds: list[float]) -> list[float]:
    return [round(value, 2) for value in seconds]


def table() -> str:
    """How soon something moves."""
    found, names = outcomes.read(RESULT), {"cold": "first visitor", "warm": "later visitors", "gallery": "gallery"}
    rows = [(names[name], markdown.spread(seconds)) for name, seconds in found["seconds"].items()]
    return markdown.source(found) + markdown.table(("from the request or click", "to moving pictures, s"), rows)


if __name__ == "__main__":
    main()
