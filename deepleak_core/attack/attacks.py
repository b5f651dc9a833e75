"""The registry of attacks: each is a function from a case and believed labels to reconstructions, with its settings.

To add an attack, write a file with a frozen settings dataclass and a generator with the signature of `Reconstruct`, and
add one entry to `ATTACKS`; other packages add theirs by an entry point in the group `deepleak.attacks`. The app, the
command line and the docs read the registry.

Gradient matching starts images that share a label from one point (see `matching`). The attacks of Zhu, Geiping and Yin
et al. draw noise for each image, so these presets start independently, as their papers do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from deepleak_core.attack.exact import ExactSettings, Progress, reconstruct_exactly
from deepleak_core.attack.matching import MatchingSettings, match_update
from deepleak_core.attack.mean_of_searches import MeanSettings, match_on_average
from deepleak_core.attack.priors import PRIORS
from deepleak_core.attack.settings import assignments, changed, limits_of
from deepleak_core.attack.solvers import SOLVERS
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.federated.case import Case
from deepleak_core.registry import Registry
from deepleak_core.scenario import Scenario
from deepleak_core.text import shorten, unknown


class Reconstruct(Protocol):
    """The signature of an attack. Yields `Iterate`, `Stage` and `FeaturesSeparated`; deterministic for a fixed seed.

    `believed` are the labels that the attacker assumes, ascending, one for each image; once `stop` returns True the
    attack ends soon.
    """

    def __call__(
        self,
        case: Case,
        believed: Sequence[int],
        settings: Any,
        *,
        seed: int = 0,
        stop: Callable[[], bool] = ...,
    ) -> Iterator[Progress]:
        """Reconstruct images under believed labels."""
        ...


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One entry of the registry.

    `settings` are the defaults, a frozen dataclass of declared settings (`attack.settings`). `label_strategy` is used
    where a scenario names none; `repairs` says whether uncertain labels are replaced during the attack. `opening` is
    the sentence with which it starts, where {source} stands for what was shared.
    """

    title: str
    summary: str
    source: str
    label_strategy: str
    reconstruct: Reconstruct
    settings: Any
    repairs: bool = False
    opening: str = "Pixels are adjusted until their gradient matches {source}."


ATTACKS = Registry(
    "deepleak.attacks",
    Attack,
    {
        "general-deep-leakage": Attack(
            title="General Deep Leakage",
            summary="Labels restored from noise, cosine distance, smoothness prior: works on gradients and weights.",
            source="Geng et al. 2021, arXiv 2110.09074",
            label_strategy="zero-shot",
            reconstruct=match_update,
            settings=MatchingSettings(priors=(("total-variation", 1e-3),)),
            repairs=True,
        ),
        "inverting-gradients": Attack(
            title="Inverting Gradients",
            summary="Signed Adam on the cosine distance with a stronger smoothness prior and more iterations.",
            source="Geiping et al. 2020, arXiv 2003.14053",
            label_strategy="idlg",
            reconstruct=match_update,
            settings=MatchingSettings(iterations=1200, start="independent", priors=(("total-variation", 1e-2),)),
        ),
        "gradinversion": Attack(
            title="GradInversion",
            summary="Squared distance, smoothness, BatchNorm statistics, several starts that agree on one image.",
            source="Yin et al. 2021, arXiv 2104.07586",
            label_strategy="gradinversion",
            reconstruct=match_update,
            settings=MatchingSettings(
                solver="adam",
                distance="squared-l2",
                restarts=3,
                start="independent",
                priors=(("total-variation", 1e-4), ("l2", 1e-6), ("group-consistency", 1e-2), ("batchnorm", 1e-1)),
            ),
        ),
        "dlg": Attack(
            title="Deep Leakage from Gradients",
            summary="The first gradient matching attack: L-BFGS on the squared distance. Labels come from iDLG's rule, "
            "where the paper optimised them along with the images.",
            source="Zhu et al. 2019, arXiv 1906.08935",
            label_strategy="idlg",
            reconstruct=match_update,
            settings=MatchingSettings(
                solver="lbfgs",
                distance="squared-l2",
                iterations=300,
                learning_rate=None,
                schedule=None,
                start="independent",
            ),
        ),
        "coarse-to-fine": Attack(
            title="Coarse to Fine",
            summary="For deep networks whose iterations are expensive: coarse shapes move first, so that few dozen "
            "iterations show what is in a photo.",
            source="this project; frequencies as unknowns: Olah et al. 2017",
            label_strategy="zero-shot",
            reconstruct=match_update,
            settings=MatchingSettings(
                solver="spectral-adam",
                iterations=40,
                learning_rate=0.5,
                schedule="cosine",
                priors=(("total-variation", 1e-2),),
            ),
            repairs=True,
            opening="Spatial frequencies are adjusted until the images' gradient matches {source}.",
        ),
        "mean-of-searches": Attack(
            title="Mean of Searches",
            summary="For deep networks with pooling: short searches from different noise, and the mean of what they "
            "find. What each search kept of its noise averages out.",
            source="this project; after Geng et al. 2021 and the group consistency of Yin et al. 2021",
            label_strategy="zero-shot",
            reconstruct=match_on_average,
            settings=MeanSettings(iterations=800, schedule="cosine", priors=(("total-variation", 5e-3),)),
            repairs=True,
            opening="Several searches adjust pixels until their gradient matches {source}; their mean is shown.",
        ),
        "exact": Attack(
            title="Exact",
            summary="Solves for the images instead of searching: features first, then layers, then pixels. "
            "Images of one class are recovered one by one.",
            source="this project; related: R-GAP, iLRG, Cocktail Party Attack, SPEAR, LT-code peeling",
            label_strategy="verified",
            reconstruct=reconstruct_exactly,
            settings=ExactSettings(),
            opening="The last layer's part of {source} is separated, image by image.",
        ),
    },
)

LARGEST_PRIOR_WEIGHT = 100.0
RATE = ("learning_rate", "schedule")  # settings that only solvers with a learning rate have
OVERRIDES = ("learning_rate", "restarts", "fedavg", "total_variation")  # scenario fields that are settings of attacks


def attack_of(name: str) -> Attack:
    """The registry entry of an attack. Raises `UnsupportedScenario` naming the known ones."""
    if name not in ATTACKS:
        raise UnsupportedScenario([unknown("attack", name, ATTACKS)])
    return ATTACKS[name]


def settings_of(scenario: Scenario) -> Any:
    """The settings of a scenario's attack: its defaults, with the scenario's own values in place.

    Raises `UnsupportedScenario` with a sentence for each setting that the attack does not have or does not accept.

    >>> settings_of(Scenario(total_variation=0.01, max_iterations=7)).priors
    (('total-variation', 0.01),)
    """
    settings = attack_of(scenario.attack).settings
    own = {name: getattr(scenario, name) for name in OVERRIDES}
    own |= {"iterations": scenario.max_iterations, "feature_weight": 1.0 if scenario.feature_term else None}
    values: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
    priors: dict[str, Any] = dict(assignments(scenario.prior or (), "prior"))
    if isinstance(settings, MatchingSettings):
        if (smoothness := values.pop("total_variation", None)) is not None:
            if "total-variation" in priors:
                raise UnsupportedScenario(["total_variation and prior total-variation were both given; give one."])
            priors["total-variation"] = smoothness
        settings = replace(settings, priors=_weighted(settings.priors, priors))
    elif priors:
        raise UnsupportedScenario([f"{scenario.attack} does not take image priors; leave prior out."])
    further = assignments(scenario.setting or (), "setting")
    if twice := sorted(further.keys() & values.keys()):
        raise UnsupportedScenario([f"{twice[0]} was given as an option and as a setting; give one of them."])
    if scenario.mode == "fedsgd" and "fedavg" in further:
        raise UnsupportedScenario(["fedavg applies to mode 'fedavg' only; leave it out or switch the mode."])
    settings = changed(settings, values | further)
    useless = [name for name in RATE if name in values | further]
    if useless and isinstance(settings, MatchingSettings) and not SOLVERS[settings.solver].takes_learning_rate:
        raise UnsupportedScenario(
            [f"{useless[0]} is no setting of {scenario.attack}, whose solver chooses its own steps; leave it out."]
        )
    return settings


def _weighted(defaults: Sequence[tuple[str, float]], given: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    """Default weights of priors, replaced and extended by those given. Raises `UnsupportedScenario`."""
    weights, problems = dict(defaults), []
    for name, text in given.items():
        try:
            weights[name] = float(text)
        except ValueError:
            weights[name] = -1.0
        if name not in PRIORS:
            problems.append(f"prior named {shorten(repr(name))}; accepted are {', '.join(PRIORS)}.")
        elif not 0 <= weights[name] <= LARGEST_PRIOR_WEIGHT:
            problems.append(
                f"the weight of prior {name} was {shorten(str(text))}; accepted is a number from 0 to "
                f"{LARGEST_PRIOR_WEIGHT:g}."
            )
    if problems:
        raise UnsupportedScenario(problems)
    return tuple(weights.items())


def described(attack: Attack) -> dict[str, Any]:
    """Every setting of an attack by name, with its default value, for display; unused ones left out."""
    values = {name: getattr(attack.settings, name) for name in limits_of(attack.settings)}
    for name, weight in getattr(attack.settings, "priors", ()):
        values[f"prior {name}"] = weight
    return {name: value for name, value in values.items() if value}
