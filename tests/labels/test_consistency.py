"""Hints on updates whose scale or batch size does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deepleak_core.federated.case import Case, observe
from deepleak_core.labels.consistency import gradient_scale, hint, numerical_rank
from deepleak_core.labels.evidence import Knowledge
from deepleak_core.labels.strategies import infer_labels
from deepleak_core.labels.zero_shot import zero_shot
from deepleak_core.scenario import Scenario


def changed(case: Case, *, scale: float = 1.0, images: int | None = None) -> Case:
    """A case whose gradient is scaled, or said to be of so many images."""
    tensors = {name: scale * tensor for name, tensor in case.update.tensors.items()}
    return replace(case, update=replace(case.update, tensors=tensors, batch_size=images or case.update.batch_size))


MODELS = [("lenet64-relu", "late"), ("lenet64-elu", "untrained")]


@pytest.mark.parametrize(("model", "stage"), MODELS)
@pytest.mark.parametrize("indices", [(4,), (0, 4, 5, 7)])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_a_scaled_gradient_certifies_nothing_and_is_recognised(
    model: str, stage: str, indices: tuple[int, ...], scale: float
) -> None:
    case, _ = observe(Scenario(model=model, stage=stage, indices=indices))
    found = infer_labels(changed(case, scale=scale))
    assert not found.certified
    assert f"{scale:.3g} times" in found.note
    assert "check its scale" in found.note


@pytest.mark.parametrize(("model", "stage"), MODELS)
@pytest.mark.parametrize("claimed", [2, 5, 16])
def test_a_wrong_batch_size_certifies_nothing_and_is_recognised(model: str, stage: str, claimed: int) -> None:
    case, _ = observe(Scenario(model=model, stage=stage, indices=(0, 4, 5, 7)))
    found = infer_labels(changed(case, images=claimed))
    assert not found.certified
    assert int(found.counts.sum()) == claimed
    assert f"that of 4 images, not {claimed}" in found.note


@pytest.mark.parametrize(("model", "stage"), [*MODELS, ("resnet20", "late")])
@pytest.mark.parametrize("images", [1, 4, 12])
def test_nothing_is_wrong_with_a_plain_gradient(model: str, stage: str, images: int) -> None:
    case, _ = observe(Scenario(model=model, stage=stage, indices=tuple(range(images))))
    known = Knowledge(case=case)
    assert hint(known.last_layer, images, zero_shot(known).real_counts) is None


def test_noise_has_no_rank() -> None:
    case, _ = observe(Scenario(indices=(0, 4, 5)))
    layer = Knowledge(case=case).last_layer
    assert numerical_rank(layer, 3) == 3
    noise = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))
    noisy = replace(layer, weight_gradient=layer.weight_gradient + 1e-2 * layer.weight_gradient.std() * noise)
    assert numerical_rank(noisy, 3) is None
    assert hint(noisy, 3, torch.ones(10)) is None


def test_the_scale_of_a_batch_is_measured_without_labels() -> None:
    case, _ = observe(Scenario(model="lenet64-relu", indices=(0, 4, 5, 7)))
    layer = Knowledge(case=changed(case, scale=0.37)).last_layer
    assert gradient_scale(layer, 4, torch.ones(10) / 10) == pytest.approx(0.37, rel=1e-3)
    random = replace(layer, weight_gradient=torch.randn_like(layer.weight_gradient))
    assert gradient_scale(random, 4, torch.ones(10) / 10) is None
