"""The inputs of the attacker: attack, label inference, settings, limits.

Inputs for the settings of an attack are made from what its settings declare (`attack.settings`), one weight for each
image prior from `PRIORS`. An empty input leaves a setting to the attack. Settings that have a field of their own in
`Scenario` are stored there, others in its fields `setting` and `prior`.
"""

from __future__ import annotations

from typing import Any

import streamlit as st
import torch

from deepleak_core.attack.attacks import ATTACKS, LARGEST_PRIOR_WEIGHT, RATE, Attack, described
from deepleak_core.attack.priors import PRIORS
from deepleak_core.attack.settings import Limits, limits_of
from deepleak_core.attack.solvers import SOLVERS
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.scenario import FEDAVG_METHODS, Scenario
from deepleak_core.text import escape
from ui import backend, messages
from ui.controls import inputs
from ui.controls.images import OWN
from ui.messages import plain
from ui.titles import TITLES

REPAIRS = {OWN: "As the attack does", True: "Yes", False: "No"}
ELSEWHERE = ("iterations", "fedavg")  # settings whose input is in another group
SMOOTHNESS = "total-variation"  # the prior whose weight is a field of the scenario
SETTING, PRIOR = "setting-", "prior-"  # of the keys of inputs without a field of their own
FEATURES = "feature_weight"  # 1 is the scenario's `feature_term`


def fill(scenario: Scenario) -> None:
    """Set the inputs of this module to a scenario."""
    state = st.session_state
    state.fedavg, state.label_strategy = scenario.fedavg or OWN, scenario.label_strategy or OWN
    state.mislabel = ", ".join(map(escape, scenario.mislabel or ()))
    state.repair_labels = OWN if scenario.repair_labels is None else scenario.repair_labels
    attack = ATTACKS.get(scenario.attack)
    given, weights = _pairs(scenario.setting), _pairs(scenario.prior)
    for name, limits in limits_of(attack.settings).items() if attack else ():
        if name not in ELSEWHERE and _key(name) != name:
            state[_key(name)] = _value(given.get(name), limits, _is_whole(attack, name))
    if scenario.feature_term:
        state[_key(FEATURES)] = 1.0
    for name in PRIORS:
        state[_prior_key(name)] = _number(weights[name]) if name in weights else None
    if SMOOTHNESS not in weights:
        state[_prior_key(SMOOTHNESS)] = scenario.total_variation


def resend() -> None:
    """Set the inputs of this module that have a key of their own to what they are."""
    state = st.session_state
    for key in [key for key in state if str(key).startswith((SETTING, PRIOR))]:
        state[key] = state[key]


def choice(*, locked: bool) -> str:
    """Which attack."""
    titles = {name: attack.title for name, attack in ATTACKS.items()}
    chosen: str = inputs.select(TITLES["attack"], "attack", titles, locked=locked, help=inputs.guide(ATTACKS))
    return chosen


def update_reading(attack: str, *, locked: bool) -> dict[str, Any]:
    """How the attack turns a FedAvg update into a gradient."""
    default = getattr(ATTACKS[attack].settings, "fedavg", "averaged")
    titles = {name: name.capitalize() for name in FEDAVG_METHODS}
    offered = {OWN: f"As the attack does ({default})"} | titles
    words = ". ".join(f"{name.capitalize()}: {words}" for name, words in FEDAVG_METHODS.items())
    method = inputs.select(TITLES["fedavg"], "fedavg", offered, locked=locked, help=words + ".")
    return {"fedavg": None if method == OWN else method}


def labels(attack: str, *, locked: bool) -> dict[str, Any]:
    """How labels are inferred, and which are changed on purpose."""
    titles = {name: strategy.title for name, strategy in STRATEGIES.items()} | {"true": "None: true labels are given"}
    offered = {OWN: f"As the attack does ({titles[ATTACKS[attack].label_strategy]})"} | titles
    strategy = inputs.select(
        TITLES["label_strategy"], "label_strategy", offered, locked=locked, help=inputs.guide(STRATEGIES)
    )
    by_default = " and ".join(plain(attack.title) for attack in ATTACKS.values() if attack.repairs)
    repair = inputs.select(
        TITLES["repair_labels"], "repair_labels", REPAIRS, locked=locked,
        help=f"By default only {by_default} does this, when counts are uncertain, and never where labels were made "
        "wrong on purpose.",
    )  # fmt: skip
    return {
        "label_strategy": None if strategy == OWN else strategy,
        "wrong_labels": inputs.number("wrong_labels", locked=locked),
        "mislabel": st.text_input(
            TITLES["mislabel"], key="mislabel", placeholder="cat>dog", disabled=locked,
            help=inputs.help_of("mislabel"),
        ),
        "repair_labels": None if repair == OWN else repair,
    }  # fmt: skip


def settings(name: str, *, locked: bool) -> dict[str, Any]:
    """An input for every setting that the attack declares, and for every image prior where it takes them."""
    attack = ATTACKS[name]
    values: dict[str, Any] = {}
    given: dict[str, Any] = {}
    for setting, limits in limits_of(attack.settings).items():
        solver = given.get("solver") or getattr(attack.settings, "solver", "")
        without_rate = setting in RATE and solver in SOLVERS and not SOLVERS[solver].takes_learning_rate
        if setting in ELSEWHERE or without_rate:
            continue
        value = _setting(attack, setting, limits, locked)
        if value is not None and _key(setting) == setting:
            values[setting] = value
        elif value is not None:
            given[setting] = value
    if given.get(FEATURES) == 1.0:
        values["feature_term"] = bool(given.pop(FEATURES))
    if hasattr(attack.settings, "priors"):
        values |= _priors(attack, locked)
    own = ", ".join(f"{_words(n).lower()} {v}" for n, v in described(attack).items())
    st.html(messages.note(f"{attack.title}: {own}."))
    pairs = tuple(f"{setting}={_text(value)}" for setting, value in given.items())
    return values | ({"setting": pairs} if pairs else {})


def limits(attack: str, *, locked: bool) -> dict[str, Any]:
    """When the attack ends at the latest, the seed and the device."""
    caps = backend.limits()
    if words := caps.sentence():
        st.html(messages.note(words))
    iterations = str(getattr(ATTACKS[attack].settings, "iterations", caps.iterations or "no limit"))
    seconds = f"{caps.seconds:g}" if caps.seconds else "no limit"
    devices = ["auto", "cpu", *(["cuda"] if torch.cuda.is_available() else []), st.session_state.get("device", "auto")]
    return {
        "max_iterations": inputs.number("max_iterations", locked=locked, most=caps.iterations, placeholder=iterations),
        "max_seconds": inputs.number("max_seconds", locked=locked, most=caps.seconds, placeholder=seconds, format="%g"),
        "seed": inputs.number("seed", locked=locked),
        "device": inputs.select(TITLES["device"], "device", {name: name for name in devices}, locked=locked),
    }


# ------------------------------------------------------------------------------------------------ made from settings


def _setting(attack: Attack, name: str, limits: Limits, locked: bool) -> Any:
    """The value given for a setting, None where it is the attack's own."""
    default, key = getattr(attack.settings, name), _key(name)
    label, help = plain(_words(name)), plain(_sentence(limits.help))
    if limits.choices or isinstance(default, bool):
        titles = {choice: choice for choice in limits.choices} or {"true": "Yes", "false": "No"}
        offered = {None: f"As the attack does ({_text(default)})"} | titles
        return inputs.select(label, key, offered, locked=locked, help=help)
    whole = _is_whole(attack, name)
    kind = int if whole else float
    low = limits.least if limits.least is not None else inputs.SMALLEST if limits.above is not None else None
    st.session_state.setdefault(key, None)
    return st.number_input(
        label, None if low is None else kind(low), None if limits.most is None else kind(limits.most), value=None,
        key=key, placeholder=_text(default), step=1 if whole else 0.01, format="%d" if whole else "%g",
        disabled=locked, help=help,
    )  # fmt: skip


def _priors(attack: Attack, locked: bool) -> dict[str, Any]:
    defaults, values, pairs = dict(attack.settings.priors), {}, []
    for name, prior in PRIORS.items():
        st.session_state.setdefault(_prior_key(name), None)
        weight = st.number_input(
            f"Weight: {plain(prior.title)}", 0.0, LARGEST_PRIOR_WEIGHT, value=None,
            key=_prior_key(name), placeholder=f"{defaults.get(name, 0):g}", step=0.001, format="%g", disabled=locked,
            help=plain(f"{prior.summary} {prior.source}"),
        )  # fmt: skip
        if weight is not None and name == SMOOTHNESS:
            values["total_variation"] = weight
        elif weight is not None:
            pairs.append(f"{name}={_text(weight)}")
    return values | ({"prior": tuple(pairs)} if pairs else {})


def _key(setting: str) -> str:
    """The key of a setting's input: the scenario field that holds it, or a name of its own."""
    return setting if setting in Scenario.model_fields else f"{SETTING}{setting}"


def _prior_key(name: str) -> str:
    return "total_variation" if name == SMOOTHNESS else f"{PRIOR}{name}"


def _is_whole(attack: Attack | None, name: str) -> bool:
    """Whether a setting is a whole number."""
    return attack is not None and type(getattr(attack.settings, name)) is int


def _pairs(texts: tuple[str, ...] | None) -> dict[str, str]:
    return {name.strip(): value.strip() for name, _, value in (text.partition("=") for text in texts or ())}


def _value(text: str | None, limits: Limits, whole: bool) -> Any:
    """The value of a setting's input, from the text in a scenario."""
    if text is None or limits.choices or text in ("true", "false"):
        return text
    number = _number(text)
    return int(number) if whole and number is not None else number


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + "."
