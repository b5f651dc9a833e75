"""Live attack: compose a private batch, run the attack, and watch the server reconstruct the images."""

from ui import shell

shell.within_app()

import streamlit as st

from ui import live

INVITATION = {
    "fedsgd": "The images stay on the device, only a gradient is shared. Can the server see the images?",
    "fedavg": "The images stay on the device, only trained weights are shared. Can the server see the images?",
}
THREAT_MODEL = (
    "The server is honest but curious. It knows the network, the weights it sent, the update that came back and the "
    "batch size; for FedAvg also the local learning rate and steps. It does not know the images or the labels. PSNR "
    "and the private images are shown to you, not to the attack."
)

places = live.places()
first = live.first_sight()
view = first or live.opened(places)
live.top(view, places, INVITATION)
if first:
    view = live.opened(places)  # PyTorch and the engine load while the recorded attack plays
live.outcome(view)
with st.container(key="threat-model"), st.expander("What does the server know?", icon=":material/help:"):
    st.write(THREAT_MODEL)
live.publish(view)
