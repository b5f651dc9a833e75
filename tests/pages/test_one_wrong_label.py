"""The page One wrong label, and the frame that it shares with the other comparisons; with the real engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from deepleak_core import run
from deepleak_core.events import Finished
from deepleak_core.runs.recording import Recording, recorded, save
from deepleak_core.runs.store import Store, this_process
from deepleak_core.scenario import Scenario
from deepleak_core.studies.comparisons import wrong_label
from deepleak_core.studies.wrong_labels import wrong_label_of
from tests.helpers import app_page, checked, compared, component, ended, errors, headline, keys, tracks, until
from tests.runs.engines import eventually
from ui import backend, recordings

QUICK = {"indices": "0,4", "max_iterations": "12"}


@pytest.fixture
def visit(store: Store) -> Callable[..., AppTest]:
    """Open the page by a link, as a fresh visitor."""
    return partial(app_page, "one_wrong_label")


def press(app: AppTest, key: str) -> AppTest:
    """Press a button and wait for the runs that it started."""
    return ended(checked(app.button(key=key).click().run()))


def rebuilt(app: AppTest) -> int:
    """How many tracks of the player have pictures."""
    return sum(track["run"] is not None for track in tracks(app))


def live(app: AppTest) -> int:
    """How many tracks of the player show a run that goes on."""
    return sum(track["live"] is not None for track in component(app, "compared-feed")["tracks"].values())


def private(app: AppTest) -> dict[str, Any]:
    """The column of the private images."""
    column: dict[str, Any] = component(app, "compared")["columns"][0]
    return column


def test_runs_are_compared_repaired_swept_and_found_again_by_their_link(visit: Any, store: Store) -> None:
    app = visit(**QUICK)
    before = headline(app)
    assert (len(tracks(app)), rebuilt(app)) == (2, 0)
    press(app, "start")
    right, wrong = compared(store, app, "pair")
    assert right == Scenario(indices=(0, 4), max_iterations=12)
    assert wrong.mislabel == (wrong_label_of(right),)
    assert headline(app) != before
    assert rebuilt(app) == 2
    after_pair = headline(app)
    press(app, "repair")
    assert compared(store, app, "repair") == [wrong.changed(repair_labels=True)]
    assert [track["gauge"] for track in tracks(app)] == [True] * 3, "a further run adds a column"
    assert rebuilt(app) == 3
    press(app, "sweep")
    assert [s.wrong_labels for s in compared(store, app, "sweep")] == [0, 1, 2]
    assert headline(app) not in (before, after_pair)
    assert len(app.get("plotly_chart")) == 1

    again = visit(**app.query_params)
    assert headline(again) == headline(app)
    assert rebuilt(again) == 3
    again.selectbox(key="model").set_value("lenet64-relu").run()  # another scenario: all runs are left
    assert headline(checked(again)) == before
    assert "pair" not in again.query_params
    assert rebuilt(again) == 0


def test_the_visitor_chooses_the_wrong_label(visit: Any, store: Store) -> None:
    app = visit(**QUICK)
    checked(app.selectbox(key="wrong_image").set_value("frog").run())
    checked(app.selectbox(key="wrong_class").set_value("truck").run())
    assert (private(app)["captions"], private(app)["wrong"]) == (["cat", "truck"], [False, True])
    press(app, "start")
    assert compared(store, app, "pair")[1].mislabel == ("frog>truck",)
    again = visit(pair=app.query_params["pair"])
    assert (again.selectbox(key="wrong_image").value, again.selectbox(key="wrong_class").value) == ("frog", "truck")
    assert "cat" in private(again)["choices"]


def test_a_link_to_a_wrong_label_chooses_it(visit: Any) -> None:
    app = visit(**QUICK, mislabel="cat>bird")
    assert (private(app)["captions"], private(app)["wrong"]) == (["bird", "frog"], [True, False])


def test_a_recording_of_the_same_scenarios_plays_until_they_are_run(
    visit: Any, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scenario = Scenario(indices=(0, 4), max_iterations=3)
    scenarios = (*wrong_label(scenario, wrong_label_of(scenario)), scenario.changed(repair_labels=True))
    runs = tuple(recorded(one, run(one)) for one in scenarios)
    story = Recording(name="short", title="Short", sentence="Short.", page="wrong-label", runs=runs)
    (tmp_path / "short.zip").write_bytes(save(story))
    monkeypatch.setattr(recordings, "GALLERY", tmp_path)
    app = visit(**QUICK)
    assert component(app, "compared")["autoplay"]
    assert story.sentence in headline(app)
    assert rebuilt(app) == 3
    checked(app.selectbox(key="wrong_image").set_value("frog").run())
    assert rebuilt(app) == 0, "another wrong label is not recorded"
    assert not component(app, "compared")["autoplay"]


def test_equal_questions_share_the_run_with_correct_labels(visit: Any, store: Store) -> None:
    app = press(visit(**QUICK), "start")
    first = [run.id for run in store.members(app.query_params["pair"])]
    checked(app.selectbox(key="wrong_image").set_value("frog").run())
    press(app, "start")
    second = [run.id for run in store.members(app.query_params["pair"])]
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_the_map_is_computed_on_request_and_shared(visit: Any) -> None:
    app = visit(indices="0", max_iterations="1")
    assert not any(element.key == "every-wrong-label" for element in app.get("bidi_component"))
    checked(app.button(key="map").click().run())

    def cells_of(app: AppTest) -> list[dict[str, Any]]:
        cells: list[dict[str, Any]] = component(app, "every-wrong-label")["rows"][0]["cells"]
        return cells

    cells = cells_of(until(app, lambda: all(cell["value"] is not None for cell in cells_of(app) if cell["id"])))
    assert [cell["id"] for cell in cells].count("") == 1
    assert set(component(app, "every-wrong-label")["marked"]) < {cell["id"] for cell in cells}
    other = visit(indices="0", max_iterations="1")
    assert cells_of(other) == cells
    assert "map" not in keys(other)


def test_a_comparison_is_stopped_with_all_its_runs(visit: Any, store: Store) -> None:
    app = visit(indices="0,4", max_iterations="100000")
    app.button(key="start").click().run()
    group = app.query_params["pair"]
    eventually(lambda: all(run.snapshots for run in store.members(group)))
    press(app, "stop")
    assert [run.status for run in store.members(group)] == ["stopped"] * 2
    assert rebuilt(app) == 2


def test_runs_that_are_stopped_in_the_queue_have_no_pictures(visit: Any, store: Store) -> None:
    busy = backend.engine().submit(Scenario(indices=(0,), max_iterations=100_000))
    app = visit(**QUICK, seed="5")
    checked(app.button(key="start").click().run())
    press(app, "stop")
    assert rebuilt(app) == 0
    assert "repair" not in keys(app)
    backend.engine().stop(busy)


def test_an_unknown_comparison_is_refused_in_a_sentence(visit: Any) -> None:
    app = visit(pair="nowhere")
    assert "'nowhere'" in errors(app)[0]
    assert not app.button(key="start").disabled


def test_a_batch_without_images_is_asked_for(visit: Any) -> None:
    app = visit(**QUICK)
    checked(app.multiselect(key="indices").set_value([]).run())
    assert len(errors(app)) == 1
    assert app.button(key="start").disabled


def test_both_runs_show_their_first_pictures_in_the_same_instant(visit: Any, store: Store) -> None:
    scenarios = wrong_label(Scenario(indices=(0, 4), max_iterations=1))
    runs = [store.create(scenario, this_process()) for scenario in scenarios]
    group = store.group(runs)
    events = [[event for event in run(scenario) if not isinstance(event, Finished)] for scenario in scenarios]
    for run_id in runs:
        store.start(run_id)
    store.append(runs[1], events[1])
    assert store.pictures(runs[1]), "only the second has any"
    assert live(visit(pair=group)) == 0
    store.append(runs[0], events[0])
    assert live(visit(pair=group)) == 2
    for run_id in runs:
        store.finish(run_id, "failed")
