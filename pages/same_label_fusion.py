"""Same-label fusion: a batch of different classes beside one whose images share a label, then the latter un-fused."""

from ui import shell

shell.within_app()


import streamlit as st

from deepleak_core.errors import DeepLeakError
from deepleak_core.events import FeaturesSeparated
from deepleak_core.studies import comparisons as findings
from ui import acts, controls, live, markup, versus
from ui.backend import engine, give_way, store

HOW = "how-it-works#fusion"
PAGE, ACTS = "same-label-fusion", ("duel", "apart")
INVITATION = "You are about to see two batches attacked at once: all images different, and {share} that share a label."
NAMES = ("all different", "same label", "taken apart")

state = st.session_state
engine()
give_way()
arrived = acts.enter(PAGE, ACTS)
duel, apart = map(acts.read, ACTS)
if arrived:
    state.share = findings.sharing(duel.runs[1].scenario) if duel.runs else None
playing = next((act for act in (duel, apart) if act.under_way), None)

# ---------------------------------------------------------------------------------------- the batch and the dial

said, pressed = st.columns([5, 6], vertical_alignment="center")
with pressed, st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="bottom"):
    with st.popover("Change", icon=":material/tune:", disabled=playing is not None):
        scenario, problems = acts.settings(locked=playing is not None)
    pair, share = (), None
    if scenario is not None and not problems:
        try:
            share = controls.share(scenario, acts.leave, locked=playing is not None)
            pair = findings.distinct_and_same(scenario, share)
        except DeepLeakError as error:
            problems = (str(error),)
    duel, apart = map(acts.read, ACTS)  # a changed batch leaves what was played
    if playing:
        st.button("Stop", icon=":material/stop:", key="stop", on_click=acts.stop, args=(playing,))
    else:
        st.button(
            "Run again" if duel.told else "Run both", type="secondary" if duel.told else "primary", key="start",
            icon=":material/play_arrow:", on_click=acts.begin, args=("duel", pair), kwargs={"instead_of": ACTS},
            disabled=not pair,
        )  # fmt: skip
        if duel.told:
            st.button(
                "Un-fuse", type="secondary" if apart.runs else "primary", icon=":material/call_split:", key="apart",
                on_click=acts.begin, args=("apart", [findings.taken_apart(duel.runs[1].scenario)]),
            )  # fmt: skip
with said:
    if duel.told is None:
        acts.said(INVITATION.format(share=share or "several"), HOW)
    elif apart.told:
        acts.said(findings.what_was_taken_apart(duel.told[1], apart.told[0]), HOW, apart)
    else:
        acts.said(findings.what_fused(*duel.told), HOW, duel)
acts.messages(duel, apart, problems=problems)

# ---------------------------------------------------------------------------------------------------- side by side


def fused(runs, shown):
    """Each batch beside what came back of it, and the mean that the pictures of one class fell together to."""
    index = shown[1][0].fusion if shown[1] else None
    measured = (
        [markup.figure(f"{index:.2f}", "fusion index: share nearer to this than to its own image")]
        if index is not None
        else []
    )
    return markup.side_by_side(
        [
            versus.private("All different", runs[0].scenario),
            versus.attacked("Rebuilt", 0, runs, shown[0]),
            versus.private("Same label", runs[1].scenario),
            versus.attacked("Rebuilt", 1, runs, shown[1], versus.to_mean(runs[1], shown[1])),
            markup.panel("Their mean", markup.no_progress(), *versus.means(runs[1]), *measured),
        ],
        (2, 3, 2, 3, 2),
    )


def unfused(runs, shown):
    """The fused pictures as they ended, the features that separate first, the pictures that follow."""
    before = versus.last(duel.runs[1])
    separated = store().latest(runs[0].id, FeaturesSeparated)
    names = live.facts_of(duel.runs[1]).prepared.class_names
    maps = markup.separated(separated, names) if isinstance(separated, FeaturesSeparated) else ""
    return markup.side_by_side(
        [
            versus.private("Private images", runs[0].scenario),
            versus.attacked("Fused", 1, duel.runs, before, versus.to_mean(duel.runs[1], before)),
            versus.attacked("Rebuilt one by one", 0, runs, shown[0], versus.changes(before, shown[0])),
            markup.panel("", maps, versus.stages(runs[0])),
        ],
        (2, 3, 3, 3),
    )


if apart.runs:
    versus.play(apart, unfused)
elif duel.runs:
    versus.play(duel, fused)
elif pair:
    size = pair[0].batch_size
    st.html(
        markup.side_by_side(
            [
                versus.private("All different", pair[0]),
                versus.empty("Rebuilt", size),
                versus.private("Same label", pair[1]),
                versus.empty("Rebuilt", size),
                markup.panel("Their mean"),
            ],
            (2, 3, 2, 3, 2),
        )
    )
if duel.runs:
    versus.chart([duel, apart], NAMES)

acts.publish()
