"""The pages that tell the findings, without a browser, with the real engine behind them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from deepleak_core.events import Finished
from deepleak_core.runs.run import run as attack
from deepleak_core.runs.store import Store, this_process
from deepleak_core.scenario import Scenario
from deepleak_core.studies.comparisons import wrong_label
from tests.helpers import PATIENCE, app_page, checked
from tests.helpers import page_html as text
from ui import backend

QUICK = {"indices": "0,4", "max_iterations": "12"}


@pytest.fixture
def visit(store: Store) -> Callable[..., AppTest]:
    """Open a page by a link, as a fresh visitor."""

    return app_page


def press(app: AppTest, key: str) -> AppTest:
    """Press a button and look again until what it began is over."""
    checked(app.button(key=key).click().run())
    deadline = time.monotonic() + PATIENCE
    while "stop" in [button.key for button in app.button]:
        assert time.monotonic() < deadline, "the runs do not end"
        time.sleep(0.1)
        checked(app.run())
    return app


def scenarios(store: Store, app: AppTest, act: str) -> list[Scenario]:
    return [run.scenario for run in store.members(app.query_params[act])]


@pytest.mark.parametrize("name", ["one_wrong_label", "same_label_fusion", "gradinversion"])
def test_a_page_says_what_will_be_seen_and_is_ready(visit: Any, name: str) -> None:
    app = visit(name)
    assert text(app).startswith('<p class="dl-headline"><span>You are about to see')
    assert 'href="how-it-works#' in text(app) and "<img" in text(app)
    assert not app.button(key="start").disabled and not app.error and dict(app.query_params) == {}


def test_one_wrong_label_is_told_repaired_and_swept(visit: Any, store: Store) -> None:
    app = press(visit("one_wrong_label", **QUICK), "start")
    right, wrong = scenarios(store, app, "duel")
    assert right == Scenario(indices=(0, 4), max_iterations=12) and len(wrong.mislabel) == 1
    told = text(app)
    assert "One wrong label cost the batch" in told and "stays unexplained" in told and "dl-wrong" in told
    press(app, "repair")
    assert scenarios(store, app, "repair") == [wrong.changed(repair_labels=True)]
    assert "The attacker notices" in text(app) and "dl-stages" in text(app)
    press(app, "sweep")
    assert [s.wrong_labels for s in scenarios(store, app, "sweep")] == [0, 1, 2]
    assert "Mean PSNR with 0 to 2 wrong labels" in text(app)

    again = visit("one_wrong_label", **app.query_params)
    assert "Mean PSNR with 0 to 2 wrong labels" in text(again) and "The attacker notices" in text(again)
    assert len(again.get("echarts_chart")) == 2
    again.selectbox(key="model").set_value("lenet64-relu").run()
    assert "You are about to see" in text(checked(again)) and "duel" not in again.query_params
    assert not again.get("echarts_chart")


def test_the_visitor_says_which_label_is_wrong(visit: Any, store: Store) -> None:
    app = visit("one_wrong_label", **QUICK)
    assert app.selectbox(key="wrong_image").options[0].startswith("Worst case: ")
    checked(app.selectbox(key="wrong_image").set_value("frog").run())
    checked(app.selectbox(key="wrong_class").set_value("truck").run())
    press(app, "start")
    assert scenarios(store, app, "duel")[1].mislabel == ("frog>truck",)
    again = visit("one_wrong_label", duel=app.query_params["duel"])
    assert (again.selectbox(key="wrong_image").value, again.selectbox(key="wrong_class").value) == ("frog", "truck")


def test_fusion_is_measured_shown_and_undone(visit: Any, store: Store) -> None:
    app = press(visit("same_label_fusion", indices="0,1,4", max_iterations="60"), "start")
    distinct, same = scenarios(store, app, "duel")
    assert (distinct.indices, same.indices) == ((0, 1, 4), (4, 5, 7))
    told = text(app)
    assert "Sharing a label" in told and "mean of 3 of class frog" in told and "fusion index" in told
    assert told.count("to mean") >= 3
    press(app, "apart")
    assert scenarios(store, app, "apart")[0].attack == "exact"
    assert "taken apart in" in text(app) and text(app).count("dl-map") == 2
    checked(app.select_slider(key="share").set_value(2).run())
    assert "2 that share a label" in text(app) and "duel" not in app.query_params


def test_gradinversion_and_general_deep_leakage_read_the_labels_of_one_update(visit: Any, store: Store) -> None:
    app = press(visit("gradinversion", indices="0,1,4", max_iterations="4"), "start")
    assert [s.attack for s in scenarios(store, app, "duel")] == ["gradinversion", "general-deep-leakage"]
    assert len({s.indices for s in scenarios(store, app, "duel")}) == 1
    assert "GradInversion found 2 of 3 labels" in text(app) and "General Deep Leakage found 3 of 3" in text(app)
    assert "2 of 3 right" in text(app) and "3 of 3 right" in text(app) and "SSIM" in text(app)
    press(app, "sweep")
    swept = scenarios(store, app, "sweep")
    assert [(s.attack, s.indices) for s in swept[::2]] == [
        ("gradinversion", indices) for indices in ((0, 1, 4), (0, 4, 5), (4, 5, 7))
    ]
    assert "The more images share a label: GradInversion" in text(app)


def test_a_comparison_can_be_stopped_and_an_unknown_one_is_refused(visit: Any, store: Store) -> None:
    app = visit("one_wrong_label", indices="0,4", max_iterations="100000")
    app.button(key="start").click().run()
    group = app.query_params["duel"]
    deadline = time.monotonic() + PATIENCE
    while not all(run.snapshots for run in store.members(group)) and time.monotonic() < deadline:
        time.sleep(0.05)
    press(app, "stop")
    assert [run.status for run in store.members(group)] == ["stopped"] * 2
    assert "One wrong label cost the batch" in text(app)
    busy = backend.engine().submit(Scenario(indices=(0,), max_iterations=100_000))
    app = visit("one_wrong_label", **QUICK)
    checked(app.button(key="start").click().run())
    press(app, "stop")
    assert "Ended before its first picture" in text(app)
    backend.engine().stop(busy)
    assert "There is no comparison 'nowhere' here" in visit("one_wrong_label", duel="nowhere").error[0].value


def test_runs_beside_each_other_show_their_first_pictures_in_the_same_instant(visit: Any, store: Store) -> None:
    scenarios = wrong_label(Scenario(indices=(0, 4), max_iterations=1))
    runs = [store.create(scenario, this_process()) for scenario in scenarios]
    group = store.group(runs)
    told = [[event for event in attack(scenario) if not isinstance(event, Finished)] for scenario in scenarios]
    for run in runs:
        store.start(run)
    store.append(runs[1], told[1])
    assert store.pictures(runs[1]), "only the second has any"
    assert 'alt="rebuilt image' not in text(visit("one_wrong_label", duel=group))
    store.append(runs[0], told[0])
    assert text(visit("one_wrong_label", duel=group)).count('alt="rebuilt image') == 4
    for run in runs:
        store.finish(run, "failed")


@pytest.mark.parametrize("name", ["same_label_fusion", "gradinversion"])
@pytest.mark.parametrize("size", ["10", "19"])
def test_a_data_set_with_too_few_images_of_a_class_is_refused(visit: Any, name: str, size: str) -> None:
    app = visit(name, composition="random", batch_size=size)
    if name == "same_label_fusion" or size == "19":
        assert "and 7 other classes; make the batch smaller" in app.error[0].value
        assert app.button(key="start").disabled
    else:
        assert not app.error
