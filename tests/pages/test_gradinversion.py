"""The page GradInversion; with the real engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from deepleak_core.runs.store import Store
from deepleak_core.studies.fusion import sharing
from tests.helpers import app_page, checked, compared, ended, errors, headline, tracks


@pytest.fixture
def visit(store: Store) -> Callable[..., AppTest]:
    """Open the page by a link, as a fresh visitor."""
    return partial(app_page, "gradinversion")


def test_both_attacks_infer_the_labels_of_one_update(visit: Any, store: Store) -> None:
    app = visit(indices="0,1,4", max_iterations="4")
    ended(checked(app.button(key="start").click().run()))
    scenarios = compared(store, app, "pair")
    assert [s.attack for s in scenarios] == ["gradinversion", "general-deep-leakage"]
    assert len({s.indices for s in scenarios}) == 1
    assert "2 of 3" in headline(app)
    assert "3 of 3" in headline(app)
    theirs, ours = tracks(app)
    assert "2/3" in theirs["title"]
    assert "3/3" in ours["title"]
    assert theirs["run"] is not None
    assert ours["run"] is not None
    ended(checked(app.button(key="sweep").click().run()))
    swept = compared(store, app, "sweep")
    assert [s.attack for s in swept] == ["gradinversion", "general-deep-leakage"] * 3
    assert [sharing(s) for s in swept[::2]] == [1, 2, 3]


def test_a_data_set_with_too_few_images_of_a_class_is_refused(visit: Any) -> None:
    assert visit(composition="random", batch_size="19").button(key="start").disabled
    assert not errors(visit(composition="random", batch_size="10"))
