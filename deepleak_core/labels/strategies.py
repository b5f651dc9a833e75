"""Registry of label strategies: how often each class is in the batch, read from the last layer's part of the update.

How well mean(p), the network's mean prediction over the batch, can be estimated decides everything. Untrained networks
predict much the same for every image and for noise; trained ones do not, and there only `verified` remains reliable, as
long as there are fewer images than classes.

To add a strategy, write one function from `Knowledge` to `InferredLabels` in a module of its own, and one entry here.

>>> sorted(STRATEGIES)
['gradinversion', 'idlg', 'ilrg', 'llg', 'verified', 'zero-shot']
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.features.least_squares import never
from deepleak_core.federated.case import Case, require_usable
from deepleak_core.labels.evidence import InferredLabels, Knowledge
from deepleak_core.labels.gradinversion import gradinversion
from deepleak_core.labels.idlg import idlg
from deepleak_core.labels.ilrg import ilrg
from deepleak_core.labels.llg import llg
from deepleak_core.labels.verified import verified
from deepleak_core.labels.zero_shot import zero_shot
from deepleak_core.text import unknown


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """One entry of the registry."""

    title: str
    summary: str
    source: str
    infer: Callable[[Knowledge], InferredLabels]


STRATEGIES: dict[str, Strategy] = {
    "verified": Strategy(
        title="Verified",
        summary="Separates the images' features in the last layer; labels whose features explain it are certified.",
        source="this project; after Geng et al. 2021 and Ma et al. 2023",
        infer=verified,
    ),
    "zero-shot": Strategy(
        title="Zero-shot restoration",
        summary="Feeds noise to learn what the model predicts anyway; the rest of the gradient is label counts.",
        source="Geng et al. 2021, arXiv 2110.09074",
        infer=zero_shot,
    ),
    "idlg": Strategy(
        title="iDLG",
        summary="A negative gradient reveals the class; made for a single image.",
        source="Zhao et al. 2020, arXiv 2001.02610",
        infer=idlg,
    ),
    "gradinversion": Strategy(
        title="GradInversion",
        summary="The smallest entries of the last layer's gradient; assumes that no label repeats.",
        source="Yin et al. 2021, arXiv 2104.07586",
        infer=gradinversion,
    ),
    "llg": Strategy(
        title="LLG",
        summary="Subtracts the typical impact of one label after the other, estimated from noise.",
        source="Wainakh et al. 2021, arXiv 2105.09369",
        infer=llg,
    ),
    "ilrg": Strategy(
        title="iLRG",
        summary="Class-wise embeddings from the gradient give predictions; a linear system gives counts.",
        source="Ma et al. 2023, ICLR",
        infer=ilrg,
    ),
}


def infer_labels(
    case: Case,
    strategy: str = "verified",
    *,
    seed: int = 0,
    seconds: float | None = None,
    stop: Callable[[], bool] = never,
) -> InferredLabels:
    """Label counts of the batch behind a client update.

    `seconds` limits a strategy that searches; it ends early once `stop` returns true, with the best answer so far.
    Deterministic for a fixed `seed` where time does not run out. Raises `UnsupportedScenario` for an unknown strategy
    and `UnusableUpdate` for an update that is zero or not finite.

    >>> from deepleak_core.federated.case import observe
    >>> from deepleak_core.scenario import Scenario
    >>> case, truth = observe(Scenario(indices=(4, 5, 7)))
    >>> infer_labels(case).counts.tolist(), truth.labels.tolist()
    ([0, 0, 0, 0, 0, 0, 3, 0, 0, 0], [6, 6, 6])
    """
    if strategy not in STRATEGIES:
        raise UnsupportedScenario([unknown("label_strategy", strategy, [*STRATEGIES, "true"])])
    require_usable(case)
    knowledge = Knowledge(case=case, seed=seed, seconds=seconds, stop=stop)
    return STRATEGIES[strategy].infer(knowledge)
