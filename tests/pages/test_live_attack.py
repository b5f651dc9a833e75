"""The pages without a browser: what they say and do, with the real engine behind them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from deepleak_core.attack.presets import PRESETS
from deepleak_core.federated import checkpoints, models
from deepleak_core.federated.case import target_model
from deepleak_core.federated.models import MODELS
from deepleak_core.runs.store import Store, this_process
from deepleak_core.scenario import Scenario
from tests.helpers import PATIENCE, app_page, checked
from tests.helpers import page_html as text
from ui import address, backend
from ui.controls import EXAMPLES

SCENARIOS = [
    *EXAMPLES.values(),
    Scenario(),
    Scenario(composition="half", batch_size=6, seed=3, image_size=64),
    Scenario(labels=("cat", "cat", "ship"), label_strategy="true", head_bias=False, wrong_labels=2),
    Scenario(indices=(0, 1), mislabel=("cat>dog", "ship>frog"), repair_labels=True),
    Scenario(dataset="cifar100-samples", model="resnet20", batchnorm="train", attack="gradinversion", restarts=2),
    Scenario(dataset="cifar10", indices=(9000, 17), attack="dlg", max_seconds=2.5, device="cpu"),
    Scenario(
        mode="fedavg", local_epochs=3, local_batch_size=2, local_lr=0.004, learning_rate=0.05, total_variation=0.0
    ),
]


@pytest.fixture
def visit(store: Store) -> Callable[..., AppTest]:
    """Open the app by a link, as a fresh visitor."""

    return app_page


def finished(app: AppTest) -> AppTest:
    """Look again until the run is over."""
    deadline = time.monotonic() + PATIENCE
    while "stop" in [button.key for button in app.button]:
        assert time.monotonic() < deadline, "the run does not end"
        time.sleep(0.1)
        checked(app.run())
    return app


# ------------------------------------------------------------------------------------- scenario, controls, address


def test_the_page_opens_ready_to_run(visit: Any) -> None:
    app = visit()
    assert not app.button(key="start").disabled and not app.error
    assert text(app).count("<img") == 4 and "airplane" in text(app)
    assert dict(app.query_params) == {}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: str(address.query_of(scenario)))
def test_a_link_sets_the_controls_and_the_controls_write_the_same_link(visit: Any, scenario: Scenario) -> None:
    app = visit(**address.query_of(scenario))
    assert not app.error
    assert address.scenario_of(dict(app.query_params)) == scenario
    app.number_input(key="seed").set_value(scenario.seed + 1).run()
    assert address.scenario_of(dict(app.query_params)) == scenario.changed(seed=scenario.seed + 1)


def test_every_setting_of_a_scenario_has_a_control(visit: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("DEEPLEAK_IMAGES", str(image_folder(tmp_path)))
    keys: set[str] = set()
    for query in ({"composition": "same", "mode": "fedavg"}, {"indices": "0"}, {"labels": "cat"}):
        app = visit(**query)
        kinds = ("selectbox", "number_input", "text_input", "toggle", "multiselect", "segmented_control")
        keys |= {widget.key for kind in kinds for widget in app.get(kind)} | {"mode", "composition"}
    assert set(Scenario.model_fields) <= keys


@pytest.mark.parametrize(
    ("query", "sentences"),
    [
        ({"run": "nowhere"}, ["There is no run 'nowhere' here"]),
        ({"batch_size": "0"}, ["batch_size was '0'"]),
        ({"model": "alexnet", "attack": "guess"}, ["attack was 'guess'", "model was 'alexnet'"]),
        ({"indices": "0,99"}, ["has the images 0 to 19"]),
        ({"labels": "cat,unicorn"}, ["labels named 'unicorn'"]),
        ({"composition": "same", "batch_size": "19"}, ["cifar10-samples cannot give 19 images"]),
        ({"dataset": "folder", "images": "/etc"}, ["images was '/etc'; this app takes images from folders below"]),
        ({"images": "/etc"}, ["images was '/etc'; this app takes images from folders below"]),
        ({"local_epochs": "5"}, ["local_epochs applies to mode 'fedavg' only"]),
    ],
)  # fmt: skip
def test_a_link_that_cannot_run_is_refused_in_a_sentence(visit: Any, query: dict, sentences: list[str]) -> None:
    app = visit(**query)
    sentences = sentences if "run" in query else [*sentences, address.DISCARDED]
    assert len(app.error) == len(sentences)
    assert all(sentence in error.value for sentence, error in zip(sentences, app.error, strict=True))
    assert not app.button(key="start").disabled  # the scenario that needs no choice is ready instead


def test_controls_that_cannot_run_say_why_and_hold_the_button(visit: Any) -> None:
    app = visit(composition="distinct")
    app.number_input(key="wrong_labels").set_value(9).run()
    assert "wrong_labels was 9" in app.error[0].value
    assert app.button(key="start").disabled
    app.number_input(key="wrong_labels").set_value(1).run()
    assert not app.error and not app.button(key="start").disabled


def test_training_stages_say_how_far_and_fall_back(visit: Any, monkeypatch: Any, tmp_path: Path) -> None:
    """Of the data set's own classes alone, at the size they were trained at."""
    checkpoint = tmp_path / checkpoints.checkpoint_name("lenet64-elu", "cifar10", "late")
    checkpoints.save(target_model(Scenario()), checkpoint, epochs=5, accuracy=0.684)
    monkeypatch.setattr(models, "CHECKPOINTS", tmp_path)
    app = visit(stage="late", composition="distinct")
    assert not app.error
    assert app.selectbox(key="stage").options == ["Untrained", "Late"]
    told = "Late: 5 epochs, 68 % accuracy."
    assert told in [caption.value for caption in app.caption]
    app.number_input(key="image_size").set_value(64).run()
    assert app.error[0].value.startswith(f"{checkpoint.name} was trained for an image_size of 32")
    assert app.button(key="start").disabled
    app.number_input(key="image_size").set_value(32).run()
    assert not app.error and app.selectbox(key="stage").value == "late"
    app.selectbox(key="dataset").set_value("cifar100-samples").run()
    assert not app.error and app.selectbox(key="stage").options == ["Untrained"]
    assert told not in [caption.value for caption in app.caption]
    assert address.scenario_of(dict(app.query_params)).stage == "untrained"


def test_own_images_come_from_below_the_given_folder_only(visit: Any, monkeypatch: Any, tmp_path: Path) -> None:
    folder = image_folder(tmp_path)
    monkeypatch.setenv("DEEPLEAK_IMAGES", str(folder))
    app = visit(dataset="folder", images=str(folder / "zoo"), batch_size="2")
    assert not app.error and "lynx" in text(app) and "<img" in text(app)
    assert visit(dataset="folder", images=str(tmp_path / "elsewhere"), batch_size="2").error


def image_folder(tmp_path: Path) -> Path:
    """Class folders of two classes, in `zoo` below the folder that is given and in `elsewhere` beside it."""
    for place in ("given/zoo", "elsewhere"):
        for label in ("lynx", "okapi"):
            (tmp_path / place / label).mkdir(parents=True)
            Image.new("RGB", (40, 32), "teal").save(tmp_path / place / label / "1.png")
    return tmp_path / "given"


# ----------------------------------------------------------------------------------------------------------- runs


def test_a_run_ends_in_a_sentence_and_its_link_shows_it_again(visit: Any, store: Store) -> None:
    app = visit(indices="0,4", max_iterations="20")
    checked(app.button(key="start").click().run())
    assert app.query_params["run"] == store.runs()[0].id
    assert app.selectbox(key="dataset").disabled  # a scenario under way does not change
    told = text(finished(app))
    assert "of the 2 private images were rebuilt" in told
    assert "numbers. No image, no label." in told and "dl-present" in told
    assert [button.label for button in app.get("download_button")] == ["Pictures (PNG)", "Figures (JSON)"]

    again = visit(run=app.query_params["run"])
    assert "of the 2 private images were rebuilt" in text(again)
    assert again.number_input(key="max_iterations").value == 20

    again.number_input(key="max_iterations").set_value(30).run()  # another scenario: the run is left
    assert address.scenario_of(dict(again.query_params)).max_iterations == 30
    assert "were rebuilt" not in text(again)


def test_after_a_wrong_label_the_attacker_may_notice(visit: Any, store: Store) -> None:
    app = visit(indices="0,1,3,4", model="lenet", mislabel="ship>horse", max_iterations="60")
    app.button(key="start").click().run()
    told = text(finished(app))
    assert "1 of the 4 labels the attack used was wrong: horse instead of ship." in told
    assert "Made wrong on purpose: horse instead of ship." in told
    assert app.button(key="further").label == "Let the attacker notice"
    checked(app.button(key="further").click().run())
    told = text(finished(app))
    assert "The attack changed its labels, rightly." in told
    assert "<th>used</th>" not in told, "the labels used are those inferred again"
    assert store.runs()[0].scenario.repair_labels
    assert "further" not in [button.key for button in app.button]


def test_a_run_can_be_stopped(visit: Any, store: Store) -> None:
    app = visit(indices="0,4", max_iterations="100000")
    app.button(key="start").click().run()
    run_id = app.query_params["run"]
    deadline = time.monotonic() + PATIENCE
    while not store.run(run_id).snapshots and time.monotonic() < deadline:
        time.sleep(0.05)
    app.button(key="stop").click().run()
    assert "Stopped early." in text(finished(app))
    assert store.run(run_id).status == "stopped"


def test_runs_that_wait_say_their_place(visit: Any, store: Store) -> None:
    first, second = (store.create(address.WELCOME, this_process()) for _ in range(2))
    time.sleep(2.1)  # what waits no longer than this is only starting
    assert "Waiting, place 2 in the queue" in text(visit(run=second))
    assert "Waiting for a free worker" in text(visit(run=first))
    for run_id in (first, second):
        store.finish(run_id, "stopped")
    assert "Stopped before it began." in text(visit(run=first))


def test_runs_that_went_wrong_say_what_happened(visit: Any, store: Store) -> None:
    failed, interrupted, retried = (store.create(address.WELCOME, this_process()) for _ in range(3))
    store.finish(failed, "failed", "The worker was killed twice.")
    store.finish(interrupted, "interrupted", "The app was restarted.")
    store.start(retried)
    store.start(retried)
    store.note(retried, "The run was retried.")
    assert visit(run=failed).error[0].value == "The worker was killed twice."
    assert visit(run=interrupted).warning[0].value == "The app was restarted."
    assert visit(run=retried).warning[0].value == "The run was retried."
    store.finish(retried, "stopped")


def test_a_full_queue_is_said_in_a_sentence(visit: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(backend.engine(), "max_waiting", -1)
    app = visit()
    checked(app.button(key="start").click().run())
    assert "wait already" in app.error[0].value
    assert "run" not in app.query_params


def test_suspense_hides_the_private_images_until_the_end(visit: Any) -> None:
    app = visit(indices="0,4", max_iterations="10", suspense="true")
    assert "<img" not in text(app) and text(app).count("private</figcaption>") == 2
    app.button(key="start").click().run()
    assert "private</figcaption>" not in text(finished(app))
    assert app.query_params["suspense"] == "true"


def test_recent_runs_open_again(visit: Any, store: Store) -> None:
    app = visit()
    newest = store.runs()[0]
    assert PRESETS[newest.scenario.attack].title in app.button(key=f"open-{newest.id}").label
    assert MODELS[newest.scenario.model].title in app.button(key=f"open-{newest.id}").label
    checked(app.button(key=f"open-{newest.id}").click().run())
    assert app.query_params["run"] == newest.id
