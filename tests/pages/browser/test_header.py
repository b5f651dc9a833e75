"""The row of links to the pages, in a window that is too narrow for it."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 844}
LEFT_OF_ALL = "document.querySelector('.st-key-pages').scrollLeft === 0"


def expect_current(page: Page, name: str) -> None:
    """One link is that of the page, and the whole of it is in sight."""
    current = page.locator(".st-key-pages a[aria-current=page]")
    expect(current).to_have_text(name)
    expect(current).to_be_in_viewport(ratio=1)


def test_the_link_of_the_page_is_marked_and_in_sight(visit: Any) -> None:
    page = visit("/how_it_works", ready=(), **PHONE)
    expect_current(page, "How it works")
    page.get_by_role("link", name="Gallery").click()
    expect_current(page, "Gallery")
    page.go_back()
    expect_current(page, "How it works")


def test_the_row_stays_where_the_visitor_scrolls_it(visit: Any) -> None:
    page = visit("/how_it_works", ready=(), **PHONE)
    expect_current(page, "How it works")
    page.locator(".st-key-pages").hover()
    page.mouse.wheel(-2000, 0)
    page.wait_for_function(LEFT_OF_ALL)
    page.get_by_role("radio", name="Words").click()
    expect(page.locator("h2").first).to_be_visible()  # the page has been drawn anew
    assert page.evaluate(LEFT_OF_ALL)
