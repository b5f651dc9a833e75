"""GradInversion against General Deep Leakage on the same update: the labels, the images, and how good they are."""

from ui import shell

shell.within_app()


import streamlit as st

from deepleak_core.errors import DeepLeakError
from deepleak_core.studies import comparisons as findings
from ui import acts, controls, live, markup, versus
from ui.backend import engine, give_way

HOW = "how-it-works#labels"
PAGE, ACTS = "gradinversion", ("duel", "sweep")
INVITATION = "You are about to see two attacks on the same update, in which {share} images share a label."
SWEEPING = "Now from all labels different to all the same, one attack after the other."
NAMES = ("GradInversion", "General Deep Leakage")
OURS = (
    "GradInversion (Yin et al. 2021) is written anew here, as its paper has no public code: column minima for the "
    "labels, squared distance, smoothness, L2, group consistency of three starts, and BatchNorm statistics where the "
    "network is trained and has any. Image registration is left out."
)

state = st.session_state
engine()
give_way()
arrived = acts.enter(PAGE, ACTS)
duel, sweep = map(acts.read, ACTS)
if arrived:
    state.share = findings.sharing(duel.runs[0].scenario) if duel.runs else 2
playing = next((act for act in (duel, sweep) if act.under_way), None)

said, pressed = st.columns([5, 6], vertical_alignment="center")
with pressed, st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="bottom"):
    with st.popover("Change", icon=":material/tune:", disabled=playing is not None):
        scenario, problems = acts.settings(locked=playing is not None)
    pair, share = (), None
    if scenario is not None and not problems:
        try:
            share = controls.share(scenario, acts.leave, locked=playing is not None)
            pair = findings.compared(findings.same_label(scenario, share))
        except DeepLeakError as error:
            problems = (str(error),)
    duel, sweep = map(acts.read, ACTS)  # a changed batch leaves what was played
    latest = next(reversed(state.acts), None)  # what was begun last is what the page speaks of
    if playing:
        st.button("Stop", icon=":material/stop:", key="stop", on_click=acts.stop, args=(playing,))
    else:
        st.button(
            "Run again" if duel.told else "Run both", type="secondary" if duel.told else "primary", key="start",
            icon=":material/play_arrow:", on_click=acts.begin, args=("duel", pair), kwargs={"instead_of": ACTS},
            disabled=not pair,
        )  # fmt: skip
    if duel.told and not playing:
        st.button(
            "Sweep", type="secondary" if sweep.runs else "primary", icon=":material/stacked_line_chart:", key="sweep",
            on_click=acts.begin, args=("sweep", findings.over_label_distributions(duel.runs[0].scenario), "in turn"),
        )  # fmt: skip
facts = [live.facts_of(run) for run in duel.runs]
with said:
    if duel.told is None:
        acts.said(INVITATION.format(share=share or "some"), HOW)
    elif latest == "sweep":
        acts.said(findings.what_the_distributions_say(sweep.told) if sweep.told else SWEEPING, HOW, sweep)
    else:
        acts.said(
            findings.what_differs(*[(fact.inferred, end) for fact, end in zip(facts, duel.told, strict=True)]),
            HOW,
            duel,
        )
acts.messages(duel, sweep, problems=problems)


def both(runs, shown):
    """The private images, and of each attack the labels that it reads and the images that it rebuilds."""
    panels = [versus.private("Private images", runs[0].scenario, versus.labels_read(runs[0], truth=True))]
    for i, name in enumerate(NAMES):
        read = versus.labels_read(runs[i])
        panels.append(versus.attacked(name, i, runs, shown[i], versus.similarity(runs[i], shown[i]), above=read))
    return markup.side_by_side(panels, (1, 1, 1))


if sweep.runs:
    first = findings.shares(sweep.runs[0].scenario).start
    versus.sweep(sweep, "images that share a label", first, NAMES)
if duel.runs:
    versus.play(duel, both)
    versus.chart([duel], NAMES)
elif pair:
    size, room = pair[0].batch_size, markup.told_labels(())
    panels = [versus.private("Private images", pair[0], room), *(versus.empty(name, size, room) for name in NAMES)]
    st.html(markup.side_by_side(panels, (1, 1, 1)))
st.caption(OURS)

acts.publish()
