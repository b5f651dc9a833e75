"""Same-label fusion: a batch of different classes beside one whose images share a label, then the latter separated."""

from __future__ import annotations

from collections.abc import Sequence

from streamlit.delta_generator import DeltaGenerator

from deepleak_core.events import FeaturesSeparated
from deepleak_core.scenario import Scenario
from deepleak_core.studies import comparisons
from ui import pieces, server_view
from ui.backend import store
from ui.comparisons import sharing
from ui.comparisons.frame import PAIR, Choice, FollowUp
from ui.comparisons.groups import Group, Groups
from ui.comparisons.panels import Side, attacked, changes, means, private, side_of, stages, to_mean
from ui.pieces import Panel
from ui.rendering import NOTHING, joined

FUSION_INDEX = "fusion index: share of images closer to their mean than to any one image"


def _scenarios(scenario: Scenario, menu: DeltaGenerator, locked: bool) -> Sequence[Scenario]:
    return comparisons.distinct_and_same(scenario, sharing.share(scenario, locked=locked))


def _fill(pair: Group | None) -> None:
    sharing.fill(pair.runs[1].scenario if pair else None)


CHOICE = Choice(_scenarios, _fill)


def panels(started: Groups, sides: Sequence[Side]) -> list[Panel]:
    """Each batch beside its reconstructions, and the mean that those of one class come close to."""
    distinct, same = sides
    fusion = same.frame.score.fusion if same.frame and same.frame.score else None
    measured = NOTHING if fusion is None else pieces.number(f"{fusion:.2f}", FUSION_INDEX)
    return [
        private("All different", distinct, weight=2),
        attacked("Rebuilt", distinct, weight=3),
        private("Same label", same, weight=2),
        attacked("Rebuilt", same, asides=to_mean(same), weight=3),
        Panel("Their mean", joined([pieces.no_progress(), means(same), measured]), 2),
    ]


def separated_panels(started: Groups, sides: Sequence[Side]) -> list[Panel]:
    """The fused pictures as they ended, the separated features, and the pictures that follow from them."""
    (exact,), fused = sides, side_of(started[PAIR].runs[1])
    features = store().latest(exact.run.id, FeaturesSeparated) if exact.run else None
    prepared = fused.facts.prepared
    maps = server_view.separated(features, prepared.class_names) if features and prepared else NOTHING
    return [
        private("Private images", exact, weight=2),
        attacked("Fused", fused, asides=to_mean(fused), weight=3),
        attacked("Separated", exact, asides=changes(fused, exact), weight=3),
        Panel("", joined([maps, stages(exact)]), 3),
    ]


def sentence(started: Groups) -> str:
    """What sharing a label does to a batch."""
    distinct, same = started[PAIR].finished or ()
    return comparisons.what_fused(distinct, same)


def _separated(started: Groups) -> str:
    pair, exact = started[PAIR].finished, started["separate"].finished
    assert pair is not None
    assert exact is not None
    return comparisons.what_was_separated(pair[1], exact[0])


SEPARATE = FollowUp(
    "separate",
    "Separate the images",
    ":material/call_split:",
    scenarios=lambda pair: [comparisons.separated(pair.runs[1].scenario)],
    sentence=_separated,
    panels=separated_panels,
    curve="separated",
)
