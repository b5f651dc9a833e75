"""The registry of attacks, and a scenario's settings of its attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from deepleak_core.attack import attacks
from deepleak_core.attack import run as attack_run
from deepleak_core.attack.attacks import ATTACKS, Attack, attack_of, described, settings_of
from deepleak_core.attack.priors import PRIORS
from deepleak_core.attack.run import reconstruct
from deepleak_core.attack.settings import limits_of, setting
from deepleak_core.attack.solvers import Iterate
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.federated.case import Case, observe
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.registry import Registry
from deepleak_core.scenario import Scenario
from tests.helpers import end_of


@pytest.mark.parametrize("name", ATTACKS)
def test_every_entry_is_complete(name: str) -> None:
    attack = ATTACKS[name]
    assert attack.title
    assert attack.summary
    assert attack.source
    assert attack.label_strategy in STRATEGIES
    assert all(limits.help for limits in limits_of(attack.settings).values())
    assert "iterations" in limits_of(attack.settings)
    assert "colour" not in limits_of(attack.settings)
    for setting_name, limits in limits_of(attack.settings).items():
        default = getattr(attack.settings, setting_name)
        assert default is None or limits.allows(default), "a default is within its own limits"
    assert all(described(attack).values()), "settings without effect are not shown"


@pytest.mark.parametrize("name", ATTACKS)
def test_a_scenario_that_sets_nothing_leaves_the_defaults(name: str) -> None:
    assert settings_of(Scenario(attack=name)) == ATTACKS[name].settings


def test_a_scenarios_own_values_replace_the_defaults() -> None:
    settings = settings_of(
        Scenario(
            attack="gradinversion", learning_rate=0.3, total_variation=0.0, restarts=7, max_iterations=9,
            feature_term=True, mode="fedavg", fedavg="surrogate",
        )
    )  # fmt: skip
    assert (settings.learning_rate, settings.restarts, settings.iterations) == (0.3, 7, 9)
    assert (settings.fedavg, settings.feature_weight) == ("surrogate", 1.0)
    default = dict(ATTACKS["gradinversion"].settings.priors)
    assert dict(settings.priors) == default | {"total-variation": 0.0}


@pytest.mark.parametrize("prior", PRIORS)
def test_any_prior_can_be_given_by_name_to_any_attack_that_matches(prior: str) -> None:
    for name in ("general-deep-leakage", "gradinversion", "dlg"):
        default = dict(ATTACKS[name].settings.priors)
        settings = settings_of(Scenario(attack=name, prior=(f"{prior}=0.25",)))
        assert dict(settings.priors) == default | {prior: 0.25}


def test_priors_are_given_by_name() -> None:
    settings = settings_of(Scenario(prior=("total-variation=0.25", "l2=1")))
    assert dict(settings.priors) == {"total-variation": 0.25, "l2": 1.0}


REFUSED: dict[str, dict[str, Any]] = {
    "an unknown prior": {"prior": ("sharpness=1",)},
    "a weight that is none": {"prior": ("l2=much",)},
    "a negative weight": {"prior": ("l2=-1",)},
    "a weight that is no number": {"prior": ("l2=nan",)},
    "a weight beyond the limit": {"prior": ("l2=1e9",)},
    "no pair": {"prior": ("l2",)},
    "a prior for an attack without any": {"attack": "exact", "prior": ("l2=1",)},
    "a learning rate for a solver without one": {"attack": "dlg", "learning_rate": 0.1},
    "a schedule for a solver without a rate": {"attack": "dlg", "setting": ("schedule=cosine",)},
    "restarts for an attack without any": {"attack": "exact", "restarts": 2},
    "an unknown setting": {"setting": ("colour=red",)},
    "a setting outside its limits": {"setting": ("restarts=99",)},
    "a setting that is no choice": {"setting": ("distance=manhattan",)},
    "a setting of another type": {"setting": ("restarts=many",)},
    "no pair of a setting": {"setting": ("restarts",)},
}


@pytest.mark.parametrize("values", REFUSED.values(), ids=REFUSED.keys())
def test_what_an_attack_does_not_take_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        settings_of(Scenario(**values))
    (problem,) = refusal.value.problems
    (given,) = [value for name, value in values.items() if name != "attack"]
    name = given[0].partition("=")[0] if isinstance(given, tuple) else next(n for n in values if n != "attack")
    assert name in problem or "prior" in problem


def test_any_setting_of_an_attack_can_be_given_by_name() -> None:
    settings = settings_of(Scenario(setting=("distance=squared-l2", "restarts=2", "learning_rate=0.05")))
    assert (settings.distance, settings.restarts, settings.learning_rate) == ("squared-l2", 2, 0.05)
    assert settings_of(Scenario(attack="exact", setting=("feature_weight=2",))).feature_weight == 2


def test_an_unknown_attack_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        attack_of("magic")
    assert "'magic'" in str(refusal.value)
    assert all(name in str(refusal.value) for name in ATTACKS)
    with pytest.raises(UnsupportedScenario):
        settings_of(Scenario(attack="magic"))


# ---------------------------------------------------------------------------------------- an attack from outside


@dataclass(frozen=True, kw_only=True)
class GreySettings:
    """Settings of an attack that somebody else wrote."""

    iterations: int = setting(4, "iterations", least=1, most=10)
    level: float = setting(0.5, "brightness", least=0, most=1)


def grey(
    case: Case,
    believed: Sequence[int],
    settings: GreySettings,
    *,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Iterate]:
    """Every image is grey, a little brighter in each iteration."""
    for step in range(settings.iterations + 1):
        images = torch.full((len(believed), *case.image_shape), settings.level) + step / 1000
        loss = 1.0 - step / 100
        yield Iterate(step, case.model.normalise(images)[None], loss, torch.tensor([loss]), 1.0, step / 4)


def test_an_attack_from_outside_runs_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Attack(
        title="Grey", summary="Guesses grey.", source="nobody", label_strategy="idlg", reconstruct=grey,
        settings=GreySettings(),
    )  # fmt: skip
    monkeypatch.setattr(attacks, "ATTACKS", Registry("deepleak.attacks", Attack, dict(ATTACKS) | {"grey": entry}))
    case, _ = observe(Scenario(indices=(0, 4)))
    events = list(reconstruct(case, "grey", level=0.25))
    assert end_of(events).step == 4
    assert events[-2].images.mean() == pytest.approx(0.254, abs=1e-4)
    assert settings_of(Scenario(attack="grey", setting=("level=0.75",))).level == 0.75
    with pytest.raises(UnsupportedScenario):
        settings_of(Scenario(attack="grey", total_variation=0.1))
    assert attack_run.attack_of("grey") is entry


@pytest.mark.parametrize(
    "given",
    [
        {"prior": ("l2=1", "l2=2")},
        {"prior": ("total-variation=1",), "total_variation": 2.0},
        {"setting": ("solver=adam", "solver=lbfgs")},
        {"setting": ("learning_rate=0.1",), "learning_rate": 0.2},
        {"setting": ("fedavg=simulated",)},
        {"setting": ("iterations=1.5",)},
    ],
    ids=str,
)
def test_what_contradicts_itself_or_changes_nothing_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedScenario):
        settings_of(Scenario(**given))
