"""The controls of a scenario: plain choices first, details folded away.

Each control is keyed by the `Scenario` field it sets, so that `fill` can set them all and AppTest can find them.
Three fields are set together and have a choice of their own, `pick`: indices, labels and composition.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st
import torch

from deepleak_core.attack.presets import PRESETS
from deepleak_core.data import datasets
from deepleak_core.data.batches import load_batch, pick
from deepleak_core.data.datasets import DATASETS
from deepleak_core.errors import DatasetUnavailable, DeepLeakError, UnsupportedScenario
from deepleak_core.events import Finished
from deepleak_core.federated import checkpoints
from deepleak_core.federated.models import MODELS
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.labels.wrong_labels import swap_text
from deepleak_core.runs import checks
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import COMPOSITIONS, FEDAVG_METHODS, FOLDER_DATASETS, LOCAL_SETTINGS, Scenario, vars_of
from deepleak_core.studies import comparisons as findings
from deepleak_core.text import escape, split_list
from ui.address import WELCOME

EXAMPLES: dict[str, Scenario] = {
    "FedSGD, distinct": WELCOME,
    "FedAvg": WELCOME.changed(mode="fedavg", local_epochs=5, local_lr=0.01),
    "One wrong label": WELCOME.changed(wrong_labels=1),
    "Same label": Scenario(indices=(4, 5, 7, 19)),
}
NOTICE = "Let the attacker notice"  # the button that has wrong labels mended
GO_FURTHER = "exact"  # the attack that the page offers after one that left something to be rebuilt
PICKS = {name: title.capitalize() for name, title in COMPOSITIONS.items()} | {
    "indices": "Picked by hand",
    "labels": "By a list of labels",
}
MODES = {"fedsgd": "FedSGD", "fedavg": "FedAvg"}
LISTED = 500  # images of a data set that a list can still offer one by one
OWN = "own"  # the choice that leaves a setting to the data set or to the attack
REPAIRS = {OWN: "As the attack does", True: "Yes", False: "No"}
IMAGES = ("dataset", "images", "indices", "labels", "batch_size", "composition")
WORST = (
    "The worst case is the image whose features weigh most in the last layer, taken for the absent class that the "
    "network finds least likely for it."
)
SMALLEST = 1e-6  # what a control offers where a scenario takes anything above 0


def fill(scenario: Scenario) -> None:
    """Set every control to this scenario; call it before they are drawn."""
    state = st.session_state
    for name in Scenario.model_fields:
        state[name] = getattr(scenario, name)
    state.images, state.label_strategy = scenario.images or OWN, scenario.label_strategy or OWN
    state.fedavg = scenario.fedavg or OWN
    state.pick = "indices" if scenario.indices else "labels" if scenario.labels else scenario.composition
    state.indices = list(scenario.indices or ())
    state.numbers = ", ".join(map(str, scenario.indices or ()))
    state.labels = ", ".join(map(escape, scenario.labels or ()))
    state.mislabel = ", ".join(map(escape, scenario.mislabel or ()))
    state.repair_labels = OWN if scenario.repair_labels is None else scenario.repair_labels


def draw(*, locked: bool) -> tuple[Scenario | None, tuple[str, ...]]:
    """Draw the controls; the scenario they make, and every reason why it cannot run.

    `locked` shows them without letting them change, while a run is under way.
    """
    values = _private_batch(locked)
    values["attack"] = _select(
        "Attack", "attack", {name: preset.title for name, preset in PRESETS.items()}, locked, help=_guide(PRESETS)
    )
    if values["mode"] == "fedavg":
        with st.expander("Local training"):
            values |= _local_training(locked) | _fedavg(values["attack"], locked)
    with st.expander("Target model"):
        values |= _target_model(values["dataset"], locked)
    with st.expander("Labels"):
        values |= _labels(values["attack"], locked)
    with st.expander("Attack settings"):
        values |= _attack_settings(values["attack"], locked)
    with st.expander("Seed, limits, device"):
        values |= _limits(locked)
    return _made(values)


def draw_update() -> tuple[Scenario | None, tuple[str, ...]]:
    """Draw the controls that matter to the client's update, and none of the attack's; returns what `draw` does."""
    values = _private_batch(locked=False)
    if values["mode"] == "fedavg":
        with st.expander("Local training"):
            values |= _local_training(locked=False)
    with st.expander("Target model", expanded=True):
        values |= _target_model(values["dataset"], locked=False)
    values["seed"] = _number("Seed", "seed", locked=False)
    return _made(values)


def draw_few(base: Scenario, *, locked: bool) -> tuple[Scenario | None, tuple[str, ...]]:
    """The controls of a page that shows one thing: images, mode, network. All else is as `base` has it."""
    values = {name: value for name, value in base.to_values().items() if name not in (*IMAGES, *LOCAL_SETTINGS)}
    values |= _private_batch(locked)
    if values["mode"] == "fedavg":
        values |= _local_training(locked) | _fedavg(base.attack, locked)
    return _made(values | _network(values["dataset"], locked))


def _made(values: Mapping[str, Any]) -> tuple[Scenario | None, tuple[str, ...]]:
    """The scenario of these values, if they make one, and every reason why it cannot run."""
    try:
        scenario = Scenario(**values)
    except UnsupportedScenario as error:
        return None, error.problems
    try:
        check(scenario)
    except UnsupportedScenario as error:
        return scenario, error.problems
    return scenario, ()


def check(scenario: Scenario) -> None:
    """Raise `UnsupportedScenario` with every reason why this scenario cannot run in this app."""
    if scenario.images is not None and scenario.images not in image_folders():
        raise UnsupportedScenario(
            [
                f"images was {scenario.images!r}; this app takes images from folders below DEEPLEAK_IMAGES only: "
                "set it to a folder on this machine and start the app again, or choose a data set."
            ]
        )
    checks.check(scenario)
    with suppress(DatasetUnavailable):  # not downloaded yet: the run will do that
        pick(scenario, _image_labels(scenario.dataset, scenario.images))


class NextStep(NamedTuple):
    """Another attack on the same update, offered as a button."""

    words: str
    icon: str
    help: str
    scenario: Scenario


def further(scenario: Scenario, finished: Finished) -> NextStep | None:
    """What promises more than what came out: labels made wrong are mended, else the batch is taken apart."""
    if all(finished.pixel_exact) or scenario.attack == GO_FURTHER:
        return None
    if scenario.wrong_labels or scenario.mislabel:
        if scenario.repair_labels:
            return None
        mending = scenario.changed(repair_labels=True)
        return NextStep(NOTICE, ":material/auto_fix_high:", "The same attack, looking out for wrong labels.", mending)
    if scenario.label_strategy is not None:
        return None
    settings = dict.fromkeys(("fedavg", "learning_rate", "total_variation", "restarts", "max_iterations"))
    apart = scenario.changed(attack=GO_FURTHER, feature_term=False, **settings)
    return NextStep("Go further", ":material/call_split:", "Take the same update apart instead of searching.", apart)


def describe(record: RunRecord) -> str:
    """A run in one line: when, how it went, what it attacked."""
    scenario = record.scenario
    when = time.strftime("%H:%M", time.localtime(record.created))
    images = f"{scenario.batch_size} image{'s' if scenario.batch_size > 1 else ''}"
    wrong = scenario.wrong_labels or len(scenario.mislabel or ())
    twist = f", {wrong} wrong" if wrong else ""
    dataset = DATASETS[scenario.dataset].title if scenario.dataset in DATASETS else scenario.dataset
    attack = PRESETS[scenario.attack].title if scenario.attack in PRESETS else scenario.attack
    model = MODELS[scenario.model].title if scenario.model in MODELS else scenario.model
    client = f"{dataset}, {images}, {MODES[scenario.mode]}{twist}, {model}, {scenario.stage}"
    return f"{when} {attack}: {client} ({record.status})"


def examples(
    current: Scenario | None,
    choose: Callable[[Scenario], None],
    *,
    locked: bool = False,
    offered: Mapping[str, Scenario] = EXAMPLES,
) -> None:
    """One-click scenarios; the one that the controls make is marked."""
    state = st.session_state
    state.example = next((name for name, scenario in offered.items() if scenario == current), None)

    def chosen() -> None:
        if state.example is not None:
            choose(offered[state.example])

    st.pills("Try", list(offered), key="example", on_change=chosen, disabled=locked)


# --------------------------------------------------------------------------------------------- one wrong label


def fill_wrong_label(scenario: Scenario | None) -> None:
    """Set the two controls of `wrong_label` to what a scenario mislabels, or to the worst case."""
    swap = scenario.mislabel[0] if scenario and scenario.mislabel else None
    worst = swap is None or swap == _worst_swap(scenario.changed(mislabel=None).to_json())
    st.session_state.wrong_image, st.session_state.wrong_class = (OWN, None) if worst else split_list(swap, ">")


def wrong_label(scenario: Scenario, changed: Callable[[], None]) -> str | None:
    """Which label is wrong, as "cat>dog": the worst case or the visitor's own; None while the batch cannot be had."""
    try:
        labels = load_batch(scenario).labels.tolist()
        names = datasets.names_of_classes(scenario)
        worst = _worst_swap(scenario.to_json())
    except DeepLeakError:
        return None
    offered = {OWN: f"Worst case: {in_words(worst)}"} | {names[label]: names[label] for label in labels}
    image = _select("Wrong label", "wrong_image", offered, False, WORST, on_change=changed)
    if image == OWN:
        return worst
    others = {name: name for name in names if name != image}
    return swap_text(image, _select("Taken for", "wrong_class", others, False, on_change=changed))


def share(scenario: Scenario, changed: Callable[[], None], *, locked: bool) -> int:
    """How many images of the batch share a label, from none to all. Raises `DeepLeakError` for want of images."""
    offered = list(findings.shares(scenario)) or [scenario.batch_size]
    if st.session_state.get("share") not in offered:
        st.session_state.share = offered[-1]
    if len(offered) == 1:
        return offered[0]
    return st.select_slider(
        "Images that share a label", offered, key="share", on_change=changed, disabled=locked, width=170
    )


def in_words(swap: str) -> str:
    """
    >>> in_words("cat>dog")
    'cat taken for dog'
    """
    return " taken for ".join(split_list(swap, ">"))


@st.cache_data(max_entries=50, show_spinner=False)
def _worst_swap(scenario: str) -> str:
    return findings.worst_swap(Scenario.from_json(scenario))


# ------------------------------------------------------------------------------------------------ the groups


def _private_batch(locked: bool) -> dict[str, Any]:
    folders = image_folders()
    known = {name: dataset for name, dataset in DATASETS.items() if name not in FOLDER_DATASETS or folders}
    titles = {name: dataset.title for name, dataset in known.items()}
    values: dict[str, Any] = {"dataset": _select("Data set", "dataset", titles, locked, _guide(known))}
    if folders:
        own = {OWN: "The data set's own"} if values["dataset"] not in FOLDER_DATASETS else {}
        images = _select("Images from", "images", own | {f: Path(f).name for f in folders}, locked)
        values["images"] = None if images == OWN else images
    pick = _select("Private images", "pick", PICKS, locked)
    if pick == "indices":
        values["indices"] = _indices(values["dataset"], values.get("images"), locked)
    elif pick == "labels":
        values["labels"] = st.text_input(
            "Labels", key="labels", placeholder="cat, cat, ship, frog", disabled=locked, help="One image for each name."
        )
    else:
        values["composition"] = pick
        values["batch_size"] = _number("How many", "batch_size", locked)
    values["mode"] = st.segmented_control(
        "Federated learning", list(MODES), key="mode", format_func=MODES.__getitem__, required=True, disabled=locked,
        width="stretch", help="FedSGD shares the gradient of the batch, FedAvg the weights after local training.",
    )  # fmt: skip
    return values


def _indices(dataset: str, images: str | None, locked: bool) -> tuple[int, ...] | str:
    """Images by number: from a list with their labels, or typed where a list would be too long."""
    captions = _captions(dataset, images)
    if captions is None:
        return st.text_input("Images by number", key="numbers", placeholder="0, 1, 3, 4", disabled=locked)
    state = st.session_state
    state.indices = [i for i in state.get("indices", ()) if i < len(captions)]
    chosen = st.multiselect(
        "Images", range(len(captions)), key="indices", format_func=captions.__getitem__, disabled=locked
    )
    return tuple(chosen)


def _local_training(locked: bool) -> dict[str, Any]:
    return {
        "local_epochs": _number("Local epochs", "local_epochs", locked),
        "local_batch_size": _number("Images in one local step", "local_batch_size", locked),
        "local_lr": _number("Local learning rate", "local_lr", locked, step=0.001, format="%g"),
    }


def _fedavg(preset: str, locked: bool) -> dict[str, Any]:
    titles = {name: name.capitalize() for name in FEDAVG_METHODS}
    offered = {OWN: f"What the attack does ({titles[PRESETS[preset].fedavg].lower()})"} | titles
    method = _select(
        "Attack reads the update as", "fedavg", offered, locked,
        help=". ".join(f"{name.capitalize()}: {words}" for name, words in FEDAVG_METHODS.items()) + ".",
    )  # fmt: skip
    return {"fedavg": None if method == OWN else method}


def _target_model(dataset: str, locked: bool) -> dict[str, Any]:
    batchnorm = {"eval": "Running averages (eval)", "train": "Those of the batch (train)"}
    return _network(dataset, locked) | {
        "batchnorm": _select("BatchNorm statistics", "batchnorm", batchnorm, locked),
        "head_bias": st.toggle("Bias in the last layer", key="head_bias", disabled=locked),
        "image_size": _number("Image size in pixels", "image_size", locked, step=32),
    }


def _network(dataset: str, locked: bool) -> dict[str, Any]:
    model = _select("Network", "model", {name: spec.title for name, spec in MODELS.items()}, locked, _guide(MODELS))
    stages = checkpoints.stages(model, DATASETS[dataset].vocabulary)
    stage = _select("Training stage", "stage", {name: name.capitalize() for name in stages}, locked)
    if trained := [checkpoints.note(name, file).capitalize() for name, file in stages.items() if file]:
        st.caption(". ".join(trained) + ".")
    return {"model": model, "stage": stage}


def _labels(preset: str, locked: bool) -> dict[str, Any]:
    titles = {name: strategy.title for name, strategy in STRATEGIES.items()} | {"true": "None: true labels handed over"}
    offered = {OWN: f"As the attack does ({titles[PRESETS[preset].label_strategy]})"} | titles
    strategy = _select("How labels are inferred", "label_strategy", offered, locked, _guide(STRATEGIES))
    unasked = " and ".join(preset.title for preset in PRESETS.values() if preset.repairs)
    repair = _select(
        "Notice and mend wrong labels", "repair_labels", REPAIRS, locked,
        f"Unasked, {unasked} does so where the inferred counts are uncertain, but never where labels were falsified on "
        "purpose. No other attack does.",
    )  # fmt: skip
    return {
        "label_strategy": None if strategy == OWN else strategy,
        "wrong_labels": _number("Labels falsified on purpose", "wrong_labels", locked),
        "mislabel": st.text_input("Labels falsified by name", key="mislabel", placeholder="cat>dog", disabled=locked),
        "repair_labels": None if repair == OWN else repair,
    }


def _attack_settings(name: str, locked: bool) -> dict[str, Any]:
    preset = PRESETS[name]
    values: dict[str, Any] = {
        "total_variation": _number(
            "Smoothness (total variation)", "total_variation", locked,
            placeholder=f"{preset.total_variation:g}", step=0.001, format="%g",
        ),
        "restarts": _number("Starting points", "restarts", locked, placeholder=str(preset.restarts)),
    }  # fmt: skip
    if preset.learning_rate is not None:
        values["learning_rate"] = _number(
            "Learning rate", "learning_rate", locked, placeholder=f"{preset.learning_rate:g}", step=0.01, format="%g"
        )
    values["feature_term"] = st.toggle("Match separated features too", key="feature_term", disabled=locked)
    settings = (f"{name.replace('_', ' ')} {value}" for name, value in preset.settings().items() if value)
    st.caption(f"{preset.title}: {', '.join(settings)}.")
    return values


def _limits(locked: bool) -> dict[str, Any]:
    iterations = PRESETS[st.session_state.attack].iterations
    devices = ["auto", "cpu", *(["cuda"] if torch.cuda.is_available() else []), st.session_state.get("device", "auto")]
    return {
        "max_iterations": _number("Iterations at most", "max_iterations", locked, placeholder=str(iterations)),
        "max_seconds": _number("Seconds at most", "max_seconds", locked, placeholder="no limit", format="%g"),
        "seed": _number("Seed", "seed", locked),
        "device": _select("Device", "device", {name: name for name in devices}, locked),
    }


# ------------------------------------------------------------------------------------------ own folders of images


def image_folders() -> list[str]:
    """Folders below `DEEPLEAK_IMAGES` that hold class folders: nothing else on the disk can be asked for."""
    root = os.environ.get("DEEPLEAK_IMAGES")
    if not root or not Path(root).is_dir():
        return []
    return [str(f) for f in [Path(root), *sorted(Path(root).iterdir())] if f.is_dir() and any(f.glob("*/*.*"))]


# ------------------------------------------------------------------------------------------------ small helpers


def _guide(registry: Mapping[str, Any]) -> str:
    """A line for each entry of a registry, for the question mark beside its control."""
    return "\n".join(
        f"- **{entry.title}**: {entry.summary} {getattr(entry, 'source', '')}" for entry in registry.values()
    )


def _select(
    label: str,
    key: str,
    options: Mapping[Any, str],
    locked: bool,
    help: str | None = None,
    on_change: Callable[[], None] | None = None,
) -> Any:
    """A choice by name with its title on display; what is no longer offered falls back to the first."""
    if st.session_state.get(key) not in options:
        st.session_state[key] = next(iter(options))
    return st.selectbox(
        label, list(options), key=key, format_func=options.__getitem__, disabled=locked, help=help, on_change=on_change
    )


def _number(label: str, key: str, locked: bool, **looks: Any) -> int | float | None:
    """A number within the bounds that the scenario's field has; empty where the field may be."""
    field = Scenario.model_fields[key]
    st.session_state.setdefault(key, field.default)
    limits = {name: value for limit in field.metadata for name, value in vars_of(limit).items()}
    kind = float if "float" in str(field.annotation) else int
    return st.number_input(
        label,
        kind(limits.get("ge", SMALLEST)),
        kind(limits["le"]),
        value=None if field.default is None else "min",
        key=key,
        disabled=locked,
        **looks,
    )


@st.cache_data(max_entries=20, ttl="10m", show_spinner=False)
def _image_labels(dataset: str, images: str | None) -> tuple[int, ...]:
    """The label of each image of a data set. Raises `DatasetUnavailable`."""
    return datasets.items(Scenario(dataset=dataset, images=images)).labels


def _captions(dataset: str, images: str | None) -> list[str] | None:
    """ "4 frog" for each image of a data set, None where there are too many or none can be had yet."""
    try:
        labels = _image_labels(dataset, images)
    except DeepLeakError:
        return None
    names = datasets.names_of_classes(Scenario(dataset=dataset, images=images))
    return [f"{i} {names[label]}" for i, label in enumerate(labels)] if len(labels) <= LISTED else None
