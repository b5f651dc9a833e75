"""Inputs for one value each, with the words and limits that registries and `Scenario` declare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from deepleak_core.scenario import Scenario, vars_of
from ui.messages import plain
from ui.titles import TITLES

SMALLEST = 1e-6  # lowest value of an input where a scenario accepts anything above 0


def guide(registry: Mapping[str, Any]) -> str:
    """A line for each entry of a registry, for the help of its input."""
    return "\n".join(
        f"- **{plain(entry.title)}**: {plain(entry.summary)} {plain(getattr(entry, 'source', ''))}"
        for entry in registry.values()
    )


def help_of(key: str) -> str | None:
    """A sentence on what the scenario's field `key` is; None for a name that is no field.

    >>> help_of("seed"), help_of("pick")
    ('Determines everything random.', None)
    """
    field = Scenario.model_fields.get(key)
    words = (field.description if field else None) or ""
    return f"{words[:1].upper()}{words[1:]}." if words else None


def select(
    label: str,
    key: str,
    options: Mapping[Any, str],
    *,
    locked: bool = False,
    help: str | None = None,
    on_change: Callable[[], None] | None = None,
) -> Any:
    """A choice by name, displayed by title; a value that is not offered falls back to the first.

    Without `help`, the description of the scenario's field of this name is shown.
    """
    if st.session_state.get(key) not in options:
        st.session_state[key] = next(iter(options))
    return st.selectbox(
        label, list(options), key=key, format_func=options.__getitem__, disabled=locked, help=help or help_of(key),
        on_change=on_change,
    )  # fmt: skip


def segments(label: str, key: str, options: Mapping[Any, str], *, locked: bool = False, **looks: Any) -> Any:
    """A choice among few, all of them visible."""
    return st.segmented_control(
        label, list(options), key=key, format_func=options.__getitem__, required=True, disabled=locked, **looks
    )


def number(key: str, *, locked: bool = False, most: float | None = None, **looks: Any) -> int | float | None:
    """A number within the limits of the scenario's field `key`; it may be empty where the field may.

    `most` is the cap of this server; an earlier run that is shown may be above it.
    """
    field = Scenario.model_fields[key]
    st.session_state.setdefault(key, field.default)
    limits = {name: value for limit in field.metadata for name, value in vars_of(limit).items()}
    if most is not None:
        limits["le"] = min(limits["le"], max(most, st.session_state[key] or 0))
    kind = float if "float" in str(field.annotation) else int
    looks.setdefault("help", help_of(key))
    value: int | float | None = st.number_input(
        TITLES[key],
        kind(limits.get("ge", SMALLEST)),
        kind(limits["le"]),
        value=None if field.default is None else "min",
        key=key,
        disabled=locked,
        **looks,
    )
    return value
