"""The page Live attack and a visitor's own runs: the list of recent ones, keeping, forgetting, the server's limits."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from deepleak_core import run
from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.events import Finished
from deepleak_core.federated.models import MODELS
from deepleak_core.runs.keeping import Keeping
from deepleak_core.runs.store import RunRecord, Status, Store, this_process
from deepleak_core.scenario import Scenario
from tests.helpers import app_page, checked, errors, keys, page_html, warnings
from ui import address, backend
from ui.live import session
from ui.titles import TITLES

SCENARIO = Scenario(indices=(0, 4), max_iterations=2)
ME = "m" * 22


@pytest.fixture
def mine(store: Store) -> RunRecord:
    """A finished run of the visitor `ME`."""
    return stored(store, "finished")


def stored(store: Store, status: Status) -> RunRecord:
    """A run of the visitor `ME` that ended like this, with its outcome."""
    run_id = store.create(SCENARIO, this_process(), visitor=ME)
    store.start(run_id)
    store.append(run_id, run(SCENARIO))
    store.finish(run_id, status)
    record = store.run(run_id)
    assert record is not None
    return record


def visit(visitor: str = ME, **query: str) -> AppTest:
    """The page as a visitor of this identity sees it."""
    app = app_page(**query)
    app.session_state["visitor"] = visitor
    return checked(app.run())


def recent(app: AppTest) -> str:
    """The list of recent runs, empty where there is none."""
    return "".join(piece.value for piece in app.html if "dl-recent" in piece.value)


def card_of(app: AppTest, record: RunRecord) -> str:
    """What the list of recent runs shows of one."""
    return recent(app).partition(f'href="?run={record.id}"')[2].partition("</a>")[0]


def test_recent_runs_have_pictures_an_outcome_and_a_link(store: Store, mine: RunRecord) -> None:
    card = card_of(visit(), mine)
    assert ATTACKS[SCENARIO.attack].title in card
    assert MODELS[SCENARIO.model].title in card
    assert "data:image/webp" in card
    end = store.latest(mine.id, Finished)
    assert end is not None
    assert end.score is not None
    assert str(end.score.outcomes.count(end.score.outcomes[0])) in card
    assert visit(run=mine.id).query_params["run"] == mine.id


def test_a_recent_run_that_was_stopped_says_so_beside_its_outcome(store: Store, mine: RunRecord) -> None:
    stopped, app = stored(store, "stopped"), visit()
    whole, cut = (card_of(app, record).partition("<em")[2].partition("</em>")[0] for record in (mine, stopped))
    assert cut.startswith(whole)
    assert "stopped" in cut.removeprefix(whole)


def test_recent_runs_are_ones_own_and_a_presenter_sees_all(mine: RunRecord, monkeypatch: Any) -> None:
    monkeypatch.setenv("DEEPLEAK_PRESENTER_CODE", "code")
    assert mine.id in recent(visit())
    assert Keeping.of_server().sentence() in recent(visit())
    stranger = visit("y" * 22)
    assert mine.id not in recent(stranger)
    stranger.text_input(key="presenter-code").set_value("code")
    assert mine.id in recent(checked(stranger.button(key="presenter-submit").click().run()))
    reloaded = visit("y" * 22)
    assert mine.id in recent(reloaded)
    assert mine.id not in recent(visit("z" * 22))
    assert mine.id not in recent(checked(reloaded.button(key="presenter-leave").click().run()))
    assert mine.id not in recent(visit("y" * 22))


def test_a_run_is_kept_and_forgotten_by_who_started_it(store: Store, mine: RunRecord) -> None:
    stranger = visit("y" * 22, run=mine.id)
    assert stranger.query_params["run"] == mine.id
    assert "forget-now" not in keys(stranger)
    app = visit(run=mine.id)
    keep = app.toggle(key=f"keep-{mine.id}")
    assert not keep.value
    checked(keep.set_value(True).run())
    assert store.run(mine.id).kept
    assert app.toggle(key=f"keep-{mine.id}").value
    assert recent(app).count("<mark>") == 1
    checked(app.button(key="forget-now").click().run())
    assert store.run(mine.id) is None
    assert "run" not in app.query_params
    assert mine.id not in recent(app)
    assert address.scenario_of(dict(app.query_params)) == SCENARIO, "the settings stay"
    assert f"no run '{mine.id}' here" in errors(visit(run=mine.id))[0]
    checked(stranger.run())
    assert errors(stranger) == [session.FORGOTTEN]
    assert "run" not in stranger.query_params


def test_what_cannot_be_kept_is_said_and_the_switch_stays_off(mine: RunRecord, monkeypatch: Any) -> None:
    monkeypatch.setattr(backend.engine(), "keeping", Keeping(days=None, megabytes=1e-6))
    app = visit(run=mine.id)
    checked(app.toggle(key=f"keep-{mine.id}").set_value(True).run())
    assert "half of the space" in errors(app)[0]
    assert not app.toggle(key=f"keep-{mine.id}").value


def named(*fields: str) -> list[str]:
    return [f'"{TITLES[name]}"' for name in fields]


def test_a_link_that_asks_for_more_time_is_opened_with_what_is_allowed(store: Store) -> None:
    app = visit(indices="0,4", max_seconds="4000", max_iterations="1000000")
    assert [words.partition(" was")[0] for words in warnings(app)] == named("max_seconds", "max_iterations")
    assert not errors(app)
    caps = backend.limits()
    assert app.number_input(key="max_seconds").value == app.number_input(key="max_seconds").max == caps.seconds
    assert app.number_input(key="max_iterations").max == caps.iterations
    scenario = address.scenario_of(dict(app.query_params))
    assert (scenario.max_seconds, scenario.max_iterations) == (caps.seconds, caps.iterations)
    assert not app.button(key="start").disabled
    assert caps.sentence() in page_html(app)


def test_a_comparison_is_opened_with_what_is_allowed_too(store: Store) -> None:
    app = app_page("same_label_fusion", indices="0,4", max_seconds="4000")
    assert [words.partition(" was")[0] for words in warnings(app)] == named("max_seconds")
    assert app.query_params["max_seconds"] == f"{backend.limits().seconds}"


def test_a_link_to_a_batch_that_is_too_large_is_refused(store: Store) -> None:
    app = visit(dataset="cifar10", batch_size="257")
    assert "batches of 256 images at most" in errors(app)[0]
    assert not app.button(key="start").disabled
    assert errors(visit()) == []


def test_an_earlier_run_above_the_limits_of_today_is_shown(store: Store) -> None:
    run_id = store.create(SCENARIO.changed(max_seconds=4000), this_process())
    store.finish(run_id, "stopped")
    app = visit(run=run_id)
    assert not errors(app)
    assert app.number_input(key="max_seconds").value == 4000
