"""The controls of a scenario: four simple choices, and all others for experts. Each has a sentence of help.

Each control is keyed by the `Scenario` field it sets, so that `fill` can set them all and tests can find them. Three
fields exclude one another and share a choice, `pick`: indices, labels and composition.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import streamlit as st

from deepleak_core.data.batches import pick
from deepleak_core.data.datasets import DATASETS
from deepleak_core.errors import DatasetUnavailable, UnsupportedScenario
from deepleak_core.federated import checkpoints
from deepleak_core.federated.models import MODELS
from deepleak_core.runs import checks
from deepleak_core.scenario import LOCAL_ORDERS, LOCAL_SETTINGS, Scenario
from deepleak_core.text import escape, shorten
from ui import backend, messages
from ui.controls import attack, estimates, images, inputs
from ui.controls.images import OWN
from ui.titles import TITLES

IMAGES = ("dataset", "images", "indices", "labels", "batch_size", "composition")

BIAS_HELP = "Label counts are read from the gradient of this bias; without it they are estimated."
STAGE_HELP = "How far the network is trained: the longer, the less its gradient reveals."

Made = tuple[Scenario | None, tuple[str, ...]]  # a scenario, if the controls make one, and every problem with it


def fill(scenario: Scenario) -> None:
    """Set every control to this scenario; call it before they are drawn."""
    state = st.session_state
    for name in Scenario.model_fields:
        state[name] = getattr(scenario, name)
    state.images = scenario.images or OWN
    state.pick = "indices" if scenario.indices else "labels" if scenario.labels else scenario.composition
    state.indices = list(scenario.indices or ())
    state.numbers = ", ".join(map(str, scenario.indices or ()))
    state.labels = ", ".join(map(escape, scenario.labels or ()))
    attack.fill(scenario)


def draw(*, locked: bool) -> Made:
    """Draw all controls; `locked` shows them without letting them change, while a run is under way."""
    _resend()
    values, problems = images.draw(locked=locked)
    if values["mode"] == "fedavg":
        values |= _local_epochs(locked)
    outlook = st.container()
    values["attack"] = attack.choice(locked=locked)
    with st.expander("Expert settings", icon=":material/science:"):
        network, labels, own, client, limits = st.tabs(["Network", "Labels", "Attack", "Client", "Limits"])
    with client:
        if values["mode"] == "fedavg":
            values |= _local_training(locked) | attack.update_reading(values["attack"], locked=locked)
        else:
            st.caption("FedSGD: the client takes no local step; it shares the gradient of its batch.")
    with network:
        values |= _target_model(values, locked)
    with labels:
        values |= attack.labels(values["attack"], locked=locked)
    with own:
        values |= attack.settings(values["attack"], locked=locked)
    with limits:
        values |= attack.limits(values["attack"], locked=locked)
    scenario, problems = _made(values, problems)
    if scenario is not None and not problems:
        with outlook:
            estimates.draw(scenario, locked=locked)
    return scenario, problems


def draw_update() -> Made:
    """Draw the controls that matter to the client's update, and none of the attack's."""
    _resend()
    values, problems = images.draw(locked=False)
    if values["mode"] == "fedavg":
        values |= _local_epochs(locked=False)
        with st.expander("Local training"):
            values |= _local_training(locked=False)
    with st.expander("Target model", expanded=True):
        values |= _target_model(values, locked=False)
    values["seed"] = inputs.number("seed")
    return _made(values, problems)


def draw_few(base: Scenario, *, locked: bool) -> Made:
    """Draw images, mode and network, the controls of a comparison; all else is as in `base`."""
    _resend()
    values = {name: value for name, value in base.to_values().items() if name not in (*IMAGES, *LOCAL_SETTINGS)}
    own, problems = images.draw(locked=locked)
    values |= own
    if values["mode"] == "fedavg":
        values |= _local_epochs(locked) | _local_training(locked)
        values |= attack.update_reading(base.attack, locked=locked)
    return _made(values | _network(values["dataset"], locked), problems)


def check(scenario: Scenario) -> None:
    """Raise `UnsupportedScenario` with every reason why this scenario cannot run in this app."""
    if scenario.images is not None and scenario.images not in images.image_folders():
        raise UnsupportedScenario(
            [
                f"images was {shorten(repr(scenario.images))}; this app takes images from folders below "
                "DEEPLEAK_IMAGES only: set it to a folder of this machine and restart the app, or choose a data set."
            ]
        )
    if problems := backend.limits().problems(scenario):
        raise UnsupportedScenario(problems)
    checks.check(scenario)
    with suppress(DatasetUnavailable):  # not downloaded yet: the run will do that
        pick(scenario, images.image_labels(scenario.dataset, scenario.images))


def _resend() -> None:
    """Send every value to the browser once more.

    A closed drawer has no inputs in the browser. When it is opened, they take the value that was sent last, or their
    default where the last drawing sent none; with the next click the browser would return these defaults.
    """
    state = st.session_state
    for name in (*Scenario.model_fields, "pick", "numbers"):
        if name in state:
            state[name] = state[name]
    attack.resend()


def _made(values: Mapping[str, Any], problems: tuple[str, ...]) -> Made:
    """The scenario of these values, if they make one, and every problem with it."""
    if problems:
        return None, problems
    try:
        scenario = Scenario(**values)
    except UnsupportedScenario as error:
        return None, error.problems
    try:
        check(scenario)
    except UnsupportedScenario as error:
        return scenario, error.problems
    return scenario, ()


# ------------------------------------------------------------------------------------------------ the groups


def _local_epochs(locked: bool) -> dict[str, Any]:
    return {"local_epochs": inputs.number("local_epochs", locked=locked)}


def _local_training(locked: bool) -> dict[str, Any]:
    titles = {name: name.capitalize() for name in LOCAL_ORDERS}
    orders = "\n".join(f"- **{name.capitalize()}**: {words}." for name, words in LOCAL_ORDERS.items())
    return {
        "local_batch_size": inputs.number("local_batch_size", locked=locked),
        "local_lr": inputs.number("local_lr", locked=locked, step=0.001, format="%g"),
        "local_momentum": inputs.number("local_momentum", locked=locked, step=0.01, format="%g"),
        "local_order": inputs.select(TITLES["local_order"], "local_order", titles, locked=locked, help=orders),
    }


def _target_model(values: Mapping[str, Any], locked: bool) -> dict[str, Any]:
    """The network; and the image size, where it is not among the inputs of the images."""
    size = {} if "image_size" in values else {"image_size": _size(locked)}
    statistics = {"eval": "Running averages (eval)", "train": "Those of the batch (train)"}
    return _network(values["dataset"], locked) | size | {
        "batchnorm": inputs.select(TITLES["batchnorm"], "batchnorm", statistics, locked=locked),
        "head_bias": st.toggle(TITLES["head_bias"], key="head_bias", disabled=locked, help=BIAS_HELP),
    }  # fmt: skip


def _size(locked: bool) -> int | float | None:
    return inputs.number("image_size", locked=locked, step=32)


def _network(dataset: str, locked: bool) -> dict[str, Any]:
    titles = {name: spec.title for name, spec in MODELS.items()}
    model = inputs.select(TITLES["model"], "model", titles, locked=locked, help=inputs.guide(MODELS))
    stages = checkpoints.stages(model, DATASETS[dataset].vocabulary, image_size=st.session_state.get("image_size"))
    named = {name: name.capitalize() for name in stages}
    stage = inputs.select(TITLES["stage"], "stage", named, locked=locked, help=STAGE_HELP)
    if trained := [checkpoints.note(name, file).capitalize() for name, file in stages.items() if file]:
        st.html(messages.note(". ".join(trained) + "."))
    return {"model": model, "stage": stage}
