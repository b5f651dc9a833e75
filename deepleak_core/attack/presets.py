"""The attacks, as settings of one loop: `attack.reconstruct` reads a `Preset` and nothing else decides.

To add an attack, add one `Preset` to `PRESETS`; the app, the command line and the docs read it from there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from deepleak_core.scenario import FedAvgMethod, Scenario


@dataclass(frozen=True, kw_only=True)
class Preset:
    """An attack as its settings. A scenario may override learning rate, total variation, restarts, iterations."""

    title: str
    summary: str
    source: str
    solver: str
    distance: str
    label_strategy: str
    iterations: int
    learning_rate: float | None = None
    signed: bool = False
    total_variation: float = 0.0
    l2: float = 0.0
    batchnorm: float = 0.0
    group_consistency: float = 0.0
    feature_weight: float = 0.0
    restarts: int = 1
    fedavg: FedAvgMethod = "averaged"
    repairs: bool = False
    """Whether uncertain labels may be doubted and changed while the attack runs."""

    def for_scenario(self, scenario: Scenario) -> Preset:
        """The preset with the scenario's own settings in place."""
        own = {
            "label_strategy": scenario.label_strategy,
            "iterations": scenario.max_iterations,
            "learning_rate": scenario.learning_rate,
            "total_variation": scenario.total_variation,
            "restarts": scenario.restarts,
            "feature_weight": 1.0 if scenario.feature_term else None,
            "fedavg": scenario.fedavg,
        }
        return replace(self, **{name: value for name, value in own.items() if value is not None})  # type: ignore[arg-type]

    def settings(self) -> dict[str, Any]:
        """Every setting by name, for display; words about the preset left out."""
        return {k: v for k, v in asdict(self).items() if k not in ("title", "summary", "source")}


PRESETS: dict[str, Preset] = {
    "general-deep-leakage": Preset(
        title="General Deep Leakage",
        summary="Labels restored from noise, cosine distance, smoothness: works on gradients and weights.",
        source="Geng et al. 2021, arXiv 2110.09074",
        solver="adam",
        distance="cosine",
        label_strategy="zero-shot",
        iterations=400,
        learning_rate=0.1,
        signed=True,
        total_variation=1e-3,
        repairs=True,
    ),
    "inverting-gradients": Preset(
        title="Inverting Gradients",
        summary="Signed Adam on the cosine distance with a stronger smoothness prior, and patience.",
        source="Geiping et al. 2020, arXiv 2003.14053",
        solver="adam",
        distance="cosine",
        label_strategy="idlg",
        iterations=1200,
        learning_rate=0.1,
        signed=True,
        total_variation=1e-2,
    ),
    "gradinversion": Preset(
        title="GradInversion",
        summary="Squared distance, smoothness, BatchNorm statistics, several starts that agree on one picture.",
        source="Yin et al. 2021, arXiv 2104.07586",
        solver="adam",
        distance="squared-l2",
        label_strategy="gradinversion",
        iterations=400,
        learning_rate=0.1,
        total_variation=1e-4,
        l2=1e-6,
        batchnorm=1e-1,
        group_consistency=1e-2,
        restarts=3,
    ),
    "dlg": Preset(
        title="Deep Leakage from Gradients",
        summary="The first of its kind: L-BFGS on the squared distance. Labels come from iDLG's rule, "
        "where the paper guessed them along with the images.",
        source="Zhu et al. 2019, arXiv 1906.08935",
        solver="lbfgs",
        distance="squared-l2",
        label_strategy="idlg",
        iterations=300,
    ),
    "exact": Preset(
        title="Exact",
        summary="Takes the batch apart instead of searching it: features first, then layers, then pixels. "
        "Same-label images come back one by one.",
        source="this project; relatives: R-GAP, iLRG, Cocktail Party Attack, SPEAR",
        solver="exact",
        distance="squared-l2",
        label_strategy="verified",
        iterations=600,
        total_variation=1e-3,
        feature_weight=1.0,
        fedavg="simulated",
    ),
}
