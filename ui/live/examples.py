"""The scenarios that cards show, and the recordings of them. Imports no PyTorch: cards are drawn first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deepleak_core.runs.recording import Head, RecordedRun
from deepleak_core.scenario import Scenario
from deepleak_core.studies.wrong_labels import wrong_label_of
from deepleak_core.text import split_list
from ui import recordings
from ui.address import WELCOME
from ui.cards import Card, cards


@dataclass(frozen=True)
class Example:
    """A card: its id, what stands on it, the scenario that it sets, the recording that has a run of it, and a sentence.

    The sentence says what that run shows.
    """

    id: str
    title: str
    note: str
    scenario: Scenario
    recording: str
    sentence: str


WRONG = wrong_label_of(WELCOME)  # as on the page One wrong label
EXAMPLES = (
    Example(
        "distinct", "Four photos", "one gradient", WELCOME, "distinct",
        "Four photos stay on the device, only a gradient leaves it. The server rebuilds them.",
    ),
    Example(
        "fedavg", "Several local steps", "FedAvg, 5 steps",
        WELCOME.changed(mode="fedavg", local_epochs=5, local_lr=0.01), "several-local-steps",
        "The client trains for five steps and shares only its weights. The server rebuilds the photos.",
    ),
    Example(
        "wrong-label", "One wrong label", " labelled ".join(split_list(WRONG, ">")), WELCOME.changed(mislabel=(WRONG,)),
        "one-wrong-label",
        f"The server labels the {' as a '.join(split_list(WRONG, '>'))}, and every image gets worse.",
    ),
    Example(
        "same-label", "Same label", "four frogs", Scenario(indices=(4, 5, 7, 19)), "same-label",
        "Four frogs share one label. The server gets their blend.",
    ),
    Example(
        "trained", "Trained network", "exact attack", WELCOME.changed(stage="late", attack="exact"),
        "trained-network", "The network is trained to 70 % accuracy. Gradient matching recovers no photo then; the "
        "exact attack recovers all four.",
    ),
    Example(
        "imagenet", "ImageNet photos", "1000 classes",
        Scenario(dataset="imagenet-samples", indices=(0, 1, 2, 3), image_size=64, attack="exact", max_seconds=60),
        "imagenet", "Four larger photos of 1000 classes. The server solves for every pixel.",
    ),
)  # fmt: skip


def example_of(scenario: Scenario | None) -> Example | None:
    """The card that sets this scenario."""
    return next((example for example in EXAMPLES if example.scenario == scenario), None)


def draw(current: Scenario | None, *, locked: bool) -> Scenario | None:
    """Draw the cards, the one of the current scenario marked; the scenario of the card just picked."""
    chosen, heads = example_of(current), {head.name: head for head in recordings.heads()}
    items = [
        Card(id=example.id, title=example.title, note=example.note, pictures=_pictures(example, heads))
        for example in EXAMPLES
    ]
    picked = cards(items, key="examples", chosen=chosen.id if chosen else None, disabled=locked)
    return next((example.scenario for example in EXAMPLES if example.id == picked), None)


def _pictures(example: Example, heads: Mapping[str, Head]) -> tuple[bytes, ...]:
    """What the recorded run of an example ended with."""
    head = heads.get(example.recording)
    return head.pictures_of(example.scenario) if head else ()


def recorded_for(scenario: Scenario | None) -> RecordedRun | None:
    """The recording of a scenario that comes with the app, if there is one."""
    example = example_of(scenario)
    own = example.recording if example else ""
    names = [head.name for head in recordings.heads() if head.scenario == scenario or head.name == own]
    runs = (run for name in names for run in recordings.recording(name).runs)
    return next((run for run in runs if run.scenario == scenario), None)
