"""The page Label inference: every strategy on one update, curves, links, refusals; with the real engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from deepleak_core.events import Scored
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.runs.store import Store
from deepleak_core.scenario import Scenario
from deepleak_core.studies.label_accuracy import Study, curve
from tests.helpers import app_page, checked, ended, errors, headline, keys, page_html, until
from tests.ui.label_inference.test_curves import cell
from ui import address, backend, controls
from ui.label_inference import curves


@pytest.fixture
def visit(store: Store) -> Callable[..., AppTest]:
    """Open the page by a link, as a fresh visitor."""
    return partial(app_page, "label_inference")


def answered(app: AppTest) -> AppTest:
    """Look again until every strategy has answered, and the headline says so."""
    return until(app, lambda: page_html(app).count("dl-hit") and "strateg" in headline(app))


def test_the_page_opens_with_every_strategy_on_one_update(visit: Any) -> None:
    app = answered(visit())
    assert not errors(app)
    assert dict(app.query_params) == {}
    html = page_html(app)
    assert all(strategy.title in html for strategy in STRATEGIES.values())
    assert html.count("<img src") == 4
    assert html.count("dl-step") >= 3
    assert "start" in keys(app)
    assert "dl-all" in html
    assert "dl-wrong" in html, "strategies that agree show nothing"


def test_an_example_sets_the_batch_and_its_link_leads_back(visit: Any) -> None:
    app = answered(visit())
    app.button_group(key="example").set_value("All different").run()
    answered(app)
    query = dict(app.query_params)
    assert address.scenario_of(query, default=Scenario()) == address.WELCOME
    again = answered(visit(**query))
    assert again.button_group(key="example").value == "All different"
    assert "dl-wrong" not in page_html(again)


def test_a_link_sets_the_controls_and_the_controls_write_the_same_link(visit: Any) -> None:
    scenario = Scenario(
        composition="half", batch_size=6, mode="fedavg", local_epochs=2, model="lenet", head_bias=False, seed=3
    )
    app = visit(**scenario.to_query(), spread="same", draws="5")
    assert not errors(app)
    assert address.scenario_of(dict(app.query_params)) == scenario
    assert (app.query_params["spread"], app.query_params["draws"]) == ("same", "5")
    app.number_input(key="seed").set_value(4).run()
    assert address.scenario_of(dict(app.query_params)) == scenario.changed(seed=4)
    assert app.query_params["spread"] == "same"


def test_what_an_attack_would_do_is_left_out(visit: Any) -> None:
    app = visit(indices="0,4", attack="dlg", wrong_labels="1", draws="7", over="nothing")
    assert address.scenario_of(dict(app.query_params)) == Scenario(indices=(0, 4))
    assert set(app.query_params) == {"indices"}


def test_a_repeated_label_shows_who_misses_it(visit: Any) -> None:
    app = answered(visit(indices="4,5,7,19", model="lenet64-elu"))
    assert "GradInversion" in headline(app)
    assert "1 of 4" in headline(app)
    assert "dl-miss" in page_html(app)


def test_controls_that_cannot_run_say_why(visit: Any, store: Store) -> None:
    app = visit(composition="same", batch_size="4")
    app.number_input(key="batch_size").set_value(19).run()
    assert "cifar10-samples cannot give 19 images" in errors(app)[0]
    assert "dl-matrix" not in page_html(app)
    refused = visit(model="alexnet")
    assert "\"Network\" was 'alexnet'" in errors(refused)[0]
    assert not refused.button(key="start").disabled


def test_a_refusal_by_the_engine_is_a_sentence(visit: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(backend.engine(), "max_waiting_studies", 0)
    app = visit(indices="0,4", seed="77")
    assert len(errors(app)) == 1
    assert "dl-matrix" not in page_html(app)


def test_own_images_can_be_read_too(visit: Any, monkeypatch: Any, tmp_path: Path) -> None:
    for label, color in (("lynx", "teal"), ("okapi", "brown")):
        (tmp_path / "zoo" / label).mkdir(parents=True)
        Image.new("RGB", (40, 32), color).save(tmp_path / "zoo" / label / "1.png")
    monkeypatch.setenv("DEEPLEAK_IMAGES", str(tmp_path))
    app = answered(visit(dataset="folder", images=str(tmp_path / "zoo"), batch_size="2"))
    assert "okapi" in page_html(app)
    assert not errors(app)


def test_curves_are_computed_and_found_again_by_their_link(visit: Any, store: Store) -> None:
    link = {"indices": "0,4", "model": "lenet", "draws": "5", "spread": "same"}
    app = answered(visit(**link))
    assert not app.get("echarts_chart")
    assert len(app.get("plotly_chart")) >= 1
    app.button(key="start").click().run()
    assert "15 of 15" in page_html(ended(app))
    assert app.button(key="start").disabled
    assert "20 images" in page_html(app)  # why the curve ends there

    scenario = Scenario(indices=(0, 4), model="lenet")
    points = curve(scenario, over="batch_size", composition="same", repeats=5, check=controls.check)
    records = store.studies([point.key for point in points])
    assert [point.scenario.batch_size for point in points] == [1, 2, 4]
    assert len(records) == 3
    assert "15 of 15" in page_html(visit(**link))
    assert not {record.id for record in records.values()} & {record.id for record in store.runs()}


def test_shipped_curves_stand_beside_and_over_stages_too(visit: Any, monkeypatch: Any, tmp_path: Path) -> None:
    file = tmp_path / "label_accuracy.json"
    cells = [cell(), cell(stage="late", machine="two of them"), cell(model="lenet64-elu", stage="late")]
    file.write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(curves, "BENCHMARK", file)
    app = visit(indices="0,4", model="lenet", over="stage")
    assert not errors(app)
    assert "on one core of a toaster and on two of them" in page_html(app)
    (choice,) = [box for box in app.selectbox if box.label == "Measured before"]
    assert [option.split(",")[1] for option in choice.options] == [" 4 images"] * 2
    choice.select_index(1).run()
    assert "LeNet-64" in choice.options[1]
    assert "two of them" not in page_html(checked(app))


def test_curves_can_be_stopped(visit: Any, store: Store) -> None:
    app = answered(visit(indices="0,4", draws="50"))
    app.button(key="start").click().run()
    points = curve(Scenario(indices=(0, 4)), over="batch_size", composition="random", repeats=50, check=controls.check)

    def scored() -> list[Scored]:
        records = store.studies([point.key for point in points])
        return list(store.newest([record.id for record in records.values()], Scored).values())

    until(app, scored)
    app.button(key="stop").click().run()
    ended(app)
    assert not app.button(key="start").disabled
    assert 0 < sum(score.draws for score in scored()) < 250


def test_an_answer_that_failed_says_why(visit: Any, store: Store, monkeypatch: Any) -> None:
    scenario = Scenario(indices=(0, 1), seed=4242)

    def fail(study: Study, *, visitor: str) -> str:
        run_id = store.create(study.scenario, owner="nobody:1:2.00", study=study.key)
        store.finish(run_id, "failed", "The worker was killed twice.")
        return run_id

    monkeypatch.setattr(backend.engine(), "study", fail)
    app = visit(**scenario.to_query())
    assert errors(app)[0] == "The worker was killed twice."
