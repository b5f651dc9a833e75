"""Label inference: from an update to labels step by step, every strategy beside the truth, how often each is right."""

from ui import shell

shell.within_app()


import streamlit as st

from deepleak_core.errors import DeepLeakError
from deepleak_core.scenario import Scenario
from deepleak_core.studies import label_accuracy as evaluation
from ui import address, controls, label_curves, label_study, markup
from ui.backend import engine, give_way, store

EXAMPLES = {
    "All different": address.WELCOME,
    "Four frogs": Scenario(indices=(4, 5, 7, 19)),
    "Nine, trained": Scenario(composition="random", batch_size=9, model="lenet64-relu", stage="late"),
    "Sixteen": Scenario(composition="random", batch_size=16),
    "Sixteen, trained": Scenario(composition="random", batch_size=16, model="lenet64-relu", stage="early"),
    "Sixteen, FedAvg": Scenario(
        composition="random", batch_size=16, mode="fedavg", local_epochs=5, local_batch_size=4, local_lr=0.01
    ),
}
INVITATION = "Which labels are in the batch? The last layer's part of the update tells."

state = st.session_state
engine()  # gets its workers ready while the visitor looks around
give_way()

# ------------------------------------------------------------------------------ what the address and controls say

arriving = address.arriving("labels")
if (news := address.opened(store(), controls.check, arriving=arriving)) is not None:
    controls.fill(evaluation.of_the_update(news.scenario))
    state.problems = news.problems
    state.untouched = None
    label_curves.choose(st.query_params)

with st.sidebar:
    top = st.container()
    scenario, problems = controls.draw_update()
    with top:
        controls.examples(scenario, controls.fill, offered=EXAMPLES)

if scenario != (state.untouched or scenario):
    state.problems = ()
state.untouched = scenario

# -------------------------------------------------------------------------------------------- one batch laid open

run_id = None
if scenario is not None and not problems:
    try:
        run_id = label_study.ask(scenario)
    except DeepLeakError as error:
        problems = (str(error),)
record = store().run(run_id) if run_id else None
st.html(markup.headline((label_study.said(run_id, scenario) if run_id else "") or INVITATION))
for problem in (*state.problems, *problems):
    st.error(problem)
if record is not None and record.message:
    (st.error if record.status == "failed" else st.warning)(record.message)
if record is not None:
    every = label_study.LOOK_SECONDS if record.under_way else None
    st.fragment(label_study.laid_open, run_every=every)(record.id, scenario, record.under_way)

# --------------------------------------------------------------------------------------------- how often it is right

if scenario is not None:
    st.html(markup.titled(3, "How often is it right?"))
    label_curves.draw(scenario)

address.publish(scenario, extra=label_curves.chosen())
