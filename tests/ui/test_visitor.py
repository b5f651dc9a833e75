"""A visitor's token: the one that the browser sends, else a new one that the browser is asked to keep."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from ui import visitor

KNOWN = "abcdefghijklmnopqrst-_"


def page() -> None:
    import streamlit as st

    from ui import visitor

    visitor.remember()
    st.text(visitor.token())


def shown(sent: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """The token of a visitor whose browser sends these cookies, and the scripts that the page has it run."""
    monkeypatch.setattr("streamlit.runtime.context.ContextProxy.cookies", sent)
    app = AppTest.from_function(page).run()
    assert not app.exception
    first = app.text[0].value
    assert app.run().text[0].value == first, "a session keeps its token"
    return first, [element.proto.body for element in app.get("html")]


def test_a_token_that_the_browser_kept_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown({visitor.COOKIE: KNOWN}, monkeypatch) == (KNOWN, [])


@pytest.mark.parametrize("sent", [{}, {visitor.COOKIE: "short"}, {visitor.COOKIE: '"</script>aaaaaaaaaaaa'}])
def test_without_one_the_browser_is_asked_to_keep_a_new_one(
    sent: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = set()
    for _ in range(2):
        token, (script,) = shown(sent, monkeypatch)
        assert visitor.TOKEN.fullmatch(token)
        assert f"{visitor.COOKIE}={token};" in script
        tokens.add(token)
    assert len(tokens) == 2
