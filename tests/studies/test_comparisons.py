"""The findings: the scenarios that show them, and that they are there."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from deepleak_core.data.batches import load_batch
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.events import Event, Finished, LabelsInferred, Prepared, from_png
from deepleak_core.federated import client
from deepleak_core.federated.case import target_model
from deepleak_core.runs.run import run
from deepleak_core.scenario import Scenario
from deepleak_core.studies import comparisons as findings

BASE = Scenario(indices=(0, 1, 3, 4), max_iterations=200)


def labels_of(scenario: Scenario) -> list[int]:
    return load_batch(scenario).labels.tolist()


def told(scenario: Scenario) -> list[Event]:
    return list(run(scenario))


def end(scenario: Scenario) -> Finished:
    finished = told(scenario)[-1]
    assert isinstance(finished, Finished)
    return finished


@pytest.fixture(scope="module")
def right() -> Finished:
    return end(BASE)


# ------------------------------------------------------------------------------------------------ one wrong label


@pytest.mark.parametrize("indices", [(0, 1, 3, 4), (4, 5, 0, 1), (8, 9, 12, 15)])
def test_the_worst_wrong_label_is_the_one_the_last_layer_feels_most(indices: tuple[int, ...]) -> None:
    scenario = Scenario(indices=indices)
    batch, model = load_batch(scenario), target_model(scenario)
    before, after = findings.worst_swap(scenario).split(">")
    absent = batch.class_names.index(after)
    assert absent not in batch.labels

    def felt(image: int) -> float:
        labels = batch.labels.clone()
        labels[image] = absent
        shared, wrong = (
            client.mean_gradient(model, client.weights_of(model), batch.images, y)["head.weight"]
            for y in (batch.labels, labels)
        )
        return float((shared - wrong).norm())

    alone = [i for i, label in enumerate(batch.labels) if int((batch.labels == label).sum()) == 1]
    assert before == batch.class_names[batch.labels[max(alone, key=felt)]]


def test_one_wrong_label_costs_every_image(right: Finished) -> None:
    _, scenario = findings.wrong_label(BASE, findings.worst_swap(BASE))
    wrong = end(scenario)
    assert np.mean(right.psnr) - np.mean(wrong.psnr) > 10
    assert min(np.subtract(right.psnr, wrong.psnr)) > 3
    sentence = findings.what_it_cost(right, wrong)
    assert f"cost the batch {np.mean(right.psnr) - np.mean(wrong.psnr):.0f} dB" in sentence
    assert "spoilt every image" in sentence and "stays unexplained" in sentence
    assert "spoilt 0 of 4 images" in findings.what_it_cost(right, right)


def test_a_batch_that_cannot_be_had_yet_loses_a_label_by_its_seed() -> None:
    assert findings.wrong_label(BASE)[1] == BASE.changed(wrong_labels=1)


def test_the_sweep_goes_from_no_wrong_label_to_all() -> None:
    sweep = findings.wrong_label_sweep(BASE.changed(mislabel=("cat>dog",)))
    assert [scenario.wrong_labels for scenario in sweep] == [0, 1, 2, 3, 4]
    ends = [end(scenario) for scenario in sweep[::2]]
    means = [float(np.mean(end.psnr)) for end in ends]
    assert means == sorted(means, reverse=True)
    assert f"with 0 to 2 wrong labels: {', '.join(f'{mean:.0f}' for mean in means)} dB" in (
        findings.what_the_sweep_says(ends)
    )


# --------------------------------------------------------------------------------------------------------- fusion


@pytest.mark.parametrize("base", [BASE, Scenario(batch_size=6), Scenario(composition="half", batch_size=4, seed=3)])
def test_the_dial_says_how_many_share_a_label(base: Scenario) -> None:
    for share in findings.shares(base):
        scenario = findings.same_label(base, share)
        counts = Counter(labels_of(scenario))
        assert scenario.batch_size == base.batch_size and sorted(counts.values())[-1] == share
        assert sorted(counts.values())[:-1] == [1] * (base.batch_size - share)
        assert findings.sharing(scenario) == share
        assert findings.same_label(scenario, share) == scenario, "the same again, from a link"


def test_more_of_a_class_than_there_is_cannot_share_a_label() -> None:
    with pytest.raises(UnsupportedScenario, match="cifar10-samples has 4 of class frog"):
        findings.same_label(BASE, 5)


def test_a_shared_label_fuses_and_taking_apart_undoes_it(right: Finished) -> None:
    scenario = findings.same_label(BASE, 4)
    assert scenario.indices == (4, 5, 7, 19)
    fused, apart = end(scenario), end(findings.taken_apart(scenario))
    assert fused.fusion is not None and fused.fusion > 0.5 and min(right.psnr) > 20
    assert apart.fusion == 0 and min(apart.psnr) > 30
    assert "4 of 4 images are recognisable" in findings.what_fused(right, fused)
    assert f"{fused.fusion:.0%} of those that share it" in findings.what_fused(right, fused)
    assert f"every image at least {min(apart.psnr):.0f} dB" in findings.what_was_taken_apart(fused, apart)


def test_the_mean_that_is_shown_is_that_of_the_class() -> None:
    scenario = Scenario(indices=(4, 5, 0), max_iterations=1)
    prepared = told(scenario)[0]
    assert isinstance(prepared, Prepared)
    ((picture, name, count),) = findings.mean_pictures(prepared)
    expected = load_batch(scenario).images[:2].mean(0).permute(1, 2, 0)
    assert (name, count) == ("frog", 2)
    assert torch.allclose(torch.from_numpy(from_png(picture) / 255.0).float(), expected, atol=0.51 / 255)


# -------------------------------------------------------------------------------------------------- GradInversion


def test_gradinversions_labels_fail_where_zero_shot_is_exact() -> None:
    scenario = findings.same_label(BASE.changed(max_iterations=2), 2)
    results = []
    for one in findings.compared(scenario):
        events = told(one)
        inferred = next(event for event in events if isinstance(event, LabelsInferred))
        results.append((inferred, events[-1]))
    (theirs, _), (ours, _) = results
    assert [findings.labels_right(inferred) for inferred in (theirs, ours)] == [3, 4] and ours.exact
    assert "found 3 of 4 labels" in findings.what_differs(*results) and "found 4 of 4" in findings.what_differs(
        *results
    )
