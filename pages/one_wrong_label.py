"""One wrong label: the same update attacked twice at once, with the inferred labels and with one of them changed."""

from ui import shell

shell.within_app()


import streamlit as st

from deepleak_core.studies import comparisons as findings
from ui import acts, controls, markup, versus
from ui.backend import engine, give_way

HOW = "how-it-works#wrong-label"
PAGE, ACTS = "one-wrong-label", ("duel", "repair", "sweep")
INVITATION = "You are about to see the same update attacked twice at once: with every label right, and with one wrong."
SWEEPING = "Now with no label wrong, with one, with two, and so on to all of them: one attack after the other."
NAMES = ("every label right", "one label wrong", "the attacker notices")

state = st.session_state
engine()
give_way()
arrived = acts.enter(PAGE, ACTS)
duel, repair, sweep = map(acts.read, ACTS)
if arrived:
    controls.fill_wrong_label(duel.runs[1].scenario if duel.runs else None)
playing = next((act for act in (duel, repair, sweep) if act.under_way), None)

# ------------------------------------------------------------------------------------ the batch and the wrong label

said, pressed = st.columns([5, 6], vertical_alignment="center")
with pressed, st.container(horizontal=True, horizontal_alignment="right"):
    with st.popover("Change", icon=":material/tune:", disabled=playing is not None):
        swap = None
        choice = st.container()
        scenario, problems = acts.settings(locked=playing is not None)
        if scenario is not None and not problems:
            with choice:
                swap = controls.wrong_label(scenario, acts.leave)
    duel, repair, sweep = map(acts.read, ACTS)  # a changed batch leaves what was played
    latest = next(reversed(state.acts), None)  # what was begun last is what the page speaks of
    wrong_title = f"One label wrong: {controls.in_words(swap)}" if swap else "One label wrong"
    if playing:
        st.button("Stop", icon=":material/stop:", key="stop", on_click=acts.stop, args=(playing,))
    elif scenario is None or problems:
        st.button("Run both", icon=":material/play_arrow:", key="start", disabled=True)
    else:
        st.button(
            "Run again" if duel.told else "Run both", type="secondary" if duel.told else "primary", key="start",
            icon=":material/play_arrow:", on_click=acts.begin, args=("duel", findings.wrong_label(scenario, swap)),
            kwargs={"instead_of": ACTS},
        )  # fmt: skip
    if duel.told and not playing:
        wrong = duel.runs[1].scenario
        st.button(
            controls.NOTICE, type="secondary" if repair.runs else "primary", icon=":material/auto_fix_high:",
            key="repair", on_click=acts.begin, args=("repair", [wrong.changed(repair_labels=True)]),
        )  # fmt: skip
        st.button(
            "Sweep", type="primary" if repair.runs and not sweep.runs else "secondary",
            icon=":material/stacked_line_chart:", key="sweep", on_click=acts.begin,
            args=("sweep", findings.wrong_label_sweep(duel.runs[0].scenario), "in turn"),
        )  # fmt: skip
with said:
    if duel.told is None:
        acts.said(INVITATION, HOW)
    elif latest == "sweep":
        acts.said(findings.what_the_sweep_says(sweep.told) if sweep.told else SWEEPING, HOW, sweep)
    elif repair.told:
        acts.said(findings.what_was_repaired(duel.told[1], repair.told[0], versus.told(repair.runs[0])), HOW, repair)
    else:
        acts.said(findings.what_it_cost(*duel.told), HOW, duel)
acts.messages(duel, repair, sweep, problems=problems)

# ---------------------------------------------------------------------------------------------------- side by side


def both(runs, shown):
    """The private images, the attack that is right, the attack that is wrong and what it lost."""
    return markup.side_by_side(
        [
            versus.private("Private images", runs[0].scenario),
            versus.attacked("Every label right", 0, runs, shown[0]),
            versus.attacked(wrong_title, 1, runs, shown[1], versus.changes(*shown)),
        ],
        (1, 1, 1),
    )


def mended(runs, shown):
    """The wrong attack as it ended, beside the one that notices."""
    before = versus.last(duel.runs[1])
    gained = versus.changes(before, shown[0])
    return markup.side_by_side(
        [
            versus.private("Private images", runs[0].scenario),
            versus.attacked(wrong_title, 1, duel.runs, before),
            versus.attacked("The attacker notices", 0, runs, shown[0], gained, below=versus.stages(runs[0])),
        ],
        (1, 1, 1),
    )


if latest == "sweep":
    versus.sweep(sweep, "wrong labels")
if repair.runs:
    versus.play(repair, mended)
elif duel.runs:
    versus.play(duel, both)
elif scenario is not None:
    size = scenario.batch_size
    waiting = [versus.private("Private images", scenario)]
    waiting += [versus.empty("Every label right", size), versus.empty(wrong_title, size)]
    st.html(markup.side_by_side(waiting, (1, 1, 1)))

if duel.runs:
    versus.chart([duel, repair], NAMES)
if sweep.runs and latest != "sweep":
    versus.sweep(sweep, "wrong labels")

acts.publish()
