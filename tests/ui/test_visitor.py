"""A visitor is known by the hash of a token, which only the browser has, in a cookie that no script can read."""

from __future__ import annotations

import hashlib
from http.cookies import Morsel, SimpleCookie
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from tests.helpers import drawn
from ui import visitor

KNOWN = "abcdefghijklmnopqrst-_"
UNFIT = ["", "short", '"</script>aaaaaaaaaaaa', KNOWN + "a"]


def page() -> None:
    import streamlit as st

    from ui import visitor

    st.text(visitor.identity())


def identity(sent: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """As whom a session knows the visitor whose browser sends this cookie."""
    monkeypatch.setattr("streamlit.runtime.context.ContextProxy.cookies", {visitor.COOKIE: sent})
    app = drawn(page)
    first = app.text[0].value
    assert app.run().text[0].value == first, "a session keeps it"
    return first


def set_by(sent: str, *, scheme: str = "http", forwarded: str = "") -> Morsel[str]:
    """The cookie that a browser is told to keep which sends this one."""
    headers = [(b"cookie", f"{visitor.COOKIE}={sent}".encode()), (b"x-forwarded-proto", forwarded.encode())]
    request = Request({"type": "http", "scheme": scheme, "server": ("host", 80), "path": "/", "headers": headers})
    answer = visitor.remembering(request, Response())
    return SimpleCookie(answer.headers["set-cookie"])[visitor.COOKIE]


def test_a_token_that_the_browser_kept_is_known_by_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    assert identity(KNOWN, monkeypatch) == hashlib.sha256(KNOWN.encode()).hexdigest()


@pytest.mark.parametrize("sent", UNFIT)
def test_without_one_each_session_is_a_visitor_of_its_own(sent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert identity(sent, monkeypatch) != identity(sent, monkeypatch)


def test_a_browser_keeps_its_token_and_no_script_can_read_it() -> None:
    cookie = set_by(KNOWN)
    assert cookie.value == KNOWN
    assert cookie["httponly"]
    assert cookie["samesite"] == "lax"


@pytest.mark.parametrize("sent", UNFIT)
def test_a_browser_without_one_gets_a_new_one(sent: str) -> None:
    given = {set_by(sent).value for _ in range(2)}
    assert len(given) == 2
    assert all(map(visitor.TOKEN.fullmatch, given))


def test_a_token_that_came_over_tls_goes_nowhere_else() -> None:
    assert not set_by(KNOWN)["secure"]
    assert set_by(KNOWN, scheme="https")["secure"]
    assert set_by(KNOWN, forwarded="https")["secure"]


def test_a_real_browser_keeps_it_out_of_the_page(chrome: Any, app_url: str) -> None:
    from benchmarks.browser import open_page

    opened = open_page(chrome, app_url)
    (kept,) = [cookie for cookie in opened.context.cookies() if cookie["name"] == visitor.COOKIE]
    assert kept["httpOnly"]
    assert kept["value"] not in opened.content() + opened.evaluate("document.cookie")
    opened.reload()
    assert kept["value"] in [cookie["value"] for cookie in opened.context.cookies()]
    opened.context.close()
