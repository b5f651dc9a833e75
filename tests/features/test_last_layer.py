"""The last layer as label inference and feature separation see it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deepleak_core.errors import CannotSeparate
from deepleak_core.features.last_layer import LastLayer, summed_gradient
from deepleak_core.federated.case import observe
from deepleak_core.scenario import Scenario
from tests.helpers import last_layer, random_labels, relu_features


@pytest.mark.parametrize("bias", [True, False])
def test_a_models_last_layer_and_its_gradient(bias: bool) -> None:
    case, truth = observe(Scenario(indices=(0, 4, 5), model="lenet64-relu", head_bias=bias))
    layer = LastLayer.of(case.model, case.gradient)
    with torch.no_grad():
        features = case.model.features(truth.images)
        signals = case.model(truth.images).softmax(1) - torch.nn.functional.one_hot(truth.labels, 10)
    summed = summed_gradient(layer, 3).dense()
    assert summed.shape == (10, features.shape[1] + bias)
    torch.testing.assert_close(summed[:, : features.shape[1]], (signals.T @ features).double(), atol=1e-5, rtol=1e-4)
    assert layer.floor == 0
    assert not layer.smooth
    assert (layer.bias is not None) == bias


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("bias", [True, False])
def test_a_gradient_without_features_is_refused(value: float, bias: bool) -> None:
    layer = last_layer(relu_features(2, 0), random_labels(2, 0), bias=bias)
    gradients = {
        "weight_gradient": torch.full_like(layer.weight, value),
        "bias_gradient": None if layer.bias is None else torch.full_like(layer.bias, value),
    }
    with pytest.raises(CannotSeparate, match="zero or not finite"):
        summed_gradient(replace(layer, **gradients), 2)
