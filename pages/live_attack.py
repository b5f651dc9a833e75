"""Live attack: compose a private batch, run the attack, watch the server rebuild the images."""

from ui import shell

shell.within_app()


import streamlit as st

from deepleak_core.errors import DeepLeakError
from deepleak_core.events import Finished
from deepleak_core.scenario import Scenario
from ui import address, controls, live, markup
from ui.backend import engine, give_way, pace, store

INVITATION = {
    "fedsgd": "The images stay on the device, only a gradient is shared. Can the server see the images?",
    "fedavg": "The images stay on the device, only trained weights are shared. Can the server see the images?",
}
THREAT_MODEL = (
    "The server is honest but curious. It knows the network, the weights it sent, the update that came back and the "
    "batch size; for FedAvg also the local learning rate and steps. Images, labels and everything else are hidden "
    "from it; PSNR and the truth are shown to you, not to the attack."
)

state = st.session_state
engine()  # gets its workers ready while the visitor looks around
give_way()


def compose(scenario: Scenario) -> None:
    """Leave whatever run is shown and set the controls."""
    controls.fill(scenario)
    state.run, state.untouched, state.problems = None, None, ()


def show(run_id: str) -> None:
    """Show a run, with the controls set to its scenario."""
    compose(store().run(run_id).scenario)
    state.run = run_id


def attack(scenario: Scenario) -> None:
    """Have a scenario executed and show its run, or say why it is not."""
    compose(scenario)
    try:
        state.run = engine().submit(scenario)
    except DeepLeakError as error:
        state.problems = (str(error),)


# ------------------------------------------------------------------------------ what the address and controls say

if (news := address.opened(store(), controls.check, arriving=address.arriving("live"))) is not None:
    compose(news.scenario)
    state.run, state.suspense, state.problems = news.run_id, news.suspense, news.problems
record = store().run(state.run) if state.run else None
under_way = record is not None and record.under_way

with st.sidebar:
    top = st.container()
    scenario, problems = controls.draw(locked=under_way)
    with top:
        controls.examples(scenario, compose, locked=under_way)
        st.toggle("Hide the private images", key="suspense", help="For suspense: they are shown when the run is over.")
    with st.popover("Recent runs", icon=":material/history:", width="stretch"):
        for recent in store().runs(limit=8):
            words = controls.describe(recent)
            st.button(words, key=f"open-{recent.id}", on_click=show, args=(recent.id,), type="tertiary")

state.untouched = state.untouched or scenario
if scenario != state.untouched:  # a control was changed: this is a new scenario, not the run shown
    state.run = record = None
    state.untouched, state.problems = scenario, ()

# ---------------------------------------------------------------------------------------- the sentence and the button

finished = store().latest(record.id, Finished) if record and not under_way else None
further = controls.further(record.scenario, finished) if isinstance(finished, Finished) else None
said, pressed = st.columns([3, 2] if further else [4, 1], vertical_alignment="center")
with pressed, st.container(horizontal=True, horizontal_alignment="right"):
    if under_way:
        st.button(
            "Stop", icon=":material/stop:", width="stretch", key="stop", on_click=engine().stop, args=(record.id,)
        )  # fmt: skip
    else:
        st.button(
            "Run the attack", type="secondary" if further else "primary", icon=":material/play_arrow:", key="start",
            width="stretch", on_click=attack, args=(scenario,), disabled=scenario is None or bool(problems),
        )  # fmt: skip
    if further is not None:
        st.button(
            further.words, type="primary", icon=further.icon, width="stretch", key="further",
            on_click=attack, args=(further.scenario,), help=further.help,
        )  # fmt: skip
with said:
    if record is None:
        st.html(markup.headline(INVITATION[scenario.mode if scenario else "fedsgd"]))
    elif under_way:
        source = "gradient" if record.scenario.mode == "fedsgd" else "weights"
        st.html(markup.headline(f"The server rebuilds the private images from the shared {source}."))
    elif isinstance(finished, Finished):
        early = "Stopped early. " if record.status == "stopped" else ""
        st.html(markup.headline(early + finished.sentence))
    else:
        st.html(
            markup.headline("Stopped before it began." if record.status == "stopped" else "This run has no outcome.")
        )

for problem in (*state.problems, *problems):
    st.error(problem)
if record and record.message:
    (st.error if record.status == "failed" else st.warning)(record.message)

# -------------------------------------------------------------------------------------------------- the three steps

left, right = st.columns([2, 3], gap="medium")
slowed = pace(live.viewer()) if under_way else 1
every = (lambda seconds: seconds * slowed) if under_way else (lambda seconds: None)
with right:
    if record is None:
        count = scenario.batch_size if scenario else address.WELCOME.batch_size
        st.html(markup.step(3, markup.progress(0, "Press Run the attack"), markup.nothing_rebuilt(count)))
    elif under_way:
        st.fragment(live.rebuilding, run_every=every(live.PICTURE_SECONDS))(
            record.id, record.attempt, state.suspense, slowed
        )
    else:
        st.fragment(live.replay)(record.id)
        if isinstance(finished, Finished):
            live.downloads(record.id, finished)
        live.stages(record.id)
with left:
    if record is None:
        kept = live.client(scenario, suspense=state.suspense) if scenario else ""
        st.html(markup.step(1, kept) + markup.step(2, live.nothing_shared(scenario)))
    else:
        st.fragment(live.client_and_server, run_every=every(live.READING_SECONDS))(record.id, state.suspense)
    st.fragment(live.chart, run_every=every(live.CURVE_SECONDS))(record.id if record else None)
    with st.expander("What does the server know?"):
        st.write(THREAT_MODEL)

address.publish(scenario, state.run, state.suspense)
