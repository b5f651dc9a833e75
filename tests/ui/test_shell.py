"""A page draws itself inside the app, and the app where it was opened without it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import streamlit as st

import app
from tests.helpers import ROOT, app_page, drawn, errors
from ui import shell


def test_inside_the_app_a_page_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "main", lambda: pytest.fail("drawn twice"))
    with shell.drawing():
        shell.within_app()


def test_outside_the_app_a_page_has_the_app_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(app, "main", lambda: calls.append(1))
    shell.within_app()
    with shell.drawing():
        shell.within_app()
    shell.within_app()
    assert len(calls) == 2


def test_every_page_begins_with_the_guard() -> None:
    for page in (ROOT / "pages").glob("*.py"):
        code = page.read_text().partition('"""\n')[2]
        assert code.startswith("\nfrom ui import shell\n\nshell.within_app()\n"), page.name


def test_a_worker_that_imports_the_app_as_its_main_module_loads_nothing() -> None:
    """Python does so in every process that it spawns."""
    code = "import runpy, sys; runpy.run_path('app.py', run_name='__mp_main__'); assert 'streamlit' not in sys.modules"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_run_database_that_cannot_be_opened_is_named_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLEAK_DB", "sqlite:////proc/none/runs.sqlite")
    st.cache_resource.clear()
    page = app_page()
    assert len(errors(page)) == 1
    assert "DEEPLEAK_DB" in errors(page)[0]
    st.cache_resource.clear()


def test_what_a_fragment_cannot_do_is_said_in_a_sentence() -> None:
    """A fragment that draws itself again does so outside the page, where `shell.run` does not see its errors."""

    def page() -> None:
        import streamlit as st

        from deepleak_core.errors import StoreUnavailable
        from ui import shell

        def part(words: str) -> None:
            st.text(words)
            raise StoreUnavailable("The run database did not answer.")

        shell.fragment(part, run_every=60)("before")
        st.text("after")

    shown = drawn(page)
    assert errors(shown) == ["The run database did not answer."]
    assert [text.value for text in shown.text] == ["before", "after"]


def test_every_fragment_says_its_errors() -> None:
    for path in [*(ROOT / "ui").rglob("*.py"), *(ROOT / "pages").glob("*.py")]:
        assert path.name == "shell.py" or "st.fragment" not in path.read_text(), path
