"""Certified label counts: on real networks, on random layers, and where there is nothing to certify."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepleak_core.errors import CannotSeparate, NotSeparated
from deepleak_core.features.last_layer import LastLayer
from deepleak_core.features.separate import SeparatedFeatures, separate_features
from deepleak_core.federated.case import observe
from deepleak_core.labels import certification
from deepleak_core.labels.certification import certify_counts, visible_classes
from deepleak_core.labels.evidence import Knowledge
from deepleak_core.labels.ilrg import ilrg
from deepleak_core.labels.strategies import infer_labels
from deepleak_core.labels.zero_shot import zero_shot
from deepleak_core.scenario import Scenario
from tests.helpers import elu_features, knowledge_of, last_layer, relu_features

BATCHES = {"distinct": (0, 1, 3, 4), "a pair": (0, 1, 4, 5), "one class": (4, 5, 7, 19)}


def estimates(known: Knowledge) -> list[Tensor]:
    return [zero_shot(known).real_counts, ilrg(known).real_counts]


def after_relu(images: int, classes: int, *, repeats: int = 2) -> tuple[Tensor, LastLayer]:
    """Counts (C,) of labels of which the first `repeats` are alike, and the layer."""
    labels = torch.arange(images)
    labels[:repeats] = classes - 1
    layer = last_layer(relu_features(images, images, 600), labels, classes=classes, floor=0.0)
    return torch.bincount(labels, minlength=classes), layer


def after_elu(images: int, classes: int) -> tuple[Tensor, LastLayer]:
    """Counts (C,) of labels of which the first four are alike, and the layer."""
    labels = torch.arange(images)
    labels[:4] = classes - 1
    layer = last_layer(elu_features(images, images, 1500), labels, classes=classes, floor=-1.0, smooth=True)
    return torch.bincount(labels, minlength=classes), layer


# ------------------------------------------------------------------------------------------------- certificates


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize(
    "trained", [("lenet64-elu", "late"), ("lenet64-relu", "early"), ("resnet20", "late"), ("lenet", "untrained")]
)
def test_the_truth_is_certified(trained: tuple[str, str], batch: tuple[int, ...]) -> None:
    case, images = observe(Scenario(model=trained[0], stage=trained[1], indices=batch))
    known, truth = Knowledge(case=case), torch.bincount(images.labels, minlength=10)
    verdict = certify_counts(known.last_layer, 4, estimates(known))
    assert verdict.certified
    assert torch.equal(verdict.counts, truth)
    assert verdict.separated is not None
    assert torch.equal(torch.bincount(verdict.separated.labels, minlength=10), truth)
    with torch.no_grad():
        features = case.model.features(images.images).double()
    distance = torch.cdist(verdict.separated.features, features) / features.norm(dim=1)
    assert distance.amin(0).max() < 0.05, "certified by features that are not the images'"


def test_eight_images_of_an_untrained_network() -> None:
    known, truth = knowledge_of(Scenario(model="lenet64-elu", indices=tuple(range(8))))
    verdict = certify_counts(known.last_layer, 8, estimates(known))
    assert verdict.certified
    assert torch.equal(verdict.counts, truth)


@pytest.mark.parametrize("model", ["lenet64-relu", "lenet64-elu"])
def test_nine_images_of_ten_classes_of_a_trained_network(model: str) -> None:
    known, truth = knowledge_of(Scenario(model=model, stage="late", indices=(0, 1, 2, 4, 5, 7, 8, 12, 19)))
    verdict = certify_counts(known.last_layer, 9, estimates(known))
    assert verdict.certified
    assert torch.equal(verdict.counts, truth)


def test_eight_images_of_ten_classes_with_few_features_that_never_reach_their_floor() -> None:
    """ResNet-20 has 64 features, each an average over a picture."""
    known, truth = knowledge_of(Scenario(model="resnet20", stage="early", indices=(0, 1, 2, 4, 5, 7, 8, 12)))
    verdict = certify_counts(known.last_layer, 8, estimates(known))
    assert verdict.certified
    assert torch.equal(verdict.counts, truth)


def test_forty_images_with_repeats_are_certified_whatever_the_estimates_say() -> None:
    counts, layer = after_relu(40, 60, repeats=5)
    verdict = certify_counts(layer, 40, [torch.ones(60), torch.arange(60.0)])
    assert verdict.certified
    assert torch.equal(verdict.counts, counts)


@pytest.mark.parametrize(("images", "classes"), [(8, 20), (40, 60)])
def test_images_with_smooth_features_are_certified_without_linear_programs(
    images: int, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, layer = after_elu(images, classes)
    monkeypatch.setattr(certification, "largest_simplices", lambda *_, **__: pytest.fail("not needed"))
    verdict = certify_counts(layer, images, [torch.ones(classes), torch.arange(float(classes))])
    assert verdict.certified
    assert torch.equal(verdict.counts, counts)


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10_000))
def test_estimates_far_off_do_not_mislead(seed: int) -> None:
    """Three images are found whatever is believed of their labels."""
    known, truth = knowledge_of(Scenario(model="lenet64-elu", stage="late", indices=(4, 5, 1)))
    guesses = 3 * torch.rand(2, 10, generator=torch.Generator().manual_seed(seed)).double()
    verdict = certify_counts(known.last_layer, 3, list(guesses), seed=seed)
    assert verdict.certified
    assert torch.equal(verdict.counts, truth)


@pytest.mark.parametrize("model", ["lenet64-elu", "lenet64-relu"])
def test_any_of_many_classes_is_found_whatever_an_estimate_says(model: str) -> None:
    known, truth = knowledge_of(Scenario(dataset="cifar100-samples", model=model, indices=(0, 3, 7, 8)))
    guess = torch.where(truth > 0, -1.0, 1.0).double()  # the classes of the batch seem the least likely
    verdict = certify_counts(known.last_layer, 4, [guess])
    assert verdict.certified
    assert torch.equal(verdict.counts, truth)


def test_images_that_are_no_vertices_are_found_without_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of eight vertices are mirrored, away from the images; the other five are certain."""
    counts, layer = after_relu(8, 20)
    original, calls = certification.largest_simplices, []

    def spoiled(factors, **options):
        for vertices, bounds in original(factors, **options):
            calls.append(factors.images)
            if factors.images == 8:
                vertices = torch.cat([vertices[:5], 2 * vertices.mean(0) - vertices[5:]])
            yield vertices, bounds

    monkeypatch.setattr(certification, "largest_simplices", spoiled)
    verdict = certify_counts(layer, 8, [torch.ones(20), torch.arange(20.0)])
    assert verdict.certified
    assert torch.equal(verdict.counts, counts)
    assert 3 in calls, "the others were not searched by themselves"


@pytest.mark.parametrize("thorough", [True, False])
def test_hopping_finds_what_other_searches_miss(thorough: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    known, truth = knowledge_of(Scenario(model="lenet64-elu", stage="late", indices=(4, 5, 1, 0, 2)))
    monkeypatch.setattr(certification, "independent_images", lambda *_, **__: None)
    monkeypatch.setattr(certification, "largest_simplices", lambda *_, **__: iter(()))
    guesses = [torch.ones(10), torch.arange(10.0)]
    verdict = certify_counts(known.last_layer, 5, guesses, thorough=thorough)
    assert verdict.certified == thorough
    assert torch.equal(verdict.counts, truth) == thorough


# ---------------------------------------------------------------------------------------------- no certificates


@pytest.mark.parametrize(("indices", "noise"), [((4,), 1.0), ((4, 5), 1e-2)])
def test_a_noisy_gradient_certifies_nothing(indices: tuple[int, ...], noise: float) -> None:
    known, _ = knowledge_of(Scenario(model="lenet64-elu", stage="late", indices=indices), noise=noise)
    verdict = certify_counts(known.last_layer, len(indices), estimates(known))
    assert not verdict.certified
    assert int(verdict.counts.sum()) == len(indices)


@pytest.mark.parametrize("noise", [1e-6, 1e-3])
def test_faint_noise_never_certifies_wrong_counts(noise: float) -> None:
    known, truth = knowledge_of(Scenario(model="lenet64-elu", stage="late", indices=(4, 5)), noise=noise)
    verdict = certify_counts(known.last_layer, 2, estimates(known))
    assert torch.equal(verdict.counts, truth) or not verdict.certified


def test_a_single_image_that_fits_no_label_is_not_certified() -> None:
    known, _ = knowledge_of(Scenario(model="lenet", indices=(4,)))
    random = torch.randn(known.weight.shape, generator=torch.Generator().manual_seed(0)).double()
    layer = replace(known.last_layer, weight_gradient=random)
    verdict = certify_counts(layer, 1, [torch.rand(10).double(), torch.rand(10).double()])
    assert not verdict.certified
    assert int(verdict.counts.sum()) == 1


def test_an_image_lost_in_rounding_leaves_counts_that_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SeparatedFeatures, "clear", False)
    counts, layer = after_relu(8, 20)
    verdict = certify_counts(layer, 8, [torch.ones(20), torch.arange(20.0)])
    assert not verdict.certified
    assert verdict.explained
    assert torch.equal(verdict.counts, counts)


@pytest.mark.parametrize("limit", [{"seconds": 0.0}, {"stop": lambda: True}])
def test_without_time_nothing_is_certified_but_an_answer_is_given(limit: dict) -> None:
    known, _ = knowledge_of(Scenario(model="lenet64-elu", stage="late", indices=(4, 5, 7, 19)))
    verdict = certify_counts(known.last_layer, 4, estimates(known), **limit)
    assert not verdict.certified
    assert int(verdict.counts.sum()) == 4


def test_a_hopeless_search_ends_in_time() -> None:
    """Random rows are of no images: every stage runs until its time is over."""
    known, _ = knowledge_of(Scenario(model="lenet64-elu", stage="late", indices=tuple(range(9))), noise=0.3)
    began = time.thread_time()  # which other programs take nothing of
    found = infer_labels(known.case, seconds=0.5)
    assert not found.certified
    assert time.thread_time() - began < 5


def test_features_below_the_floor_certify_nothing() -> None:
    """Labels that are wrong for a faint image were once explained by features far below the floor of ReLU."""
    case, truth = observe(Scenario(model="resnet20", stage="late", indices=(4, 5, 1, 0)))
    layer, counts = Knowledge(case=case).last_layer, torch.bincount(truth.labels, minlength=10)
    with torch.no_grad():
        features = case.model.features(truth.images).double()
    start = features[truth.labels.argsort()]
    assert separate_features(layer, counts, start=start, tries=0).clear
    raised = replace(layer, floor=float(features.min()) + float(features.mean()))
    with pytest.raises(NotSeparated, match="the least value of the activation"):
        separate_features(raised, counts, start=start, tries=0)


def test_as_many_images_as_classes_cannot_be_separated() -> None:
    known, _ = knowledge_of(Scenario(model="lenet", indices=tuple(range(10))))
    with pytest.raises(CannotSeparate, match="10 images share a last layer of 10 classes"):
        certify_counts(known.last_layer, 10, estimates(known))


def test_one_local_step_is_certified_and_several_are_not() -> None:
    scenario = Scenario(model="lenet64-elu", indices=(4, 5), mode="fedavg", local_batch_size=2)
    for steps in (1, 4):
        known, truth = knowledge_of(scenario.changed(local_epochs=steps))
        found = infer_labels(known.case)
        assert found.certified == (steps == 1)
        assert torch.equal(found.counts, truth)


# ---------------------------------------------------------------------------------------------- visible classes


@pytest.mark.parametrize("model", ["lenet64-relu", "lenet64-elu", "resnet20"])
def test_visible_classes_are_in_the_batch(model: str) -> None:
    known, truth = knowledge_of(Scenario(model=model, stage="early", indices=tuple(range(8))))
    visible = visible_classes(known.last_layer, 8)
    assert (visible <= truth).all()
    assert int(visible.sum()) >= int((truth > 0).sum()) - 2
    assert not visible_classes(replace(known.last_layer, floor=None), 8).any()
    loud = 8 * float(known.last_layer.weight_gradient.abs().max())
    assert not visible_classes(known.last_layer, 8, noise=loud).any()
