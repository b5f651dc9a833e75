"""What every possible wrong label costs: one attack for each label of a batch and each other class.

All attacks get the same update and the same number of iterations, `ITERATIONS` unless the scenario has fewer. The maps
of the batches that the app offers first are recorded (`benchmarks/wrong_label_map.py`); others are computed row by row
(`WrongLabelRow`). Importing this module does not import PyTorch.

>>> found = recorded(Scenario(indices=(0, 1, 3, 4)))
>>> len(found.swaps), wrong_label_of(found.scenario) in found.worst
(36, True)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.events import Event, Finished, WrongLabelTried
from deepleak_core.scenario import Scenario
from deepleak_core.text import split_list, swap_text

ITERATIONS = 200  # of every attack of a map: enough for photo quality with correct labels, and short
SAME_DB = 0.1  # difference of mean PSNR that is taken for none
MOST_CELLS = 120  # attacks of one map
RECORDED = Path(__file__).with_name("wrong_labels.json")
CORRECT = ""  # in place of a swap: all labels as they were inferred


@dataclass(frozen=True, kw_only=True)
class WrongLabelMap:
    """The outcomes so far, by swap such as "cat>dog", that with correct labels under `CORRECT`.

    `labels` are the classes of the batch in the order of its images, each once; they index `class_names`. `expected` is
    the swap that costs most by the rule of `comparisons.worst_swap`.
    """

    scenario: Scenario
    class_names: tuple[str, ...]
    labels: tuple[int, ...]
    expected: str
    tried: Mapping[str, WrongLabelTried]

    def swap(self, label: int, other: int) -> str:
        """The wrong label at a place of the map; empty for the true class.

        >>> names = ("cat", "dog")
        >>> WrongLabelMap(scenario=Scenario(), class_names=names, labels=(0,), expected="", tried={}).swap(0, 1)
        'cat>dog'
        """
        return swap_text(self.class_names[label], self.class_names[other]) if label != other else CORRECT

    @property
    def swaps(self) -> tuple[str, ...]:
        """Every wrong label that is possible, row by row."""
        return tuple(swap for label in self.labels for swap in self.row(label))

    def row(self, label: int) -> tuple[str, ...]:
        """Every wrong label in place of one class."""
        return tuple(self.swap(label, other) for other in range(len(self.class_names)) if other != label)

    def loss(self, swap: str) -> float | None:
        """By how many dB a wrong label lowers the mean PSNR; None while it is not known."""
        correct, wrong = self.tried.get(CORRECT), self.tried.get(swap)
        return None if correct is None or wrong is None else correct.mean_psnr - wrong.mean_psnr

    @property
    def worst(self) -> tuple[str, ...]:
        """The swaps with the largest loss, up to `SAME_DB`; none while any loss is missing."""
        losses = {swap: loss for swap in self.swaps if (loss := self.loss(swap)) is not None}
        if not losses or len(losses) < len(self.swaps):
            return ()
        return tuple(swap for swap, loss in losses.items() if loss > max(losses.values()) - SAME_DB)


def wrong_label_of(scenario: Scenario) -> str:
    """The wrong label that is shown first, such as "ship>deer".

    The one expected to cost most by the rule of `comparisons.worst_swap`, unless the recorded map knows a worse one.
    """
    found = recorded(scenario)
    if found is not None:
        return found.expected if found.expected in found.worst or not found.worst else found.worst[0]
    from deepleak_core.studies.comparisons import worst_swap  # imports PyTorch

    return worst_swap(scenario)


def base_of(scenario: Scenario) -> Scenario:
    """The attack of a map: the scenario with correct labels, after `ITERATIONS` or its own fewer ones.

    >>> base_of(Scenario(mislabel=("cat>dog",), max_iterations=400)) == Scenario(max_iterations=ITERATIONS)
    True
    """
    iterations = min(scenario.max_iterations or ITERATIONS, ITERATIONS)
    return scenario.changed(
        mislabel=None, wrong_labels=0, repair_labels=None, max_iterations=iterations, max_seconds=None
    )


# -------------------------------------------------------------------------------------------------- recorded maps


def recorded(scenario: Scenario) -> WrongLabelMap | None:
    """The recorded map of a scenario's batch and attack, None where there is none."""
    return _recorded().get(base_of(scenario).changed(device="auto"))


@cache
def _recorded() -> Mapping[Scenario, WrongLabelMap]:
    maps = [from_values(values) for values in json.loads(RECORDED.read_text())["maps"]]
    return {one.scenario: one for one in maps}


def to_values(found: WrongLabelMap) -> dict[str, Any]:
    """A map as plain values; `from_values` gives an equal one back."""
    return {
        "scenario": found.scenario.to_values(),
        "class_names": found.class_names,
        "labels": found.labels,
        "expected": found.expected,
        "tried": [vars(one) for one in found.tried.values()],
    }


def from_values(values: Mapping[str, Any]) -> WrongLabelMap:
    """The map that `to_values` was given."""
    tried = [
        WrongLabelTried(**{**one, "psnr": tuple(one["psnr"]), "outcomes": tuple(one["outcomes"])})
        for one in values["tried"]
    ]
    return WrongLabelMap(
        scenario=Scenario(**values["scenario"]),
        class_names=tuple(values["class_names"]),
        labels=tuple(values["labels"]),
        expected=values["expected"],
        tried={one.swap: one for one in tried},
    )


# ------------------------------------------------------------------------------------------------ computing a map


def empty_map(scenario: Scenario) -> WrongLabelMap:
    """The map of a scenario before any attack. Raises `UnsupportedScenario` where it would take too many."""
    from deepleak_core.data.batches import labels_of_batch
    from deepleak_core.data.datasets import names_of_classes
    from deepleak_core.studies.comparisons import worst_swap

    base = base_of(scenario)
    names, labels = names_of_classes(base), tuple(dict.fromkeys(labels_of_batch(base)))
    cells = len(labels) * (len(names) - 1)
    if cells > MOST_CELLS:
        raise UnsupportedScenario(
            [
                f"The map of every wrong label would take {cells} attacks ({len(labels)} labels, {len(names)} classes);"
                f" accepted are at most {MOST_CELLS}: make the batch smaller, or use a data set with fewer classes."
            ]
        )
    return WrongLabelMap(scenario=base, class_names=names, labels=labels, expected=worst_swap(base), tried={})


def rows_of(found: WrongLabelMap) -> tuple[WrongLabelRow, ...]:
    """The tasks that make a map: first the attack with correct labels, then one task for each label."""
    rows = map(found.row, found.labels)
    return tuple(WrongLabelRow(scenario=found.scenario, swaps=swaps) for swaps in ((CORRECT,), *rows))


@dataclass(frozen=True, kw_only=True)
class WrongLabelRow:
    """The attacks with each of `swaps` in place, one after the other: a task for the engine (`runs.tasks`)."""

    scenario: Scenario
    swaps: tuple[str, ...]
    urgency: int = 2

    @property
    def key(self) -> str:
        """64 hexadecimal digits, the same for equal rows."""
        return hashlib.sha256(json.dumps([self.scenario.to_json(), self.swaps]).encode()).hexdigest()

    def check(self) -> None:
        """Raise `UnsupportedScenario` where the scenario cannot run here."""
        from deepleak_core.runs.checks import check

        for swap in self.swaps:
            check(scenario_with(self.scenario, swap))

    def run(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """Yield one `WrongLabelTried` for each attack; `stop` is asked between iterations."""
        from deepleak_core.runs.run import run

        for swap in self.swaps:
            for event in run(scenario_with(self.scenario, swap), stop=stop):
                if stop():
                    return
                if isinstance(event, Finished):
                    yield tried(swap, event)


def scenario_with(scenario: Scenario, swap: str) -> Scenario:
    """The scenario with a label wrong, such as "cat>dog", or with all labels correct for `CORRECT`."""
    return scenario.changed(mislabel=(swap,) if swap else None)


def tried(swap: str, end: Finished) -> WrongLabelTried:
    """What an attack with this label wrong came to; scenarios always have a ground truth."""
    assert end.score is not None
    return WrongLabelTried(
        swap=swap,
        psnr=tuple(round(psnr, 2) for psnr in end.score.psnr),
        outcomes=end.score.outcomes,
        residual=end.residual,
    )


# -------------------------------------------------------------------------------------------------------- sentences


def in_words(swap: str) -> str:
    """A wrong label as words.

    >>> in_words("cat>dog")
    'cat mislabelled as dog'
    """
    return " mislabelled as ".join(split_list(swap, ">"))
