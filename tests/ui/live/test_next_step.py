"""What is offered after a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deepleak_core.events import FinalScore, Finished
from deepleak_core.federated.models import MODELS
from deepleak_core.scenario import Scenario
from ui.live.next_step import next_step

SOLVED = ("lenet", "lenet64-relu", "lenet64-elu", "strided")  # plain chains of convolutions and activations
SEARCHED = [name for name, network in MODELS.items() if network.suited_attack]


def finished(exact: bool | None) -> Finished:
    """The end of a run of one image; None for one without a ground truth."""
    score = None if exact is None else FinalScore(
        places=(0,), psnr=(30.0,), ssim=(0.9,), max_error_8bit=(0,), pixel_exact=(exact,), outcomes=("recovered",),
        noise_psnr=8.0, grey_psnr=13.0, time_to={},
    )  # fmt: skip
    return Finished(reason="converged", sentence="", step=1, seconds=1.0, residual=0.1, score=score)


@pytest.mark.parametrize(
    ("scenario", "exact", "changes"),
    [
        (Scenario(), False, {"attack": "exact"}),
        (Scenario(), None, {"attack": "exact"}),
        (Scenario(learning_rate=0.2, max_iterations=9), False, {"attack": "exact", "learning_rate": None}),
        (Scenario(wrong_labels=1), False, {"attack": "general-deep-leakage", "repair_labels": True}),
        (Scenario(), True, None),
        (Scenario(attack="exact"), False, None),
        (Scenario(wrong_labels=1, repair_labels=True), False, None),
        (Scenario(label_strategy="true"), False, None),
        (Scenario(model="resnet20", learning_rate=0.2), False, {"attack": "mean-of-searches", "learning_rate": None}),
        (Scenario(model="resnet20", attack="mean-of-searches"), False, None),
        *((Scenario(model=name), False, {"attack": MODELS[name].suited_attack}) for name in SEARCHED),
        *((Scenario(model=name), False, {"attack": "exact"}) for name in SOLVED),
        (Scenario(model="mobilenet-v2"), False, None),
        (Scenario(model="lenet", image_size=64), False, None),
        (Scenario(model="resnet20", wrong_labels=1), False, {"attack": "general-deep-leakage", "repair_labels": True}),
    ],
)
def test_the_attack_that_promises_more_is_offered(scenario: Scenario, exact: bool | None, changes: Any) -> None:
    step = next_step(scenario, finished(exact))
    if changes is None:
        assert step is None
    else:
        assert step is not None
        assert {name: getattr(step.scenario, name) for name in changes} == changes


def test_a_blend_of_one_label_is_offered_to_be_separated() -> None:
    end = finished(exact=False)
    assert end.score is not None
    blend = replace(end, score=replace(end.score, fused=(True,)))
    alone, fused = next_step(Scenario(), end), next_step(Scenario(), blend)
    assert alone is not None
    assert fused is not None
    assert fused.scenario == alone.scenario
    assert fused.words != alone.words
