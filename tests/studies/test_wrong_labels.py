"""The map of every wrong label: against direct runs, recorded ones, and the tasks that compute it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from deepleak_core.data.batches import labels_of_batch
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.events import Event, WrongLabelTried, from_message, to_message
from deepleak_core.runs.run import run
from deepleak_core.scenario import Scenario
from deepleak_core.studies import comparisons, wrong_labels
from deepleak_core.studies.wrong_labels import CORRECT, WrongLabelMap, WrongLabelRow
from tests.helpers import all_of, end_of

WELCOME = Scenario(indices=(0, 1, 3, 4))
SHORT = Scenario(indices=(0, 4), max_iterations=3)


def tried(events: list[Event]) -> dict[str, WrongLabelTried]:
    return {one.swap: one for one in all_of(WrongLabelTried, events)}


def test_a_map_has_the_outcomes_of_direct_runs() -> None:
    empty = wrong_labels.empty_map(SHORT)
    correct, row, _ = wrong_labels.rows_of(empty)
    found = replace(empty, tried=tried([*correct.run(), *replace(row, swaps=row.swaps[:2]).run()]))
    assert list(found.tried) == [CORRECT, "cat>airplane", "cat>automobile"]
    for swap, one in found.tried.items():
        end = end_of(list(run(SHORT.changed(mislabel=(swap,) if swap else None))))
        assert end.score is not None
        assert one.psnr == pytest.approx(end.score.psnr, abs=0.01)
        assert one.outcomes == end.score.outcomes
        assert one.residual == end.residual
        assert from_message(to_message(one)) == one
    loss = found.loss("cat>airplane")
    assert loss == found.tried[CORRECT].mean_psnr - found.tried["cat>airplane"].mean_psnr
    assert found.loss("cat>bird") is None
    assert found.worst == (), "as long as cells are missing"


def test_a_map_has_every_other_class_for_every_label_once() -> None:
    found = wrong_labels.empty_map(Scenario(indices=(4, 5, 0)))  # two frogs and a cat
    assert [found.class_names[label] for label in found.labels] == ["frog", "cat"]
    assert len(set(found.swaps)) == 2 * 9
    assert found.swap(found.labels[0], found.labels[0]) == CORRECT
    assert [len(row.swaps) for row in wrong_labels.rows_of(found)] == [1, 9, 9]


def test_the_attack_of_a_map_has_correct_labels_and_few_iterations() -> None:
    base = wrong_labels.base_of(SHORT.changed(wrong_labels=1, repair_labels=True, max_seconds=9))
    assert base == SHORT
    assert wrong_labels.base_of(WELCOME).max_iterations == wrong_labels.ITERATIONS


def test_too_many_attacks_are_refused_in_a_sentence() -> None:
    with pytest.raises(UnsupportedScenario, match="attacks"):
        wrong_labels.empty_map(Scenario(batch_size=14, composition="random", dataset="cifar100-samples"))


def test_rows_of_equal_maps_have_equal_keys() -> None:
    rows = wrong_labels.rows_of(wrong_labels.empty_map(SHORT))
    again = wrong_labels.rows_of(wrong_labels.empty_map(SHORT.changed(mislabel=("cat>dog",))))
    assert [row.key for row in rows] == [row.key for row in again]
    assert len({row.key for row in rows}) == len(rows)
    assert all(len(row.key) <= 64 for row in rows)


def test_a_row_is_stopped_between_iterations() -> None:
    assert list(WrongLabelRow(scenario=WELCOME, swaps=(CORRECT,)).run(lambda: True)) == []


def test_a_row_of_an_impossible_swap_is_refused() -> None:
    with pytest.raises(UnsupportedScenario, match="truck"):
        WrongLabelRow(scenario=SHORT, swaps=("truck>cat",)).check()


# -------------------------------------------------------------------------------------------------- recorded maps


@pytest.fixture(scope="module")
def recorded() -> WrongLabelMap:
    found = wrong_labels.recorded(WELCOME)
    assert found is not None
    return found


def test_the_first_batch_has_a_whole_recorded_map(recorded: WrongLabelMap) -> None:
    assert recorded.labels == tuple(labels_of_batch(WELCOME))
    assert set(recorded.tried) == {CORRECT, *recorded.swaps}
    assert recorded.worst
    largest = max(loss for swap in recorded.swaps if (loss := recorded.loss(swap)) is not None)
    assert all(recorded.loss(swap) == pytest.approx(largest, abs=wrong_labels.SAME_DB) for swap in recorded.worst)
    assert recorded.expected == comparisons.worst_swap(recorded.scenario)
    assert wrong_labels.from_values(wrong_labels.to_values(recorded)) == recorded


def test_every_way_to_ask_for_the_first_batch_finds_its_map(recorded: WrongLabelMap) -> None:
    for scenario in (
        WELCOME.changed(max_iterations=wrong_labels.ITERATIONS), WELCOME.changed(mislabel=("cat>dog",)),
        WELCOME.changed(device="cpu"),
    ):  # fmt: skip
        assert wrong_labels.recorded(scenario) is recorded
    for scenario in (WELCOME.changed(seed=1), WELCOME.changed(max_iterations=20), Scenario(indices=(0, 1))):
        assert wrong_labels.recorded(scenario) is None


@pytest.mark.slow
def test_a_recorded_cell_is_what_a_run_gives_now(recorded: WrongLabelMap) -> None:
    """Figures vary a little with the processor, so they are compared with a margin."""
    swap = recorded.worst[0]
    end = end_of(list(run(wrong_labels.scenario_with(recorded.scenario, swap))))
    assert end.score is not None
    assert end.score.mean_psnr == pytest.approx(recorded.tried[swap].mean_psnr, abs=1.5)
    assert end.residual == pytest.approx(recorded.tried[swap].residual, abs=0.05)


# ------------------------------------------------------------------------------------- the wrong label shown first


def test_the_wrong_label_shown_first_is_the_worst_of_the_map_or_by_the_rule(recorded: WrongLabelMap) -> None:
    assert wrong_labels.wrong_label_of(WELCOME) in recorded.worst
    assert wrong_labels.wrong_label_of(SHORT) == comparisons.worst_swap(SHORT)


def test_the_recorded_map_is_read_without_pytorch() -> None:
    code = (
        "import sys; from deepleak_core.scenario import Scenario; from deepleak_core.studies import wrong_labels; "
        "wrong_labels.wrong_label_of(Scenario(indices=(0, 1, 3, 4))); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
