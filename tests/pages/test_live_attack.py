"""The page Live attack: controls and links, runs and their outcome; with the real engine."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from deepleak_core import run
from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.attack.priors import PRIORS
from deepleak_core.attack.settings import limits_of
from deepleak_core.events import Finished, GroundTruthKnown, LabelsRevised, Snapshot
from deepleak_core.federated import checkpoints
from deepleak_core.federated.case import target_model
from deepleak_core.runs.recording import gallery
from deepleak_core.runs.store import Store, this_process
from deepleak_core.scenario import Scenario
from tests.data.pictures import zoo
from tests.helpers import app_page, checked, component, ended, errors, headline, keys, page_html, warnings
from tests.runs.engines import eventually
from ui import address, backend, ownership
from ui.live import examples
from ui.titles import TITLES

SCENARIOS = [
    address.WELCOME,
    address.WELCOME.changed(mode="fedavg", local_epochs=5, local_lr=0.01),
    Scenario(),
    Scenario(composition="half", batch_size=6, seed=3, image_size=64),
    Scenario(labels=("cat", "cat", "ship"), label_strategy="true", head_bias=False, wrong_labels=2),
    Scenario(indices=(0, 1), mislabel=("cat>dog", "ship>frog"), repair_labels=True),
    Scenario(dataset="cifar100-samples", model="resnet20", batchnorm="train", attack="gradinversion", restarts=2),
    Scenario(dataset="cifar10", indices=(9000, 17), attack="dlg", max_seconds=2.5, device="cpu"),
    Scenario(
        mode="fedavg", local_epochs=3, local_batch_size=2, local_lr=0.004, learning_rate=0.05, total_variation=0.0
    ),
    Scenario(feature_term=True, prior=("l2=0.001", "batchnorm=0.5"), setting=("solver=lbfgs", "distance=squared-l2")),
    Scenario(attack="exact", total_variation=0.01, setting=("feature_weight=0.5",)),
]


@pytest.fixture
def visit(store: Store) -> Callable[..., AppTest]:
    """Open the page by a link, as a fresh visitor."""
    return app_page


# ------------------------------------------------------------------------------------- scenario, controls, address


def columns(app: AppTest, kind: str) -> list[dict[str, Any]]:
    """The columns of the stage that show what stands still, a run, or a note."""
    return [column for column in component(app, "attack-stage")["columns"] if column["kind"] == kind]


def private(app: AppTest) -> list[str]:
    """The labels of the private images that are shown."""
    return [name for column in columns(app, "still") for name in column["captions"]]


def frames(app: AppTest) -> list[dict[str, Any]]:
    """The frames of the run that the stage plays."""
    (track,) = columns(app, "track")
    return track["run"]["frames"] if track["run"] else []


@pytest.mark.skipif(examples.recorded_for(address.WELCOME) is None, reason="no recording of it in the gallery")
def test_the_first_visit_plays_a_recorded_attack_and_is_ready_to_run(visit: Any) -> None:
    app = visit()
    assert not app.button(key="start").disabled
    assert not errors(app)
    assert private(app) == ["cat", "ship", "airplane", "frog"]
    assert len(frames(app)) > 20
    assert component(app, "attack-stage")["autoplay"]
    assert dict(app.query_params) == {}
    assert app.selectbox(key="attack").value == address.WELCOME.attack  # drawn, while the attack plays


def test_a_scenario_without_a_recording_shows_its_images_and_what_comes(visit: Any) -> None:
    app = visit(indices="0,4", seed="7")
    assert private(app) == ["cat", "frog"]
    assert not frames(app)
    assert not app.button(key="start").disabled


@pytest.mark.parametrize("example", examples.EXAMPLES, ids=lambda example: example.id)
def test_every_card_sets_a_scenario_that_can_run_and_plays_its_recording(visit: Any, example: Any) -> None:
    app = visit(**address.query_of(example.scenario))
    assert component(app, "examples")["chosen"] == example.id
    assert not errors(app)
    if example.recording in {head.name for head in gallery()}:
        assert len(frames(app)[0]["labels"]) == example.scenario.batch_size


def test_every_control_has_a_sentence_of_help(visit: Any) -> None:
    for query in ({"composition": "same", "mode": "fedavg"}, {"indices": "0"}, {"labels": "cat"}, {"attack": "exact"}):
        app = visit(**query)
        kinds = ("selectbox", "number_input", "text_input", "toggle", "multiselect", "segmented_control")
        controls = [widget for kind in kinds for widget in app.get(kind)]
        assert [widget.key for widget in controls if not widget.help] == []


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: str(address.query_of(scenario)))
def test_a_link_sets_the_controls_and_the_controls_write_the_same_link(visit: Any, scenario: Scenario) -> None:
    app = visit(**address.query_of(scenario))
    assert not errors(app)
    assert address.scenario_of(dict(app.query_params)) == scenario
    app.number_input(key="seed").set_value(scenario.seed + 1).run()
    assert address.scenario_of(dict(app.query_params)) == scenario.changed(seed=scenario.seed + 1)


def test_every_setting_of_a_scenario_has_a_control(visit: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("DEEPLEAK_IMAGES", str(image_folder(tmp_path)))
    found: set[str] = set()
    for query in ({"composition": "same", "mode": "fedavg"}, {"indices": "0"}, {"labels": "cat"}):
        app = visit(**query)
        kinds = ("selectbox", "number_input", "text_input", "toggle", "multiselect", "segmented_control")
        found |= {widget.key for kind in kinds for widget in app.get(kind)} | {"mode", "composition"}
    own = {"feature_term", "prior", "setting"}  # made of the inputs of single settings and priors
    assert set(Scenario.model_fields) - own <= found


@pytest.mark.parametrize(
    ("query", "sentences"),
    [
        ({"run": "nowhere"}, ["There is no run 'nowhere' here"]),
        ({"batch_size": "0"}, ["\"How many\" was '0'"]),
        ({"model": "alexnet", "attack": "guess"}, ["\"Network\" was 'alexnet'", "\"Attack\" was 'guess'"]),
        ({"indices": "0,99"}, ["has the images 0 to 19"]),
        ({"labels": "cat,unicorn"}, ["labels named 'unicorn'"]),
        ({"composition": "same", "batch_size": "19"}, ["cifar10-samples cannot give 19 images"]),
        ({"dataset": "folder", "images": "/etc"}, ["\"Images from\" was '/etc'; this app takes images from folders"]),
        ({"images": "/etc"}, ["\"Images from\" was '/etc'; this app takes images from folders below"]),
        ({"indices": "0,1", "mislabel": "dog>frog"}, ["mislabel "]),
        ({"local_epochs": "5"}, ["\"Local epochs\" applies to FedAvg only"]),
    ],
)  # fmt: skip
def test_a_link_that_cannot_run_is_refused_in_a_sentence(visit: Any, query: dict, sentences: list[str]) -> None:
    app = visit(**query)
    sentences = sentences if "run" in query else [*sentences, address.DISCARDED]
    assert len(errors(app)) == len(sentences)
    assert all(sentence in error for sentence, error in zip(sentences, errors(app), strict=True))
    assert not app.button(key="start").disabled  # the scenario that needs no choice is ready instead


def test_every_setting_and_prior_of_an_attack_has_an_input(visit: Any) -> None:
    for name in ("general-deep-leakage", "exact"):
        app = visit(attack=name, mode="fedavg")
        found = {str(widget.key).removeprefix("setting-").removeprefix("max_") for kind in ("selectbox", "number_input")
                 for widget in app.get(kind)}  # fmt: skip
        assert set(limits_of(ATTACKS[name].settings)) <= found
    weights = {widget.key for widget in visit().number_input if widget.label.startswith("Weight")}
    assert weights == {"total_variation", *(f"prior-{name}" for name in PRIORS if name != "total-variation")}


def test_a_setting_of_the_attack_reaches_the_scenario(visit: Any) -> None:
    app = visit()
    app.selectbox(key="setting-distance").set_value("squared-l2")
    app.number_input(key="prior-l2").set_value(0.25).run()
    scenario = address.scenario_of(dict(app.query_params))
    assert (scenario.setting, scenario.prior) == (("distance=squared-l2",), ("l2=0.25",))


@pytest.mark.parametrize(
    ("query", "clear"),
    [
        ({}, lambda app: app.multiselect(key="indices").set_value([])),
        ({"labels": "cat,frog"}, lambda app: app.text_input(key="labels").set_value(" , ")),
        ({"dataset": "cifar10", "indices": "0,1"}, lambda app: app.text_input(key="numbers").set_value("")),
    ],
)
def test_a_batch_without_images_is_asked_for_and_never_replaced(visit: Any, query: dict, clear: Any) -> None:
    app = visit(**query)
    checked(clear(app).run())
    assert len(errors(app)) == 1
    assert app.button(key="start").disabled
    assert private(app) == []


def test_controls_that_cannot_run_say_why_and_hold_the_button(visit: Any) -> None:
    app = visit(composition="distinct")
    app.number_input(key="wrong_labels").set_value(9).run()
    assert f'"{TITLES["wrong_labels"]}" was 9' in errors(app)[0]
    assert app.button(key="start").disabled
    app.number_input(key="wrong_labels").set_value(1).run()
    assert not errors(app)
    assert not app.button(key="start").disabled


def test_training_stages_say_how_far_and_fall_back(visit: Any, monkeypatch: Any, tmp_path: Path) -> None:
    """Of the data set's own classes alone, at the size they were trained at."""
    checkpoint = tmp_path / checkpoints.checkpoint_name("lenet64-elu", "cifar10", "late")
    checkpoints.save(target_model(Scenario()), checkpoint, epochs=5, accuracy=0.684)
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path)
    app = visit(stage="late", composition="distinct")
    assert not errors(app)
    assert app.selectbox(key="stage").options == ["Untrained", "Late"]
    trained = "68\N{NO-BREAK SPACE}%"
    assert trained in page_html(app)
    app.number_input(key="image_size").set_value(64).run()
    assert errors(app)[0].startswith(f"{checkpoint.name} was trained for")
    assert app.button(key="start").disabled
    app.number_input(key="image_size").set_value(32).run()
    assert not errors(app)
    assert app.selectbox(key="stage").value == "late"
    app.selectbox(key="dataset").set_value("cifar100-samples").run()
    assert not errors(app)
    assert app.selectbox(key="stage").options == ["Untrained"]
    assert trained not in page_html(app)
    assert address.scenario_of(dict(app.query_params)).stage == "untrained"


def test_own_images_come_from_below_the_given_folder_only(visit: Any, monkeypatch: Any, tmp_path: Path) -> None:
    folder = image_folder(tmp_path)
    monkeypatch.setenv("DEEPLEAK_IMAGES", str(folder))
    app = visit(dataset="folder", images=str(folder / "zoo"), batch_size="2")
    assert not errors(app)
    assert "lynx" in private(app)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    for outside in (tmp_path / "elsewhere", folder / "link", folder / "zoo" / ".." / ".." / "elsewhere"):
        assert errors(visit(dataset="folder", images=str(outside), batch_size="2"))


def test_a_smaller_data_set_gives_as_many_images_as_were_chosen(visit: Any, monkeypatch: Any, tmp_path: Path) -> None:
    """The images that are chosen at first, 0, 1, 3 and 4, do not all exist in a folder of four photos."""
    zoo(tmp_path / "zoo", "elk", "lynx", "okapi", "owl")
    monkeypatch.setenv("DEEPLEAK_IMAGES", str(tmp_path / "zoo"))
    app = visit()
    assert app.multiselect(key="indices").value == [0, 1, 3, 4]
    app.selectbox(key="dataset").set_value("folder").run()
    assert not errors(app)
    assert app.multiselect(key="indices").value == [0, 1, 2, 3]
    assert {"elk", "lynx", "okapi", "owl"} <= set(private(app))


def image_folder(tmp_path: Path) -> Path:
    """Class folders of two classes, in `zoo` below the folder that is given and in `elsewhere` beside it."""
    for place in ("given/zoo", "elsewhere"):
        for label in ("lynx", "okapi"):
            (tmp_path / place / label).mkdir(parents=True)
            Image.new("RGB", (40, 32), "teal").save(tmp_path / place / label / "1.png")
    return tmp_path / "given"


# ----------------------------------------------------------------------------------------------------------- runs


def outcome(store: Store, app: AppTest) -> Finished:
    """How the run of a page has ended."""
    finished = store.latest(app.query_params["run"], Finished)
    assert finished is not None
    return finished


def test_a_run_ends_in_its_sentence_and_its_link_shows_it_again(visit: Any, store: Store) -> None:
    app = visit(indices="0,4", max_iterations="20")
    checked(app.button(key="start").click().run())
    assert app.query_params["run"] == store.runs()[0].id
    ended(app)
    assert headline(app) == outcome(store, app).sentence
    assert private(app) == ["cat", "frog"]
    assert len(frames(app)[-1]["labels"]) == 2
    assert "of numbers, no image" in columns(app, "note")[0]["html"]
    assert {button.key for button in app.get("download_button")} == {"pictures", "figures", "archive"}

    again = visit(run=app.query_params["run"])
    assert headline(again) == headline(app)
    assert again.number_input(key="max_iterations").value == 20
    again.number_input(key="max_iterations").set_value(30).run()  # another scenario: the run is left
    assert address.scenario_of(dict(again.query_params)).max_iterations == 30
    assert headline(again) != headline(app)


def test_pictures_stand_in_the_order_of_the_private_images(visit: Any, store: Store) -> None:
    app = ended(visit(indices="4,0", max_iterations="60").button(key="start").click().run())
    assert private(app) == ["frog", "cat"]
    (track,) = columns(app, "track")
    names = {int(label): name for label, name in track["run"]["names"].items()}
    assert [names[label] for label in frames(app)[-1]["labels"]] == ["frog", "cat"]


def test_after_a_wrong_label_the_attacker_may_check_its_labels(visit: Any, store: Store) -> None:
    app = visit(indices="0,1,3,4", model="lenet", mislabel="ship>horse", max_iterations="60")
    ended(app.button(key="start").click().run())
    assert "horse instead of ship" in headline(app)
    ended(checked(app.button(key="further").click().run()))
    assert store.runs()[0].scenario.repair_labels
    assert store.latest(app.query_params["run"], LabelsRevised) is not None
    assert "<th>used</th>" not in page_html(app), "the labels used are those inferred again"
    assert "further" not in keys(app)


def test_what_is_left_is_recovered_exactly(visit: Any, store: Store) -> None:
    app = visit(indices="4,5", max_iterations="20")
    ended(app.button(key="start").click().run())
    ended(checked(app.button(key="further").click().run()))
    assert store.runs()[0].scenario.attack == "exact"
    assert page_html(app).count("dl-map") == 2
    assert "dl-stages" in page_html(app)


def test_a_run_can_be_stopped(visit: Any, store: Store) -> None:
    app = visit(indices="0,4", max_iterations="100000")
    app.button(key="start").click().run()
    run_id = app.query_params["run"]
    eventually(lambda: store.run(run_id).snapshots)
    ended(app.button(key="stop").click().run())
    assert store.run(run_id).status == "stopped"
    assert outcome(store, app).sentence in headline(app)
    assert headline(app) != outcome(store, app).sentence


def test_a_second_click_on_stop_starts_nothing(visit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "SECOND_CLICK_SECONDS", 600.0)
    app = visit(indices="0,4", max_iterations="100000")
    app.button(key="start").click().run()
    run_id = app.query_params["run"]
    ended(app.button(key="stop").click().run())
    checked(app.button(key="start").click().run())
    assert app.query_params["run"] == run_id
    monkeypatch.setattr(ownership, "SECOND_CLICK_SECONDS", 0.0)
    checked(app.button(key="start").click().run())
    assert app.query_params["run"] != run_id
    ended(app.button(key="stop").click().run())


def test_the_outcome_of_a_stopped_run_may_come_after_its_end(visit: Any, store: Store) -> None:
    """A worker at a long iteration is not waited for: its last events are stored later."""
    scenario = Scenario(indices=(0, 4), max_iterations=3)
    *events, end = run(scenario)
    run_id = store.create(scenario, this_process())
    store.append(run_id, events)
    store.finish(run_id, "stopped")
    assert not frames(visit(run=run_id))
    store.append(run_id, [end])
    app = visit(run=run_id)
    assert frames(app)
    assert end.sentence in headline(app)


def test_others_watch_a_run_and_only_who_started_it_or_the_presenter_stops_it(
    visit: Any, store: Store, monkeypatch: Any
) -> None:
    monkeypatch.setenv("DEEPLEAK_PRESENTER_CODE", "code")
    owner = visit(indices="0,5", max_iterations="100000")
    owner.button(key="start").click().run()
    run_id = owner.query_params["run"]
    other = visit(run=run_id)
    assert "stop" in keys(checked(owner.run()))
    assert owner.selectbox(key="dataset").disabled  # a scenario under way does not change
    assert "stop" not in keys(other)
    other.text_input(key="presenter-code").set_value("code")
    checked(other.button(key="presenter-submit").click().run())
    ended(other.button(key="stop").click().run())
    assert store.run(run_id).status == "stopped"


def test_without_a_ground_truth_the_page_shows_pictures_and_residual(visit: Any, store: Store) -> None:
    """As for an update captured in a real system: no score, pictures in the attacker's order."""
    scenario = Scenario(indices=(0, 4), max_iterations=3)
    run_id = store.create(scenario, this_process())
    store.start(run_id)
    for event in run(scenario):
        if not isinstance(event, GroundTruthKnown):
            store.append(run_id, [replace(event, score=None) if hasattr(event, "score") else event])
    store.finish(run_id, "finished")
    app = visit(run=run_id)
    assert len(frames(app)[-1]["labels"]) == 2
    assert frames(app)[-1]["psnr"] == []
    assert private(app) == []
    assert "correct" not in page_html(app)
    assert "dl-wrong" not in page_html(app)
    assert {button.key for button in app.get("download_button")} == {"pictures", "figures", "archive"}


def waiting(app: AppTest) -> str:
    """What the stage says while there is no picture."""
    (news,) = component(app, "attack-stage-feed")["tracks"].values()
    words: str = news["waiting"]
    return words


def test_a_run_that_diverged_is_shown(visit: Any, store: Store) -> None:
    """Its curves, player and figures, without the numbers that are none."""
    scenario = Scenario(indices=(0, 4), max_iterations=3)
    run_id = store.create(scenario, this_process())
    for event in run(scenario):
        if isinstance(event, Snapshot) and event.step:
            event = replace(event, loss=math.inf, residual=math.nan)
        elif isinstance(event, Finished):
            event = replace(event, reason="diverged", sentence="The attack diverged.", residual=math.nan)
        store.append(run_id, [event])
    store.finish(run_id, "failed", "The attack diverged.")
    app = visit(run=run_id)
    assert errors(app) == ["The attack diverged."]
    (track,) = columns(app, "track")
    assert None in [frame["residual"] for frame in track["run"]["frames"]]
    (curves,) = app.get("echarts_chart")
    assert json.loads(curves.proto.spec, parse_constant=pytest.fail)


def test_runs_that_wait_say_their_place(visit: Any, store: Store) -> None:
    first, second = (store.create(address.WELCOME, this_process()) for _ in range(2))
    assert "place 2 in the queue" in waiting(visit(run=second))
    assert "place" not in waiting(visit(run=first))
    for run_id in (first, second):
        store.finish(run_id, "stopped")


def test_runs_that_went_wrong_say_what_happened(visit: Any, store: Store) -> None:
    failed, interrupted, retried = (store.create(address.WELCOME, this_process()) for _ in range(3))
    store.finish(failed, "failed", "The worker was killed twice.")
    store.finish(interrupted, "interrupted", "The app was restarted.")
    store.start(retried)
    store.start(retried)
    store.note(retried, "The run was retried.")
    assert errors(visit(run=failed))[0] == "The worker was killed twice."
    assert warnings(visit(run=interrupted))[0] == "The app was restarted."
    assert warnings(visit(run=retried))[0] == "The run was retried."
    store.finish(retried, "stopped")


def test_a_full_queue_is_refused_in_a_sentence(visit: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(backend.engine(), "max_waiting", -1)
    app = visit()
    checked(app.button(key="start").click().run())
    assert len(errors(app)) == 1
    assert "run" not in app.query_params


def test_hidden_private_images_are_shown_when_the_run_ends(visit: Any) -> None:
    app = visit(indices="0,4", max_iterations="10", suspense="true")
    assert columns(app, "still")[0]["pictures"] == []
    assert columns(app, "still")[0]["count"] == 2
    app.button(key="start").click().run()
    ended(app)
    assert len(columns(app, "still")[0]["pictures"]) == 2
    assert app.query_params["suspense"] == "true"
