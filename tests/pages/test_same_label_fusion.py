"""The page Same-label fusion; with the real engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from deepleak_core.runs.store import Store
from tests.helpers import app_page, checked, compared, component, ended, headline, tracks


@pytest.fixture
def visit(store: Store) -> Callable[..., AppTest]:
    """Open the page by a link, as a fresh visitor."""
    return partial(app_page, "same_label_fusion")


def test_fusion_is_measured_shown_and_undone(visit: Any, store: Store) -> None:
    app = visit(indices="0,1,4", max_iterations="60")
    before = headline(app)
    ended(checked(app.button(key="start").click().run()))
    distinct, same = compared(store, app, "pair")
    assert (distinct.indices, same.indices) == ((0, 1, 4), (4, 5, 7))
    assert headline(app) != before
    assert [track["asides"] for track in tracks(app)] == ["none", "to_mean"]
    (mean,) = component(app, "compared")["columns"][4]["pictures"]
    assert mean
    ended(checked(app.button(key="separate").click().run()))
    assert compared(store, app, "separate")[0].attack == "exact"
    assert len(tracks(app)) == 3
    checked(app.select_slider(key="share").set_value(2).run())
    assert headline(app) == before
    assert "pair" not in app.query_params


@pytest.mark.parametrize("size", ["10", "19"])
def test_a_data_set_with_too_few_images_of_a_class_is_refused(visit: Any, size: str) -> None:
    app = visit(composition="random", batch_size=size)
    assert "7 other classes" in app.error[0].value
    assert app.button(key="start").disabled
