"""The control for how many images of a batch share a label."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st
from markupsafe import Markup

from deepleak_core.data import datasets
from deepleak_core.data.batches import labels_of_batch
from deepleak_core.scenario import Scenario
from deepleak_core.studies import fusion
from deepleak_core.text import listed
from ui import messages
from ui.comparisons import groups

LABEL = "Images that share a label"
NAMED = 16  # images of a batch that a sentence names


def fill(scenario: Scenario | None, default: int | None = None) -> None:
    """Set the control to a scenario's batch, or to the default."""
    st.session_state.share = fusion.sharing(scenario) if scenario else default


def share(scenario: Scenario, changed: Callable[[], None] = groups.leave) -> int:
    """Draw the control; from 1, all labels different, to all images. Raises `DeepLeakError` for want of images.

    `changed` is called before the page is drawn anew with another choice. The control is never disabled: Streamlit's
    would then show its first choice again.
    """
    offered = list(fusion.shares(scenario)) or [scenario.batch_size]
    if st.session_state.get("share") not in offered:
        st.session_state.share = offered[-1]
    if len(offered) == 1:
        return offered[0]
    st.html(Markup("<span>{}</span>").format(LABEL), width="content")
    chosen = st.segmented_control(
        LABEL, offered, key="share", required=True, on_change=changed, label_visibility="collapsed",
        format_func=lambda share: "none" if share == 1 else str(share),
    )  # fmt: skip
    return chosen or offered[-1]


def say_batch(asked: Scenario, attacked: Sequence[Scenario]) -> None:
    """Say which images are attacked, where the control replaced some of those that the settings ask for."""
    indices = attacked[0].indices if attacked else None
    if indices is None or set(indices) == set(asked.indices or ()):
        return
    names = datasets.names_of_classes(asked)
    images = [f"{i} {names[label]}" for i, label in zip(indices, labels_of_batch(attacked[0]), strict=True)]
    st.html(messages.note(f"Attacked: {listed(images, NAMED)}. “{LABEL}” has replaced some of the images chosen here."))
