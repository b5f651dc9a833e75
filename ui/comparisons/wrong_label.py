"""One wrong label: which label is wrong, and the panels of the page."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from deepleak_core.data import datasets
from deepleak_core.data.batches import load_batch
from deepleak_core.events import LABELS_CHANGED
from deepleak_core.scenario import Scenario
from deepleak_core.studies import comparisons
from deepleak_core.text import split_list, swap_text
from ui import records
from ui.comparisons import groups
from ui.comparisons.frame import PAIR, Choice, FollowUp, Sweep
from ui.comparisons.groups import Group, Groups
from ui.comparisons.panels import Side, attacked, changes, private, side_of, stages
from ui.controls import inputs
from ui.pieces import Panel

WORST = "worst"  # the choice of the label whose error costs most
WORST_HELP = (
    "The worst case is the image whose features weigh most in the last layer, mislabelled as the absent class that the "
    "network finds least likely for it."
)


def in_words(swap: str) -> str:
    """A pair of classes as words.

    >>> in_words("cat>dog")
    'cat mislabelled as dog'
    """
    return " mislabelled as ".join(split_list(swap, ">"))


# ------------------------------------------------------------------------------------------------ which label is wrong


def _fill(pair: Group | None) -> None:
    wrong = pair.runs[1].scenario if pair else None
    swap = wrong.mislabel[0] if wrong and wrong.mislabel else None
    if wrong is None or swap is None or swap == _worst_swap(wrong.changed(mislabel=None).to_json()):
        st.session_state.wrong_image, st.session_state.wrong_class = WORST, None
    else:
        st.session_state.wrong_image, st.session_state.wrong_class = split_list(swap, ">")


def _scenarios(scenario: Scenario, menu: DeltaGenerator, locked: bool) -> Sequence[Scenario]:
    """The attack with all labels correct, and with the chosen one wrong. Raises `DeepLeakError`."""
    labels = load_batch(scenario).labels.tolist()
    names, worst = datasets.names_of_classes(scenario), _worst_swap(scenario.to_json())
    offered = {WORST: f"Worst case: {in_words(worst)}"} | {names[label]: names[label] for label in labels}
    with menu:
        image = inputs.select(
            "Wrong label", "wrong_image", offered, locked=locked, help=WORST_HELP, on_change=groups.leave
        )
        if image == WORST:
            return comparisons.wrong_label(scenario, worst)
        others = {name: name for name in names if name != image}
        other = inputs.select("Mislabelled as", "wrong_class", others, locked=locked, on_change=groups.leave)
    return comparisons.wrong_label(scenario, swap_text(image, other))


CHOICE = Choice(_scenarios, _fill)


@st.cache_data(max_entries=50, show_spinner=False)
def _worst_swap(scenario: str) -> str:
    return comparisons.worst_swap(Scenario.from_json(scenario))


# ------------------------------------------------------------------------------------------------------- panels


def panels(started: Groups, sides: Sequence[Side]) -> list[Panel]:
    """The private images, the attack with correct labels, the attack with a wrong one and what it lost."""
    correct, wrong = sides
    return [
        private("Private images", correct),
        attacked("All labels correct", correct),
        attacked(_wrong_title(wrong.scenario), wrong, asides=changes(correct, wrong)),
    ]


def repair_panels(started: Groups, sides: Sequence[Side]) -> list[Panel]:
    """The attack with the wrong label as it ended, beside the one that checks its labels."""
    (repaired,), wrong = sides, side_of(started[PAIR].runs[1])
    return [
        private("Private images", repaired),
        attacked(_wrong_title(wrong.scenario), wrong),
        attacked("The attacker checks its labels", repaired, asides=changes(wrong, repaired), below=stages(repaired)),
    ]


def _wrong_title(scenario: Scenario) -> str:
    return f"One label wrong: {in_words(scenario.mislabel[0])}" if scenario.mislabel else "One label wrong"


# ---------------------------------------------------------------------------------------------- sentences, further runs


def sentence(started: Groups) -> str:
    """What one wrong label costs."""
    correct, wrong = started[PAIR].finished or ()
    return comparisons.what_it_cost(correct, wrong)


def _repaired(started: Groups) -> str:
    repair, pair = started["repair"], started[PAIR]
    assert repair.finished is not None
    assert pair.finished is not None
    happened = [stage for stage in records.stages_of(repair.runs[0].id) if stage.name == LABELS_CHANGED]
    return comparisons.what_was_repaired(pair.finished[1], repair.finished[0], happened)


REPAIR = FollowUp(
    "repair",
    "Let the attacker check its labels",
    ":material/auto_fix_high:",
    scenarios=lambda pair: [pair.runs[1].scenario.changed(repair_labels=True)],
    sentence=_repaired,
    panels=repair_panels,
    curve="the attacker checks its labels",
)
SWEEP = FollowUp(
    "sweep",
    "Sweep",
    ":material/stacked_line_chart:",
    scenarios=lambda pair: comparisons.wrong_label_sweep(pair.runs[0].scenario),
    sentence=lambda started: comparisons.what_the_sweep_says(started["sweep"].finished or ()),
    running="The same attack with 0, 1, 2, ... wrong labels, one run after the other.",
    sweep=Sweep("wrong labels"),
    schedule="in turn",
)
