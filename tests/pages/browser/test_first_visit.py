"""The first request after the start of a server may be any link of the app.

That for the page Live attack with a scenario is the first one to the app that all other tests share.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from benchmarks.browser import button
from deepleak_core import run
from deepleak_core.runs.store import Store, this_process
from deepleak_core.scenario import Scenario
from tests.pages.browser.elements import (
    PANELS,
    TRACK,
    column,
    expect_drawn_by_the_app,
    expect_no_error,
    expect_private,
    expect_recorded,
    start,
)

pytestmark = pytest.mark.browser
Fresh = tuple[str, Path]


def test_a_link_to_a_comparison_with_a_scenario(visit: Callable[..., Page], fresh_app: Fresh) -> None:
    page = visit("/one_wrong_label?indices=0,4&max_iterations=40", url=fresh_app[0], ready=PANELS)
    expect(column(page, 0).locator("canvas")).to_have_count(2)  # the images of the query
    expect_drawn_by_the_app(page)
    start(page)
    expect_recorded(page)
    expect_no_error(page)


def test_a_link_to_a_run(visit: Callable[..., Page], fresh_app: Fresh) -> None:
    url, database = fresh_app
    store, scenario = Store(f"sqlite:///{database}"), Scenario(indices=(0, 4), max_iterations=3)
    run_id = store.create(scenario, this_process())
    store.start(run_id)
    store.append(run_id, run(scenario))
    store.finish(run_id, "finished")
    page = visit(f"/?run={run_id}", url=url)
    expect(page.locator(f"{TRACK} figure")).to_have_count(2)
    expect(button(page, "pictures")).to_be_visible()
    expect_drawn_by_the_app(page)
    expect_no_error(page)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("link", "ready"),
    [
        ("/label_inference?indices=4,5", (".dl-answers",)),
        ("/how_it_works#defences", ("#defences",)),
    ],
)
def test_any_other_link(visit: Any, fresh_app: Fresh, link: str, ready: tuple[str, ...]) -> None:
    page = visit(link, url=fresh_app[0], ready=ready)
    expect_drawn_by_the_app(page)
    if "indices" in link:
        expect_private(page, ["frog"] * 2)
    expect_no_error(page)
