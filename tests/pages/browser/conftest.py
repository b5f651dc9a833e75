"""Fresh visitors of a running app."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from benchmarks.browser import LIVE_ATTACK, open_page, running_app
from tests.pages.browser.elements import PATIENCE


@pytest.fixture
def visit(chrome: Any, app_url: str) -> Iterator[Callable[..., Page]]:
    """Open a link of the app as a fresh visitor; `ready` are selectors of what is waited for."""
    pages = []

    def opened(link: str = "/", *, url: str = app_url, ready: Sequence[str] = LIVE_ATTACK, **looks: Any) -> Page:
        page = open_page(chrome, url + link, ready=ready, **looks)
        page.set_default_timeout(PATIENCE)
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.context.close()


@pytest.fixture
def fresh_app(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of an app that nobody has visited yet, and its run database."""
    database = tmp_path / "runs.sqlite"
    with running_app(database) as url:
        yield url, database
