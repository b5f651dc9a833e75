"""Inputs made from the declared settings of an attack, also of one that a package adds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from streamlit.testing.v1 import AppTest

from deepleak_core.attack import attacks
from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.attack.settings import setting
from deepleak_core.scenario import Scenario
from tests.helpers import drawn


@dataclass(frozen=True, kw_only=True)
class OwnSettings:
    """One setting of each kind."""

    strength: float = setting(0.5, "how strong", above=0, most=2)
    rounds: int = setting(3, "how often", least=1, most=9)
    order: str = setting("up", "which way", choices=("up", "down"))
    clip: bool = setting(True, "whether values are clipped")


def inputs_of_an_added_attack() -> None:
    """The inputs of the attack `added`, and the values that they give."""
    import streamlit as st

    from ui.controls import attack

    st.session_state["values"] = attack.settings("added", locked=False)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> AppTest:
    added = replace(ATTACKS["dlg"], title="Added", settings=OwnSettings())
    monkeypatch.setattr("ui.controls.attack.ATTACKS", dict(ATTACKS) | {"added": added})
    return drawn(inputs_of_an_added_attack)


def test_empty_inputs_leave_every_setting_to_the_attack(app: AppTest) -> None:
    assert app.session_state["values"] == {}


@pytest.mark.parametrize(
    ("change", "pair"),
    [
        (lambda app: app.number_input(key="setting-strength").set_value(1.25), "strength=1.25"),
        (lambda app: app.number_input(key="setting-rounds").set_value(7), "rounds=7"),
        (lambda app: app.selectbox(key="setting-order").set_value("down"), "order=down"),
        (lambda app: app.selectbox(key="setting-clip").set_value("false"), "clip=false"),
    ],
)
def test_a_value_that_is_given_becomes_a_setting_of_the_scenario(
    app: AppTest, change: Callable[[AppTest], AppTest], pair: str
) -> None:
    change(app).run()
    assert app.session_state["values"] == {"setting": (pair,)}
    assert attacks.changed(OwnSettings(), dict([pair.split("=")])) != OwnSettings(), "the attack understands it"
    assert Scenario(**app.session_state["values"]).setting == (pair,)


def test_inputs_have_the_limits_that_settings_declare(app: AppTest) -> None:
    rounds = app.number_input(key="setting-rounds")
    assert (rounds.min, rounds.max) == (1, 9)
    assert app.number_input(key="setting-strength").max == 2.0
    assert len(app.selectbox(key="setting-order").options) == 3, "up, down, and what the attack does"
