"""The inputs of the private batch: data set, folder, which images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from deepleak_core.data import datasets
from deepleak_core.data.datasets import DATASETS
from deepleak_core.data.folders import folders_to_choose
from deepleak_core.environment import IMAGES
from deepleak_core.errors import DeepLeakError
from deepleak_core.scenario import COMPOSITIONS, FOLDER_DATASETS, Scenario
from ui import backend
from ui.controls import inputs
from ui.titles import TITLES

OWN = "own"  # the choice that leaves a setting to the data set or to the attack
PICKS: Mapping[str, str] = {name: title.capitalize() for name, title in COMPOSITIONS.items()} | {
    "indices": "Chosen by number",
    "labels": "One for each label",
}
MODES = {"fedsgd": "FedSGD", "fedavg": "FedAvg"}
LISTED = 500  # images of a data set that a list can offer one by one
PICK_HELP = "Which images the client holds: drawn by how labels repeat, or chosen one by one."
FOLDER_HELP = "The data set's own images, or those of a folder of this machine that has one folder a class."
NO_IMAGES = "No image is chosen; choose at least one, or another way to pick the private images."
NO_LABELS = "No label is named; name one class for each image, or choose another way to pick the private images."


def draw(*, locked: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Draw the inputs; their values by scenario field, and why they choose no batch, if so."""
    folders = image_folders()
    known = {name: dataset for name, dataset in DATASETS.items() if name not in FOLDER_DATASETS or folders}
    titles = {name: dataset.title for name, dataset in known.items()}
    guide = inputs.guide(known)
    source, way = st.columns(2)
    with source:
        chosen = inputs.select(TITLES["dataset"], "dataset", titles, locked=locked, help=guide, on_change=_suit_size)
    values: dict[str, Any] = {"dataset": chosen}
    if folders:
        own = {OWN: "The data set's own"} if values["dataset"] not in FOLDER_DATASETS else {}
        offered = own | {folder: Path(folder).name for folder in folders}
        with source:
            images = inputs.select(TITLES["images"], "images", offered, locked=locked, help=FOLDER_HELP)
        values["images"] = None if images == OWN else images
    with way:
        pick = inputs.select(TITLES["composition"], "pick", PICKS, locked=locked, help=PICK_HELP)
    values |= _picked(pick, values["dataset"], values.get("images"), locked)
    if sizes := DATASETS[chosen].sizes:
        values["image_size"] = _size(sizes, locked)
    values["mode"] = inputs.segments(
        TITLES["mode"], "mode", MODES, locked=locked, width="stretch",
        help="FedSGD shares the gradient of the batch, FedAvg the weights after local training.",
    )  # fmt: skip
    if "indices" in values and not values["indices"]:
        return values, (NO_IMAGES,)
    if "labels" in values and not values["labels"].strip(" ,"):
        return values, (NO_LABELS,)
    return values, ()


def _suit_size() -> None:
    """Take a size that suits the images of the data set just chosen."""
    state = st.session_state
    sizes = DATASETS[state.dataset].sizes or (Scenario.model_fields["image_size"].default,)
    if state.get("image_size") not in sizes:
        state.image_size = sizes[0]


def _size(sizes: Sequence[int], locked: bool) -> int:
    """The sizes that suit a data set, and that of a link."""
    offered = sorted({*sizes, st.session_state.get("image_size", sizes[0])})
    size: int = inputs.segments(
        TITLES["image_size"], "image_size", {size: f"{size} px" for size in offered}, locked=locked, width="stretch",
        help=inputs.help_of("image_size"),
    )  # fmt: skip
    return size


def _picked(pick: str, dataset: str, images: str | None, locked: bool) -> dict[str, Any]:
    if pick == "indices":
        return {"indices": _indices(dataset, images, locked)}
    if pick == "labels":
        return {
            "labels": st.text_input(
                "Labels", key="labels", placeholder="cat, cat, ship, frog", disabled=locked, help="One image for each."
            )
        }
    return {
        "composition": pick,
        "batch_size": inputs.number("batch_size", locked=locked, most=backend.limits().batch_size),
    }


def _indices(dataset: str, images: str | None, locked: bool) -> tuple[int, ...] | str:
    """Images by number: from a list with their labels, or typed where a list would be too long."""
    captions = _captions(dataset, images)
    if captions is None:
        return st.text_input(
            "Images by number", key="numbers", placeholder="0, 1, 3, 4", disabled=locked, help=inputs.help_of("indices")
        ).strip(" ,")
    state = st.session_state
    asked = state.get("indices", [])
    fit = max(asked, default=0) < len(captions)  # else they were chosen from another data set
    state.indices = list(asked) if fit else list(range(min(len(asked), len(captions))))
    chosen = st.multiselect(
        "Images", range(len(captions)), key="indices", format_func=captions.__getitem__, disabled=locked,
        help=inputs.help_of("indices"),
    )  # fmt: skip
    return tuple(chosen)


@st.cache_data(max_entries=20, ttl="10m", show_spinner=False)
def image_labels(dataset: str, images: str | None) -> tuple[int, ...]:
    """The label of each image of a data set. Raises `DatasetUnavailable`."""
    return datasets.items(Scenario(dataset=dataset, images=images)).labels


def _captions(dataset: str, images: str | None) -> list[str] | None:
    """A caption such as "4 frog" for each image; None where there are too many or the data set is not available yet."""
    try:
        labels = image_labels(dataset, images)
    except DeepLeakError:
        return None
    names = datasets.names_of_classes(Scenario(dataset=dataset, images=images))
    return [f"{i} {names[label]}" for i, label in enumerate(labels)] if len(labels) <= LISTED else None


def image_folders() -> tuple[str, ...]:
    """Folders below `DEEPLEAK_IMAGES` that hold class folders: no other folder can be asked for."""
    root = IMAGES.value()
    return folders_to_choose(root) if root else ()
