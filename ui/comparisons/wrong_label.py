"""One wrong label: which label is wrong, the columns of the page, its sentences and further runs."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from deepleak_core.data import datasets
from deepleak_core.data.batches import labels_of_batch
from deepleak_core.events import LABELS_CHANGED
from deepleak_core.scenario import Scenario
from deepleak_core.studies import comparisons, wrong_labels
from deepleak_core.text import split_list, swap_text
from ui import records
from ui.comparisons import groups, wrong_label_map
from ui.comparisons.frame import PAIR, Choice, FollowUp, Sides, Sweep
from ui.comparisons.groups import Group, Groups
from ui.comparisons.panels import Side, attacked, private
from ui.controls import inputs
from ui.player import Click, Column

CORRECT, WRONG, REPAIRED = "all labels correct", "one wrong", "corrected"  # the curves
NONE_WRONG = {"mislabel": None, "wrong_labels": 0}
WORST = "worst"  # the choice of the label whose error costs most
WORST_OF_MAP = "The worst case is the wrong label that costs most, see the map below the pictures."
WORST_BY_RULE = (
    "The expected worst case: the image with the largest features, mislabelled as the class that the network finds "
    "least likely for it, among those that do not occur in the batch."
)

# ------------------------------------------------------------------------------------------------ which label is wrong


def _fill(pair: Group | None) -> None:
    """Take the wrong label from a pair of runs, or from a link to a scenario."""
    state = st.session_state
    scenario = pair.runs[1].scenario if pair else state.base
    state.base = state.base.changed(**NONE_WRONG)
    if scenario.mislabel:
        _choose(scenario.changed(**NONE_WRONG), scenario.mislabel[0])
    else:
        _set(WORST, None)


def _choose(scenario: Scenario, swap: str) -> None:
    """Set the controls to a wrong label of this attack."""
    if swap == _worst(scenario.to_json()):
        _set(WORST, None)
    else:
        _set(*split_list(swap, ">"))


def _set(image: str, other: str | None) -> None:
    st.session_state.wrong_image, st.session_state.wrong_class = image, other


def _scenarios(scenario: Scenario, menu: DeltaGenerator, locked: bool) -> Sequence[Scenario]:
    """The attack with all labels correct, and with the chosen one wrong. Raises `DeepLeakError`."""
    labels, names = labels_of_batch(scenario), datasets.names_of_classes(scenario)
    worst = _worst(scenario.to_json())
    if (picked := st.session_state.pop("picked", None)) is not None:
        _choose(scenario, picked)
    offered = {WORST: f"Worst case: {wrong_labels.in_words(worst)}"} | {names[label]: names[label] for label in labels}
    known = wrong_labels.recorded(scenario) is not None
    with menu:
        image = inputs.select(
            "Wrong label", "wrong_image", offered, locked=locked, help=WORST_OF_MAP if known else WORST_BY_RULE,
            on_change=groups.leave,
        )  # fmt: skip
        if image == WORST:
            return comparisons.wrong_label(scenario, worst)
        others = {name: name for name in names if name != image}
        other = inputs.select("Mislabelled as", "wrong_class", others, locked=locked, on_change=groups.leave)
    return comparisons.wrong_label(scenario, swap_text(image, other))


def _pick(click: Click, scenarios: Sequence[Scenario]) -> Sequence[Scenario]:
    """A class chosen below a private image: that label is wrong from now on."""
    correct = scenarios[0]
    true = datasets.names_of_classes(correct)[labels_of_batch(correct)[click.image]]
    return chosen(correct, swap_text(true, click.choice)) if click.choice != true else ()


def chosen(correct: Scenario, swap: str) -> Sequence[Scenario]:
    """The scenarios with this label wrong, which the controls show from the next time on that they are drawn."""
    st.session_state.picked = swap
    return comparisons.wrong_label(correct, swap)


CHOICE = Choice(_scenarios, _fill, _pick)


@st.cache_data(max_entries=50, show_spinner=False)
def _worst(scenario: str) -> str:
    return wrong_labels.wrong_label_of(Scenario.from_json(scenario))


# ------------------------------------------------------------------------------------------------------- columns


def columns(sides: Sides) -> list[Column]:
    """The private images with the labels that are assumed, the attacks, and what each leaves unexplained."""
    correct, wrong = sides[PAIR]
    attacks = [
        attacked("All labels correct", correct, name=CORRECT, gauge=True, weight=2),
        attacked(_title(wrong.scenario), wrong, name=WRONG, gauge=True, weight=2),
    ]
    for repaired in sides.get("repair", ()):
        title = "Labels corrected"
        attacks.append(attacked(title, repaired, name=REPAIRED, gauge=True, weight=2))
    return [_private(correct, wrong), *attacks]


def _private(correct: Side, wrong: Side) -> Column:
    """The private images; the wrong label stands below the image that it is assumed for."""
    scenario, swap = correct.scenario, (wrong.scenario.mislabel or (None,))[0]
    names = datasets.names_of_classes(scenario)
    true = [names[label] for label in labels_of_batch(scenario)]
    shown = list(true)
    if swap is not None:
        before, after = split_list(swap, ">")
        shown[true.index(before)] = after
    locked = wrong.run is not None and wrong.run.under_way
    title = "Private images" if locked else "Private images: pick a wrong label"
    return private(title, correct, shown=shown, choices=() if locked else names, weight=2)


def _title(scenario: Scenario) -> str:
    return f"Wrong: {' as '.join(split_list(scenario.mislabel[0], '>'))}" if scenario.mislabel else "One wrong label"


# ---------------------------------------------------------------------------------------------- sentences, further runs


def sentence(started: Groups) -> str:
    """What one wrong label costs."""
    correct, wrong = started[PAIR].finished or ()
    swap = next(iter(started[PAIR].runs[1].scenario.mislabel or ()), None)
    return comparisons.what_it_cost(correct, wrong, swap)


def _repaired(started: Groups) -> str:
    repair, pair = started["repair"], started[PAIR]
    assert repair.finished is not None
    assert pair.finished is not None
    happened = [stage for stage in records.stages_of(repair.runs[0].id) if stage.name == LABELS_CHANGED]
    return comparisons.what_was_repaired(pair.finished[1], repair.finished[0], happened)


REPAIR = FollowUp(
    "repair",
    "Check the labels",
    ":material/auto_fix_high:",
    scenarios=lambda pair: [pair.runs[1].scenario.changed(repair_labels=True)],
    sentence=_repaired,
)
SWEEP = FollowUp(
    "sweep",
    "More wrong labels",
    ":material/stacked_line_chart:",
    scenarios=lambda pair: comparisons.wrong_label_sweep(pair.runs[0].scenario),
    sentence=lambda started: comparisons.what_the_sweep_says(started["sweep"].finished or ()),
    running="The same attack with 0, 1, 2, ... wrong labels, one run after the other.",
    sweep=Sweep("wrong labels"),
    schedule="in turn",
)


def below(started: Groups, scenarios: Sequence[Scenario]) -> None:
    """The map of every possible wrong label; a cell shows its run."""
    if not scenarios:
        return
    going = any(group.under_way for group in started.values())
    correct, wrong = scenarios
    swap = wrong_label_map.draw(correct, (wrong.mislabel or ("",))[0], locked=going)
    if swap is not None and not going:
        groups.start(PAIR, chosen(correct, swap), "side by side", instead_of_all=True)
        st.rerun()
