"""What can be said of a scenario before it is started: what the exact attack can solve for, and what it would cost.

The machine is measured in a thread of its own, once for each network; pages never wait for it.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import streamlit as st

from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.attack.bounds import Bound
from deepleak_core.data.datasets import DATASETS
from deepleak_core.errors import DeepLeakError
from deepleak_core.federated import checkpoints
from deepleak_core.federated.case import choose_device
from deepleak_core.federated.models import network_of
from deepleak_core.runs.estimates import Cost, bound_of, calibrate, estimate
from deepleak_core.scenario import Scenario
from ui import backend, messages, shell

POLL_SECONDS = 0.5  # between looks at a measurement under way
MEASURING = "Measuring what larger images cost on this machine."


def draw(scenario: Scenario, *, locked: bool) -> None:
    """The attack that suits the network, what the exact one cannot solve for, and on a CPU what each size would cost.

    The scenario is one that can run.
    """
    try:
        bound = bound_of(scenario)
    except DeepLeakError:  # said elsewhere
        return
    if (better := suggestion(scenario)) is not None:
        st.html(messages.note(better))
    if bound is not None and matters(bound, scenario.batch_size):
        st.html(messages.note(bound.sentence))
    if not DATASETS[scenario.dataset].sizes or locked or choose_device(scenario).type != "cpu":
        return
    measured = _measurement(scenario.model, DATASETS[scenario.dataset].channels)
    if not measured.done():
        shell.fragment(_wait, run_every=POLL_SECONDS)(measured)
    elif measured.exception() is None:
        st.html(messages.note(cost_sentence(scenario, measured.result())))


def matters(bound: Bound, images: int) -> bool:
    """Whether a batch of so many images is near the bound of the exact attack or above it.

    >>> [matters(Bound(9, ""), images) for images in (4, 5, 10)], matters(Bound(None, ""), 1)
    ([False, True, True], True)
    """
    return bound.images is None or images > bound.images / 2


def suggestion(scenario: Scenario) -> str | None:
    """The attack that suits the network, None where none is known or it is chosen."""
    network = network_of(scenario.model)
    if network.suited_attack in (None, scenario.attack):
        return None
    return (
        f"{network.title} is too deep to be solved exactly; {ATTACKS[network.suited_attack].title} comes closest, but "
        "most images stay unrecognisable."
    )


def _wait(measured: Future[Cost]) -> None:
    if measured.done():
        st.rerun()
    st.caption(MEASURING)


@st.cache_resource(show_spinner=False)
def _worker() -> ThreadPoolExecutor:
    """One thread: two measurements at a time would disturb each other."""
    return ThreadPoolExecutor(1, thread_name_prefix="calibration")


@st.cache_resource(show_spinner=False)
def _measurement(model: str, channels: int) -> Future[Cost]:
    return _worker().submit(calibrate, model, channels)


def cost_sentence(scenario: Scenario, cost: Cost) -> str:
    """Seconds of an attack at its own size, and at each that is offered and that there are weights of its stage for."""
    data = DATASETS[scenario.dataset]
    sizes = [
        size
        for size in data.sizes
        if scenario.stage in checkpoints.stages(scenario.model, data.vocabulary, image_size=size)
    ]
    seconds = {
        size: estimate(scenario.changed(image_size=size), cost).seconds
        for size in sorted({*sizes, scenario.image_size})
    }
    parts = [f"{_duration(time)} at {size} px" for size, time in seconds.items()]
    most = backend.limits().seconds
    ends = f" Here it ends after {_duration(most)}." if most is not None and max(seconds.values()) > most else ""
    return f"Estimated time of this attack on this machine's CPU: {', '.join(parts)}.{ends}"


def _duration(seconds: float) -> str:
    """Seconds with two digits, or minutes."""
    if seconds >= 120:
        return f"{seconds / 60:.0f} min"
    return f"{max(1, round(seconds, -1 if seconds >= 20 else 0)):.0f} s"
