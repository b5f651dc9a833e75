"""Who may stop a run, and how many wrong codes may be tried."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.helpers import checked, drawn, errors
from ui import ownership

CODE = "a code of the lecturer's ü"


def page() -> None:
    import streamlit as st

    from ui import ownership

    ownership.offer_code()
    st.text(str(ownership.is_presenter()))


@pytest.fixture(autouse=True)
def code(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DEEPLEAK_PRESENTER_CODE", CODE)
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def given(code: str) -> AppTest:
    """What a new visitor sees after giving a code."""
    return give(drawn(page), code)


def give(app: AppTest, code: str) -> AppTest:
    """What this visitor sees after giving a code."""
    app.text_input[0].set_value(code)
    return checked(app.button[0].click().run())


def test_the_right_code_makes_a_presenter() -> None:
    app = given(CODE)
    assert app.text[0].value == "True"
    assert not app.text_input


def test_a_wrong_code_makes_none() -> None:
    app = given("a guess")
    assert app.text[0].value == "False"
    assert errors(app) == [ownership.REFUSED]


def test_an_empty_entry_and_a_page_that_is_drawn_again_are_no_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "MOST_TRIES", 2)
    app = give(drawn(page), "a guess")
    for _ in range(3):
        assert errors(give(app.run(), "")) == []
    assert give(app, CODE).text[0].value == "True"


def test_new_visitors_get_no_new_tries() -> None:
    for number in range(ownership.MOST_TRIES):
        assert errors(given(f"guess {number}"))[0] == ownership.REFUSED
    app = given(CODE)
    assert app.text[0].value == "False"
    assert errors(app) == [ownership.TOO_MANY]


def test_tries_come_back_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "MOST_TRIES", 1)
    given("a guess")
    monkeypatch.setattr(ownership, "TRIES_SECONDS", 0.0)
    assert given(CODE).text[0].value == "True"


@pytest.mark.parametrize("unset", ["", None])
def test_without_a_code_nobody_is_asked_for_one(unset: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if unset is None:
        monkeypatch.delenv("DEEPLEAK_PRESENTER_CODE")
    else:
        monkeypatch.setenv("DEEPLEAK_PRESENTER_CODE", unset)
    app = drawn(page)
    assert not app.text_input
    assert app.text[0].value == "False"
