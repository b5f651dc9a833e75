"""Live attack: compose a private batch, run the attack, and watch the server reconstruct the images."""

from ui import shell

shell.within_app()

import streamlit as st

from deepleak_core.scenario import Scenario
from ui import live
from ui.address import WELCOME

EXAMPLES = {
    "Four photos": WELCOME,
    "FedAvg": WELCOME.changed(mode="fedavg", local_epochs=5, local_lr=0.01),
    "One wrong label": WELCOME.changed(wrong_labels=1),
    "Same label": Scenario(indices=(4, 5, 7, 19)),
}
INVITATION = {
    "fedsgd": "The images stay on the device, only a gradient is shared. Can the server see the images?",
    "fedavg": "The images stay on the device, only trained weights are shared. Can the server see the images?",
}
THREAT_MODEL = (
    "The server is honest but curious. It knows the network, the weights it sent, the update that came back and the "
    "batch size; for FedAvg also the local learning rate and steps. It does not know the images or the labels. PSNR "
    "and the private images are shown to you, not to the attack."
)

view = live.opened(EXAMPLES)
live.top(view, INVITATION)
left, right = st.columns([2, 3], gap="medium")
with right:
    live.attacker(view)
with left:
    live.client_and_server(view)
    live.curves(view)
    with st.expander("What does the server know?"):
        st.write(THREAT_MODEL)
live.publish(view)
