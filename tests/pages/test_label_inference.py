"""Label inference in the browser's words: its tables, its curves, and the page with the real engine behind it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from deepleak_core.events import LastLayerRead, Scored, StrategyAnswered
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.runs.store import Store
from deepleak_core.scenario import Scenario
from deepleak_core.studies.label_accuracy import Study, curve
from tests.helpers import PATIENCE, app_page, checked
from tests.helpers import page_html as text
from ui import address, backend, controls, label_curves, label_markup


def read(counts: list[int], truth: list[int]) -> LastLayerRead:
    classes = len(counts)
    return LastLayerRead(
        gradient=(-0.2,) * classes,
        probabilities=(0.1,) * classes,
        real_counts=tuple(map(float, counts)),
        counts=tuple(counts),
        true_counts=tuple(truth),
    )


def answer(counts: Sequence[int], truth: Sequence[int], **values: Any) -> StrategyAnswered:
    return StrategyAnswered(
        strategy="idlg",
        counts=tuple(counts),
        true_counts=tuple(truth),
        seconds=0.002,
        **{"proven": False, "note": "", **values},
    )


# ----------------------------------------------------------------------------------------------------- the tables


def test_hits_and_misses_are_marked() -> None:
    names = ["cat", "dog", "frog"]
    table = label_markup.matrix([answer([2, 1, 0], [2, 0, 1])], names, [0, 1, 2])
    row = table.split("<tr>")[-1].split("</tr>")[0]
    assert row.count("dl-hit") == 1 and row.count("dl-miss") == 2
    assert 'title="1 found, 0 in the batch">1<' in row and 'title="0 found, 1 in the batch">0<' in row
    assert "2 of 3" in row and "2 ms" in row and "proven" not in row
    assert "all right" in label_markup.matrix([answer([2, 0, 1], [2, 0, 1])], names, [0, 1, 2])


def test_who_has_not_answered_yet_has_a_row_in_his_place_that_says_why() -> None:
    given = [answer([2, 1], [2, 1])]
    rows = label_markup.matrix(given, ["cat", "dog"], [0, 1], awaited="At work for 3 s.").split("<tr>")[3:]
    titles = [strategy.title for strategy in STRATEGIES.values()]
    assert [next(title for title in titles if f">{title}<" in row) for row in rows] == titles
    assert sum("At work for 3 s." in row for row in rows) == len(titles) - 1
    assert "dl-hit" in rows[list(STRATEGIES).index("idlg")] and "At work" not in rows[list(STRATEGIES).index("idlg")]
    assert label_markup.matrix(given, ["cat", "dog"], [0, 1]).count("<tr>") == 3


def test_a_proof_is_said_and_a_wrong_one_too() -> None:
    right, wrong = (
        label_markup.matrix([answer(counts, [1, 1], proven=True)], ["cat", "dog"], [0, 1])
        for counts in ([1, 1], [2, 0])
    )
    assert "<em>proven</em>" in right and "proven, wrongly" not in right
    assert "proven, wrongly" in wrong


def test_what_a_strategy_that_proves_could_not_prove_is_called_an_estimate() -> None:
    unsure = replace(answer([1, 1], [1, 1]), confidence=(0.9, 0.9))
    for found, said in ((unsure, True), (replace(unsure, proven=True), False), (answer([1, 1], [1, 1]), False)):
        assert (">estimated</em>" in label_markup.matrix([found], ["cat", "dog"], [0, 1])) == said


def test_of_many_classes_those_in_the_batch_or_named_get_a_column() -> None:
    truth, claimed = [0] * 100, [0] * 100
    truth[70], claimed[5] = 3, 3
    first = read(truth, truth)
    assert label_markup.columns(first, [answer(claimed, truth)]) == [5, 70]
    assert "and 98 further classes" in label_markup.steps(first, [f"class {c}" for c in range(100)], [5, 70])
    all_there = [1] * 100
    assert len(label_markup.columns(read(all_there, all_there), [])) == label_markup.COLUMNS
    assert label_markup.columns(read([0, 1], [1, 0]), []) == [0, 1]


def test_answers_outside_the_columns_are_counted() -> None:
    table = label_markup.matrix([answer([1, 0, 2], [3, 0, 0])], ["a", "b", "c"], [0, 1])
    assert "2 in further classes" in table


def test_bars_go_down_for_what_is_below_zero() -> None:
    table = label_markup.steps(read([1, 0], [1, 0]), ["cat", "dog"], [0, 1])
    assert table.count("dl-below") == 2 and table.count("dl-above") == 2
    assert "height:50.0%" in table and "height:25.0%" in table  # one scale: -0.2 is twice 0.1


def test_where_the_steps_miss_and_the_own_strategy_does_not_a_line_says_why() -> None:
    own = {right: replace(answer(right, [1, 1]), strategy="verified") for right in ((1, 1), (2, 0))}
    for found, answers, told in [
        ([2, 0], [own[1, 1]], True),
        ([2, 0], [own[2, 0]], False),
        ([2, 0], [answer([1, 1], [1, 1])], False),
        ([1, 1], [own[1, 1]], False),
    ]:
        table = label_markup.steps(read(found, [1, 1]), ["cat", "dog"], [0, 1], answers)
        assert (label_markup.BETTER in table) == told


def test_names_of_classes_and_notes_are_never_markup() -> None:
    name = "<img src=x onerror=alert(1)>"
    pieces = [
        label_markup.steps(read([1], [1]), [name], [0]),
        label_markup.matrix([answer([1], [1], note=name)], [name], [0]),
        label_markup.waiting(name),
    ]
    assert not [piece for piece in pieces if name in piece]


# ----------------------------------------------------------------------------------------------- measured before

SCORE = {name: {"exact_rate": 0.5} for name in STRATEGIES}


def cell(**values: Any) -> dict[str, Any]:
    common = {"model": "lenet", "stage": "untrained", "mode": "fedsgd", "classes": 10, "batch_size": 4}
    common |= {"dataset": "cifar10-samples", "image_size": 32, "head_bias": True, "machine": "one core of a toaster"}
    return common | {"composition": "random", "repeats": 20, "strategies": SCORE} | values


def test_a_benchmark_that_is_not_there_or_is_none_is_left_out(tmp_path: Path) -> None:
    assert label_curves.benchmark(tmp_path / "no.json") == []
    file = tmp_path / "label_accuracy.json"
    for content in ("{", '{"cells": []}'):
        file.write_text(content)
        assert label_curves.benchmark(file) == []
    file.write_text(json.dumps({"cells": [cell()]}))
    assert label_curves.benchmark(file) == [cell()]


def test_shipped_curves_are_sets_and_the_most_alike_comes_first() -> None:
    cells = [
        cell(batch_size=16, model="lenet64-elu"),
        cell(batch_size=8),
        cell(batch_size=4, model="lenet64-elu"),
        cell(batch_size=4, model="lenet64-elu", stage="late"),
        cell(batch_size=4, model="lenet64-elu", stage="early"),
        cell(batch_size=4, model="lenet64-elu", mode="fedavg"),
    ]
    sets = label_curves.sets_of(cells, Scenario(composition="random"), "batch_size")
    assert [[c["batch_size"] for c in own] for own in sets] == [[4, 16], [4], [4], [8], [4]]
    assert sets[-1][0]["mode"] == "fedavg", "the mode matters most"
    others = [cell(batch_size=4), cell(batch_size=8, head_bias=False), cell(batch_size=8, dataset="images")]
    sets = label_curves.sets_of(others, Scenario(composition="random"), "batch_size")
    assert [len(own) for own in sets] == [1, 1, 1], "curves of what is not alike"
    for order in (cells, cells[::-1]):
        over_stages = label_curves.sets_of(order, Scenario(composition="random"), "stage")
        assert ["untrained", "early", "late"] in [[c["stage"] for c in own] for own in over_stages]


# ------------------------------------------------------------------------------------------------------- the page


@pytest.fixture
def visit(store: Store) -> Callable[..., AppTest]:
    """Open the page by a link, as a fresh visitor."""

    return partial(app_page, "label_inference")


def until(app: AppTest, happened: Callable[[], Any]) -> AppTest:
    """Look again until something is there."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
        checked(app.run())
    return app


def answered(app: AppTest) -> AppTest:
    return until(app, lambda: "dl-matrix" in text(app) and re.search("ha(s|ve) the whole batch right", text(app)))


def keys(app: AppTest) -> set[str]:
    return {button.key for button in app.button}


def test_the_page_opens_with_every_strategy_on_one_update(visit: Any) -> None:
    app = answered(visit())
    assert not app.error and dict(app.query_params) == {}
    told = text(app)
    assert all(strategy.title in told for strategy in STRATEGIES.values())
    assert told.count("<img") == 4 and told.count("dl-step") >= 3
    assert "dl-hit" in told and "start" in keys(app)


def test_a_link_sets_the_controls_and_the_controls_write_the_same_link(visit: Any) -> None:
    scenario = Scenario(
        composition="half", batch_size=6, mode="fedavg", local_epochs=2, model="lenet", head_bias=False, seed=3
    )
    app = visit(**scenario.to_query(), spread="same", draws="5")
    assert not app.error
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
    assert "GradInversion finds 1 of 4 frog images, no label more than once." in text(app)
    assert "dl-miss" in text(app) and "1 of 4" in text(app)


def test_controls_that_cannot_run_say_why(visit: Any, store: Store) -> None:
    app = visit(composition="same", batch_size="4")
    app.number_input(key="batch_size").set_value(19).run()
    assert "cifar10-samples cannot give 19 images" in app.error[0].value
    assert "dl-matrix" not in text(app)
    refused = visit(model="alexnet")
    assert "model was 'alexnet'" in refused.error[0].value and not refused.button(key="start").disabled


def test_a_refusal_by_the_engine_is_a_sentence(visit: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(backend.engine(), "max_waiting_studies", 0)
    app = visit(indices="0,4", seed="77")
    assert "studies wait already" in app.error[0].value


def test_own_images_can_be_read_too(visit: Any, monkeypatch: Any, tmp_path: Path) -> None:
    for label, color in (("lynx", "teal"), ("okapi", "brown")):
        (tmp_path / "zoo" / label).mkdir(parents=True)
        Image.new("RGB", (40, 32), color).save(tmp_path / "zoo" / label / "1.png")
    monkeypatch.setenv("DEEPLEAK_IMAGES", str(tmp_path))
    app = answered(visit(dataset="folder", images=str(tmp_path / "zoo"), batch_size="2"))
    assert "okapi" in text(app) and not app.error


def test_curves_are_computed_and_found_again_by_their_link(visit: Any, store: Store) -> None:
    link = {"indices": "0,4", "model": "lenet", "draws": "5", "spread": "same"}
    app = answered(visit(**link))
    assert "Press Start" in text(app)
    app.button(key="start").click().run()
    until(app, lambda: "stop" not in keys(app))
    assert "15 of 15 batches" in text(app) and app.button(key="start").disabled  # of 1, 2 and 4 images
    assert "can give no larger batch" in text(app)

    scenario = Scenario(indices=(0, 4), model="lenet")
    points = curve(scenario, over="batch_size", composition="same", repeats=5, check=controls.check)
    records = store.studies([point.key for point in points])
    assert [point.scenario.batch_size for point in points] == [1, 2, 4] and len(records) == 3
    assert "15 of 15 batches" in text(visit(**link))
    assert not {record.id for record in records.values()} & {record.id for record in store.runs()}


def test_shipped_curves_stand_beside_and_over_stages_too(visit: Any, monkeypatch: Any, tmp_path: Path) -> None:
    file = tmp_path / "label_accuracy.json"
    cells = [cell(), cell(stage="late", machine="two of them"), cell(model="lenet64-elu", stage="late")]
    file.write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(label_curves, "BENCHMARK", file)
    app = visit(indices="0,4", model="lenet", over="stage")
    assert not app.error and "20 batches a point, on one core of a toaster and on two of them." in text(app)
    (choice,) = [box for box in app.selectbox if box.label == "Measured before"]
    assert [option.split(",")[1] for option in choice.options] == [" 4 images"] * 2
    choice.select_index(1).run()
    assert "LeNet-64" in choice.options[1] and "20 batches a point" in text(checked(app))


def test_curves_can_be_stopped(visit: Any, store: Store) -> None:
    app = answered(visit(indices="0,4", model="lenet", draws="50"))
    app.button(key="start").click().run()
    points = curve(
        Scenario(indices=(0, 4), model="lenet"), over="batch_size", composition="random", repeats=50,
        check=controls.check,
    )  # fmt: skip

    def scored() -> list[Scored]:
        records = store.studies([point.key for point in points])
        return list(store.newest([record.id for record in records.values()], Scored).values())

    until(app, scored)
    app.button(key="stop").click().run()
    until(app, lambda: "stop" not in keys(app))
    assert "Stopped: press Start to go on" in text(app)
    assert 0 < sum(score.draws for score in scored()) < 250


def test_an_answer_that_failed_says_why(visit: Any, store: Store, monkeypatch: Any) -> None:
    scenario = Scenario(indices=(0, 1), seed=4242)

    def fail(study: Study) -> str:
        run_id = store.create(study.scenario, owner="nobody:1:2.00", study=study.key)
        store.finish(run_id, "failed", "The worker was killed twice.")
        return run_id

    monkeypatch.setattr(backend.engine(), "study", fail)
    app = visit(**scenario.to_query())
    assert app.error[0].value == "The worker was killed twice."
