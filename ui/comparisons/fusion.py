"""Same-label fusion: a batch whose images share a label, its blend beside the true mean, and the blend taken apart."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from deepleak_core.scenario import Scenario
from deepleak_core.studies import fusion
from ui import records
from ui.comparisons import groups, sharing
from ui.comparisons.frame import PAIR, Choice, FollowUp, Sides
from ui.comparisons.groups import Group, Groups
from ui.comparisons.opening import recording_for
from ui.comparisons.panels import attacked, means, private
from ui.player import Column

TOGETHER, SEPARATED, SCATTERED = "started together", "separated", "started apart"  # the curves
RECORDINGS = "fusion"  # the page of recordings that play before anything is run
SHARED = 2  # images that share a label at first


def _scenarios(scenario: Scenario, stage: DeltaGenerator, locked: bool) -> Sequence[Scenario]:
    """The batch that the dial asks for; where it was just turned, it is played from a recording, or run."""
    with stage, st.container(key="dial", horizontal=True, vertical_alignment="center", gap="small"):
        share = sharing.share(scenario, _turned)
    chosen = [fusion.same_label(scenario, share)]
    if st.session_state.pop("turned", False) and not recording_for(RECORDINGS, chosen):
        groups.start(PAIR, chosen, "side by side", instead_of_all=True)
        st.rerun()
    return chosen


def _turned() -> None:
    for group in groups.started().values():
        groups.stop(group)
    groups.leave()
    st.session_state.turned = True


def _fill(pair: Group | None) -> None:
    sharing.fill(pair.runs[0].scenario if pair else None, SHARED)


CHOICE = Choice(_scenarios, _fill, on_stage=True)


def columns(sides: Sides) -> list[Column]:
    """The private images, what came back beside the true mean, and the same update attacked in other ways."""
    (fused,) = sides[PAIR]
    drawn = [
        private("Private images", fused, weight=3),
        attacked("Rebuilt", fused, name=TOGETHER, asides="to_mean", weight=3),
        *means(fused),
    ]
    for exact in sides.get("separate", ()):
        drawn.append(attacked("Separated", exact, name=SEPARATED, asides="change", against=TOGETHER, weight=3))
    for scattered in sides.get("scatter", ()):
        drawn.append(attacked("Started apart", scattered, name=SCATTERED, average=True, weight=3))
    return drawn


# ---------------------------------------------------------------------------------------------- sentences, further runs


def sentence(started: Groups) -> str:
    """What came back of the images that share a label."""
    (fused,) = started[PAIR].finished or ()
    facts = records.facts_of(started[PAIR].runs[0])
    return fusion.what_fused(fused, facts.truth, facts.prepared.class_names if facts.prepared else ())


def _separated(started: Groups) -> str:
    fused, exact = started[PAIR].finished, started["separate"].finished
    assert fused is not None
    assert exact is not None
    return fusion.what_was_separated(fused[0], exact[0])


def _averaged(started: Groups) -> str:
    (run,), ends = started["scatter"].runs, started["scatter"].finished
    frame, truth = records.frame_of(run), records.facts_of(run).truth
    assert ends is not None
    return fusion.what_averaging_shows(ends[0], frame.pictures if frame else (), truth)


SEPARATE = FollowUp(
    "separate",
    "Separate the images",
    ":material/call_split:",
    scenarios=lambda pair: [fusion.separated(pair.runs[0].scenario)],
    sentence=_separated,
)
SCATTER = FollowUp(
    "scatter",
    "Start them apart",
    ":material/shuffle:",
    scenarios=lambda pair: [fusion.independently(pair.runs[0].scenario)],
    sentence=_averaged,
)
