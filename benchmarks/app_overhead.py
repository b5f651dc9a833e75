"""Measure in a real browser how much the app slows an attack down, and how soon and how often pictures arrive.

    python -m benchmarks.app_overhead [--pairs 5] [--viewers 30]

Prints a table and writes benchmarks/results/app_overhead.json. Both sides of a ratio are measured in turn on the same
machine: an attack without the app (as `python -m deepleak_core` runs it, with a worker's number of threads), then the
same attack streamed by the app to a browser, then streamed to many viewers.

Viewers other than the browser speak Streamlit's protocol without drawing (see `viewers`). They run on the same machine,
so the cost is an upper bound.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser

from benchmarks import markdown, outcomes
from benchmarks.browser import ROOT, button, chromium, open_page, running_app, warm_up
from benchmarks.viewers import Visitor, crowd
from deepleak_core.runs.store import Store
from deepleak_core.scenario import Scenario

SCENARIO = Scenario(indices=(0, 1, 3, 4))
THREADS = str(max(1, (os.cpu_count() or 2) - 1))
RESULT = outcomes.RESULTS / "app_overhead.json"
WATCH = """
() => { window.pictures = []; let last = '';
  const canvas = () => [...document.querySelectorAll('.st-key-player-attack-stage *')]
    .map(element => element.shadowRoot?.querySelector('.track canvas')).find(Boolean);
  const look = () => { const now = canvas()?.toDataURL();
    if (now !== last) { if (last) window.pictures.push(performance.now()); last = now; }
    requestAnimationFrame(look); }; look(); }
"""


def headless() -> float:
    """Iterations a second of the attack on its own, in a fresh process."""
    code = (
        "import sys, time; from deepleak_core import Scenario, run\n"
        "for _ in run(Scenario(max_iterations=3)): pass\n"
        "began = time.perf_counter(); events = list(run(Scenario.from_json(sys.argv[1])))\n"
        "print(events[-1].step / (time.perf_counter() - began))"
    )
    threads = {"OMP_NUM_THREADS": THREADS, "MKL_NUM_THREADS": THREADS}
    command = [sys.executable, "-W", "ignore", "-c", code, SCENARIO.to_json()]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | threads, capture_output=True, text=True, check=True)
    return float(done.stdout)


def streamed(browser: Browser, url: str, store: Store, seed: int, viewers: int = 0) -> dict[str, float]:
    """One click on the button, followed by a browser and by `viewers` more.

    A seed of its own makes each attack a new question, which no earlier run answers.
    """
    query = urlencode(SCENARIO.changed(seed=seed).to_query())
    page = open_page(browser, f"{url}/?{query}")
    page.evaluate(WATCH)
    clicked = page.evaluate("() => performance.now()")
    button(page, "start").click()
    page.wait_for_function("() => window.pictures.length > 0", timeout=60_000)
    page.wait_for_url("**/?run=*")
    address, _, query = page.url.partition("/?")
    with crowd([Visitor(address, query) for _ in range(viewers)]) as seen:
        button(page, "pictures").wait_for(timeout=300_000)
    run = store.run(page.url.partition("run=")[2])
    assert run is not None
    assert run.started is not None
    assert run.ended is not None
    shown = page.evaluate("() => window.pictures")
    page.context.close()
    steps, lasted = store.curve(run.id)[-1].step, run.ended - run.started
    pictures = sum(len({seconds for _, seconds in visitor.frames}) for visitor in seen)
    return {
        "first_picture_s": (shown[0] - clicked) / 1000,
        "pictures_per_s": (len(shown) - 1) / ((shown[-1] - shown[0]) / 1000),
        "iterations_per_s": steps / lasted,
        "pictures_to_each_per_s": pictures / max(viewers, 1) / lasted,
    }


# --------------------------------------------------------------------------------------------------- the whole


def main() -> None:
    """Measure so many rounds, print the table, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=5, help="rounds, each of one run of every kind")
    parser.add_argument("--viewers", type=int, default=30)
    options = parser.parse_args()
    alone, one, many = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "runs.sqlite"
        with running_app(database) as url, chromium() as browser:
            store = Store(f"sqlite:///{database}")
            warm_up(browser, url)
            for pair in range(options.pairs):
                alone.append(headless())
                one.append(streamed(browser, url, store, 2 * pair + 1))
                many.append(streamed(browser, url, store, 2 * pair + 2, options.viewers))
                time.sleep(1)
    ratios = [row["iterations_per_s"] / speed for row, speed in zip(one, alone, strict=True)]
    crowded = [row["iterations_per_s"] / other["iterations_per_s"] for row, other in zip(many, one, strict=True)]
    rows: dict[str, tuple[Sequence[float], str]] = {
        "click to first picture, s": ([row["first_picture_s"] for row in one], "1 at most"),
        "fresh pictures a second": ([row["pictures_per_s"] for row in one], "4 at least"),
        "iterations a second without the app": (alone, ""),
        "iterations a second, streamed": ([row["iterations_per_s"] for row in one], ""),
        "streamed / without": (ratios, "0.9 at least"),
        f"{options.viewers} more viewers / streamed": (crowded, "0.9 at least"),
        f"pictures a second to each of {options.viewers} viewers": (
            [row["pictures_to_each_per_s"] for row in many],
            "",
        ),
    }
    figures = {name: {"values": values, "budget": budget} for name, (values, budget) in rows.items()}
    result = outcomes.measured_with("benchmarks.app_overhead") | {"figures": figures}
    print(markdown.figures(figures))
    outcomes.write(RESULT, result)


def table() -> str:
    """What the app costs an attack: median and range of the rounds beside the budget."""
    found = outcomes.read(RESULT)
    return markdown.source(found, threads=False) + markdown.figures(found["figures"])


if __name__ == "__main__":
    main()
