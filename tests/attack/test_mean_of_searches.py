"""The mean of several searches against the searches themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.attack.matching import MatchingSettings, match_update
from deepleak_core.attack.mean_of_searches import MeanSettings, blurred, match_on_average
from deepleak_core.attack.objectives import Matching
from deepleak_core.attack.run import reconstruct
from deepleak_core.attack.solvers import Iterate
from deepleak_core.events import Finished, Stage
from deepleak_core.federated.case import Case, observe
from deepleak_core.federated.models import build
from deepleak_core.scenario import Scenario
from deepleak_core.scoring import metrics
from tests.helpers import case_of, random_images

BELIEVED = (1, 6)


def small_case() -> Case:
    model = build("lenet64-elu", classes=10, image_size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return case_of(model, random_images(2, 3, 16, 16), torch.tensor(BELIEVED))


def copied(items: Iterable[Stage | Iterate]) -> list[Iterate]:
    """Every iterate, its inputs copied."""
    return [replace(item, inputs=item.inputs.clone()) for item in items if isinstance(item, Iterate)]


def on_average(case: Case, iterations: int, each: int, **values: Any) -> list[Iterate]:
    settings = MeanSettings(**({"iterations": iterations, "each": each, "blur": 0.0} | values))
    return copied(match_on_average(case, BELIEVED, settings))


def test_a_single_search_is_plain_gradient_matching() -> None:
    case = small_case()
    plain = copied(match_update(case, BELIEVED, MatchingSettings(iterations=8)))
    mean = on_average(case, 8, 20)
    assert torch.equal(mean[-1].inputs, plain[-1].inputs)
    assert [i.progress for i in mean] == [i.progress for i in plain]
    assert mean[-1].residual == pytest.approx(plain[-1].residual, rel=1e-4)


def test_what_is_shown_is_the_mean_of_the_searches_that_are_complete() -> None:
    """The third picture minus its share of the first two is an end of a search: it matches better than it started."""
    case = small_case()
    one, two, three = (on_average(case, 30, 10)[end].inputs for end in (10, 20, 30))
    objective = Matching(case=case, labels=torch.tensor(BELIEVED), distance="cosine")
    second, third = 2 * two - one, 3 * three - 2 * two
    start = objective.residual(on_average(case, 1, 1)[0].inputs[0])
    for end in (one, second, third):
        assert objective.residual(end[0]) < 0.8 * start
        assert float(case.model.low.min()) - 1e-4 <= float(end.min())
    assert not torch.equal(second, third)


def test_iterates_are_counted_once_and_carry_the_residual_of_what_they_show() -> None:
    case = small_case()
    objective = Matching(case=case, labels=torch.tensor(BELIEVED), distance="cosine")
    iterates = on_average(case, 25, 10)
    assert len(iterates) == 26
    assert [i.progress for i in iterates] == sorted(i.progress for i in iterates)
    assert iterates[-1].progress == 1
    assert all(i.progress < 1 for i in iterates[:-1])
    for iterate in iterates[10:]:
        assert iterate.residual == pytest.approx(objective.residual(iterate.inputs[0]), rel=1e-4)


def test_features_are_announced_once() -> None:
    settings = MeanSettings(iterations=4, each=2, feature_weight=1.0)
    stages = [item for item in match_on_average(small_case(), BELIEVED, settings) if isinstance(item, Stage)]
    assert len(stages) == 1


def test_a_run_ends_with_the_mean_of_all_searches() -> None:
    *_, end = reconstruct(small_case(), "mean-of-searches", labels=BELIEVED, iterations=30, each=10)
    assert isinstance(end, Finished)
    assert (end.step, end.reason) == (30, "iterations")
    preset = ATTACKS["mean-of-searches"].settings
    expected = copied(match_on_average(small_case(), BELIEVED, replace(preset, iterations=30, each=10)))[-1].residual
    assert end.residual == pytest.approx(expected, rel=1e-4)


def test_the_mean_is_closer_on_a_deep_network_than_one_search_of_the_same_length() -> None:
    case, batch = observe(Scenario(indices=(0, 4), model="resnet20", device="cpu"))
    labels = batch.labels.sort().values.tolist()

    def psnr(settings: MatchingSettings) -> float:
        search = match_on_average if isinstance(settings, MeanSettings) else match_update
        *_, last = search(case, labels, settings)  # type: ignore[operator]
        assert isinstance(last, Iterate)
        images = case.model.denormalise(last.inputs[0]).clamp(0, 1)
        return float(metrics.psnr(images[metrics.match(images, batch.images)], batch.images).mean())

    smooth = (("total-variation", 5e-3),)
    means = MeanSettings(iterations=30, each=10, priors=smooth)
    assert psnr(means) > psnr(MatchingSettings(iterations=30, priors=smooth))


def test_a_search_under_way_counts_once_it_matches_as_well_as_a_complete_one() -> None:
    """While it is worse, the picture stays; then it changes before the search is complete."""
    case = small_case()
    iterates = on_average(case, 90, 30, schedule="cosine")
    changes = [not torch.equal(a.inputs, b.inputs) for a, b in pairwise(iterates[30:])]
    assert changes[29]
    assert changes[59]
    assert not any(changes[:5])
    assert not any(changes[30:35])
    assert any(changes[5:29] + changes[35:59])


def test_what_is_shown_of_complete_searches_is_blurred() -> None:
    case = small_case()
    sharp, soft = on_average(case, 20, 10), on_average(case, 20, 10, blur=1.5)
    assert torch.equal(sharp[5].inputs, soft[5].inputs)
    assert torch.allclose(blurred(sharp[-1].inputs[0], 1.5), soft[-1].inputs[0])


@pytest.mark.parametrize("deviation", [0.4, 1.5, 20.0])
def test_a_blur_keeps_what_is_flat_and_lowers_the_contrast(deviation: float) -> None:
    flat = torch.full((2, 3, 8, 6), 0.7)
    assert torch.allclose(blurred(flat, deviation), flat)
    images = random_images(2, 3, 8, 6)
    assert float(blurred(images, deviation).std()) < float(images.std())


def test_a_blur_spreads_a_point_as_a_gaussian_does() -> None:
    point = torch.zeros(1, 1, 25, 25)
    point[..., 12, 12] = 1
    spread = blurred(point, 1.5)[0, 0]
    places = torch.arange(25) - 12.0
    assert float(spread.sum()) == pytest.approx(1, rel=1e-5)
    assert float((spread.sum(0) * places.square()).sum()) == pytest.approx(1.5**2, rel=0.05)
