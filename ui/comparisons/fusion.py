"""Same-label fusion: a batch of different classes beside one whose images share a label, then the latter separated."""

from __future__ import annotations

from collections.abc import Sequence

from streamlit.delta_generator import DeltaGenerator

from deepleak_core.scenario import Scenario
from deepleak_core.studies import fusion
from ui import records
from ui.comparisons import sharing
from ui.comparisons.frame import PAIR, Choice, FollowUp, Sides
from ui.comparisons.groups import Group, Groups
from ui.comparisons.panels import attacked, means, private
from ui.player import Column

DISTINCT, SAME, SEPARATED = "all different", "same label", "separated"  # the curves


def _scenarios(scenario: Scenario, menu: DeltaGenerator, locked: bool) -> Sequence[Scenario]:
    with menu:
        share = sharing.share(scenario, locked=locked)
    return fusion.same_label(scenario, 1), fusion.same_label(scenario, share)


def _fill(pair: Group | None) -> None:
    sharing.fill(pair.runs[1].scenario if pair else None)


CHOICE = Choice(_scenarios, _fill)


def columns(sides: Sides) -> list[Column]:
    """Each batch beside its reconstructions, then the mean of the shared class, and the separated images."""
    distinct, same = sides[PAIR]
    drawn = [
        private("All different", distinct, weight=2),
        attacked("Rebuilt", distinct, name=DISTINCT, weight=3),
        private("Same label", same, weight=2),
        attacked("Rebuilt", same, name=SAME, asides="to_mean", weight=3),
        *means(same),
    ]
    for exact in sides.get("separate", ()):
        drawn.append(attacked("Separated", exact, name=SEPARATED, asides="change", against=SAME, weight=3))
    return drawn


def sentence(started: Groups) -> str:
    """What sharing a label does to a batch."""
    _, same = started[PAIR].finished or ()
    facts = records.facts_of(started[PAIR].runs[1])
    return fusion.what_fused(same, facts.truth, facts.prepared.class_names if facts.prepared else ())


def _separated(started: Groups) -> str:
    pair, exact = started[PAIR].finished, started["separate"].finished
    assert pair is not None
    assert exact is not None
    return fusion.what_was_separated(pair[1], exact[0])


SEPARATE = FollowUp(
    "separate",
    "Separate the images",
    ":material/call_split:",
    scenarios=lambda pair: [fusion.separated(pair.runs[1].scenario)],
    sentence=_separated,
)
