"""Figures of runs beside other libraries, and the watch that observes them."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest
import torch

from benchmarks import against, against_breaching, against_leakpro
from deepleak_core.data.batches import GroundTruth
from deepleak_core.federated.case import Case, observe
from deepleak_core.scenario import Scenario

HISTORY = [(0.1, (12.0, 14.0)), (0.4, (25.0, 31.0)), (0.9, (31.0, 60.0)), (1.5, (59.5, 80.0))]
ONE_IMAGE = Scenario(indices=(0,), model="lenet", device="cpu")


def test_the_mean_reaches_a_level_before_every_image_does() -> None:
    assert against.time_to(HISTORY, 30, statistics.fmean) == 0.9
    assert against.time_to(HISTORY, 60, statistics.fmean) == 1.5
    assert against.time_to(HISTORY, 59, min) == 1.5
    assert against.time_to(HISTORY, 90, max) is None


def test_figures_are_those_of_the_end_and_of_every_level() -> None:
    found = against.figures(HISTORY, 30, 1.5, "seconds")
    assert found["reached"] == {"20": 0.4, "30": 0.9, "59": 1.5}
    assert found["evaluations_per_second"] == pytest.approx(20)
    assert found["mean_psnr"] == pytest.approx(69.75)
    assert found["min_psnr"] == 59.5


def test_the_median_of_a_level_is_missing_where_half_of_the_runs_missed_it() -> None:
    fast = against.figures(HISTORY, 30, 1.5, "seconds")
    slow = against.figures(HISTORY[:2], 30, 1.5, "seconds")
    assert against.summary([fast, slow, slow])["reached"] == {"20": 0.4, "30": None, "59": None}
    assert against.summary([fast, fast, slow])["reached"] == {"20": 0.4, "30": 0.9, "59": 1.5}


def test_the_candidate_with_the_lowest_value_counts() -> None:
    case, truth = observe(ONE_IMAGE)
    watch = against.Watch(case.model, truth.images, budget=60)
    private = case.model.normalise(truth.images)
    watch.see(2.0, torch.zeros_like(private))
    watch.see(1.0, private)
    watch.see(3.0, torch.zeros_like(private))
    watch.see(float("nan"), torch.zeros_like(private))
    assert watch.finished()["min_psnr"] >= against.PIXEL_EXACT


def test_a_run_ends_when_its_budget_is_spent_and_counts_its_evaluations() -> None:
    def prepare(name: str, case: Case, truth: GroundTruth) -> Callable[[against.Watch], None]:
        def attack(watch: against.Watch) -> None:
            while True:
                watch.see(1.0, torch.zeros(1, *case.image_shape))

        return attack

    found = against.run_theirs(prepare, "endless", ONE_IMAGE, budget=0.05)
    assert found["reason"] == "seconds"
    assert found["evaluations_per_second"] > 0
    assert found["reached"] == {"20": None, "30": None, "59": None}


def test_our_attacks_give_the_same_figures() -> None:
    found = against.run_ours("exact", Scenario(indices=(0,), label_strategy="true", device="cpu"), budget=20)
    assert found["min_psnr"] >= against.PIXEL_EXACT
    assert found["evaluations_per_second"] is None
    assert 0 < found["reached"]["20"] <= found["reached"]["30"] <= found["reached"]["59"] <= found["seconds"]


def test_each_iteration_of_adam_is_one_evaluation_of_our_objective() -> None:
    scenario = Scenario(indices=(0,), model="lenet", label_strategy="true", device="cpu", max_iterations=5)
    found = against.run_ours("general-deep-leakage", scenario, budget=60)
    assert found["evaluations_per_second"] * found["seconds"] == pytest.approx(6)  # the start, and five steps


@pytest.mark.parametrize("library", [against_breaching, against_leakpro])
def test_cells_name_settings_and_attacks_that_exist(library: object) -> None:
    cells: dict[str, tuple[str, ...]] = library.CELLS  # type: ignore[attr-defined]
    assert cells.keys() <= against.SETTINGS.keys()
    assert {name for names in cells.values() for name in names} <= library.PRESETS.keys()  # type: ignore[attr-defined]
