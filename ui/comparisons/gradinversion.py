"""GradInversion beside General Deep Leakage on the same update."""

from __future__ import annotations

from collections.abc import Sequence

from streamlit.delta_generator import DeltaGenerator

from deepleak_core.scenario import Scenario
from deepleak_core.studies import comparisons, fusion
from ui import records
from ui.comparisons import sharing
from ui.comparisons.frame import PAIR, Choice, FollowUp, Sides, Sweep
from ui.comparisons.groups import Group, Groups
from ui.comparisons.panels import Side, attacked, private
from ui.player import Column

NAMES = ("GradInversion", "General Deep Leakage")
SHARED = 2  # images that share a label at first


def _scenarios(scenario: Scenario, menu: DeltaGenerator, locked: bool) -> Sequence[Scenario]:
    with menu:
        share = sharing.share(scenario)
    most = max(fusion.shares(scenario), default=share)  # so that every number of images is of the same class
    return comparisons.compared(fusion.same_label(scenario, share, up_to=most))


def _fill(pair: Group | None) -> None:
    sharing.fill(pair.runs[0].scenario if pair else None, SHARED)


CHOICE = Choice(_scenarios, _fill)


def columns(sides: Sides) -> list[Column]:
    """The private images, and for each attack how many labels it infers and the images it reconstructs."""
    attacks = [attacked(_title(name, side), side, name=name) for name, side in zip(NAMES, sides[PAIR], strict=True)]
    return [private("Private images", sides[PAIR][0]), *attacks]


def _title(name: str, side: Side) -> str:
    inferred = side.facts.inferred
    if inferred is None or inferred.score is None:
        return name
    right, total = comparisons.labels_right(inferred), len(inferred.order)
    return f"{name}: {right}/{total} labels {'✓' if right == total else '✗'}"


def sentence(started: Groups) -> str:
    """How many labels and how good images each attack gets."""
    pair = started[PAIR]
    assert pair.finished is not None
    inferred = [records.facts_of(run).inferred for run in pair.runs]
    theirs, ours = [(labels, end) for labels, end in zip(inferred, pair.finished, strict=True) if labels]
    return comparisons.what_differs(theirs, ours)


SWEEP = FollowUp(
    "sweep",
    "Sweep",
    ":material/stacked_line_chart:",
    scenarios=lambda pair: comparisons.over_label_distributions(pair.runs[0].scenario),
    sentence=lambda started: comparisons.what_the_distributions_say(started["sweep"].finished or ()),
    running="From all labels different to all the same, one attack after the other.",
    sweep=Sweep("images that share a label", NAMES, lambda scenario: fusion.shares(scenario).start),
    schedule="in turn",
)
