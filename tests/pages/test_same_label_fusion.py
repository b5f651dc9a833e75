"""The page Same-label fusion; with the real engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from deepleak_core.runs.schema import FORGET
from deepleak_core.runs.store import Store
from tests.helpers import app_page, checked, compared, component, ended, errors, headline, page_html, tracks


@pytest.fixture
def visit(store: Store) -> Callable[..., AppTest]:
    """Open the page by a link, as a fresh visitor."""
    return partial(app_page, "same_label_fusion")


def kinds(app: AppTest) -> list[str]:
    """The columns of the player, from left to right."""
    return [column["kind"] for column in component(app, "compared")["columns"]]


def press(app: AppTest, key: str) -> AppTest:
    """Press a button and wait for the run that it started."""
    return ended(checked(app.button(key=key).click().run()))


def test_a_blend_is_shown_beside_the_mean_taken_apart_and_averaged(visit: Any, store: Store) -> None:
    app = visit(indices="0,4,7", max_iterations="30")
    before = headline(app)
    assert kinds(app) == ["still", "track", "still"]
    (hidden,) = [column for column in component(app, "compared")["columns"][2:]]
    assert (hidden["count"], hidden["pictures"]) == (1, [])
    press(app, "start")
    (together,) = compared(store, app, "pair")
    blend = headline(app)
    assert blend != before
    assert kinds(app) == ["still", "track", "still"], "nothing moves"
    assert component(app, "compared")["columns"][2]["pictures"]
    press(app, "separate")
    assert compared(store, app, "separate")[0] == together.changed(attack="exact", max_iterations=None)
    press(app, "scatter")
    assert compared(store, app, "scatter")[0] == together.changed(setting=("start=independent",))
    assert [track["average"] for track in tracks(app)] == [False, False, True]
    assert len({blend, headline(app), before}) == 3

    again = visit(**app.query_params)
    assert headline(again) == headline(app)
    assert kinds(again) == ["still", "track", "still", "track", "track"]

    (forgotten,) = store.members(app.query_params["pair"])
    store.ask(forgotten.id, FORGET)
    checked(app.run())
    assert "no comparison" in errors(visit(**again.query_params))[0]
    assert app.button(key="start").label == visit(indices="0,4,7").button(key="start").label, "it may be run anew"


def test_a_question_that_was_answered_before_is_played_from_its_start_and_says_when_it_ran(visit: Any) -> None:
    asked = {"indices": "0,4,7", "max_iterations": "12"}
    first = press(visit(**asked), "start")
    assert not component(first, "compared")["autoplay"], "who has watched it sees its end"
    second = checked(visit(**asked).button(key="start").click().run())
    assert component(second, "compared")["autoplay"]
    assert headline(second).endswith(headline(first))
    assert headline(second) != headline(first)
    again = press(second, "start")
    assert headline(again) == headline(first)


def test_turning_the_dial_runs_the_batch_it_asks_for(visit: Any, store: Store) -> None:
    app = visit(indices="0,1,4", max_iterations="8")
    runs = {}
    for share, indices in ((3, (4, 5, 7)), (1, (0, 1, 4))):
        ended(checked(app.segmented_control(key="share").set_value(share).run()))
        (runs[share],) = store.members(app.query_params["pair"])
        assert runs[share].scenario.indices == indices
    assert kinds(app) == ["still", "track"], "no mean where no label repeats"
    checked(app.segmented_control(key="share").set_value(3).run())
    (shown,) = store.members(app.query_params["pair"])
    assert shown.id == runs[3].id, "a batch that has run is shown again"


def test_two_planes_share_a_label_at_first(visit: Any) -> None:
    app = visit()
    private = component(app, "compared")["columns"][0]
    assert private["captions"] == ["cat", "ship", "airplane", "airplane"]


def test_the_settings_name_the_images_that_replace_those_chosen(visit: Any) -> None:
    """Images 0, 1, 3 and 4 are chosen at first, and the second airplane is image 10."""
    assert "0 cat, 1 ship, 3 airplane, 10 airplane" in page_html(visit())
    assert "10 airplane" not in page_html(visit(indices="0,1,3,10"))


def test_only_batches_that_the_data_set_can_fill_are_offered(visit: Any) -> None:
    offered = visit(composition="random", batch_size="10").segmented_control(key="share").options
    assert offered == ["3", "4"]


def test_a_data_set_with_too_few_images_is_refused(visit: Any) -> None:
    app = visit(composition="random", batch_size="19")
    assert "7 other classes" in errors(app)[0]
    assert app.button(key="start").disabled
