"""The command `labels`: its table and its JSON, whole batches only."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.scenario import Scenario
from deepleak_core.studies import label_accuracy


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_json_of_labels(command: Callable[..., Any], tmp_path: Path, repeats: int) -> None:
    arguments = ["--model", "lenet", "--composition", "pair", "--repeats", str(repeats)]
    ended = command("labels", *arguments, "--json", str(tmp_path / "out.json"))
    assert ended.status == 0
    assert ended.err == ""
    values = json.loads((tmp_path / "out.json").read_text())
    assert list(values) == ["scenario", "repeats", "strategies"]
    assert Scenario(**values["scenario"]) == Scenario(model="lenet", composition="pair")
    assert values["repeats"] == repeats
    assert list(values["strategies"]) == list(STRATEGIES)
    keys = ["exact_rate", "instance_accuracy", "presence_accuracy", "proven_rate", "wrongly_proven", "seconds"]
    assert all(list(score) == keys for score in values["strategies"].values())
    zero_shot = values["strategies"]["zero-shot"]
    assert zero_shot["exact_rate"] == zero_shot["instance_accuracy"] == zero_shot["presence_accuracy"] == 1
    assert values["strategies"]["gradinversion"]["exact_rate"] == 0, "it believes that no label repeats"
    assert all(name in ended.out for name in STRATEGIES)
    of = f"{repeats} batch{'es' if repeats > 1 else ''} of 4 images, 10 classes"
    assert f"Label inference, fedsgd, lenet untrained: {of}" in ended.out


@pytest.mark.parametrize("trials", [0, 1, len(STRATEGIES), len(STRATEGIES) + 1, 2 * len(STRATEGIES) - 1])
def test_an_interrupt_keeps_whole_batches_only(
    command: Callable[..., Any], tmp_path: Path, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while a strategy is at work, after so many trials: that strategy's answer may be cut short."""
    real = label_accuracy.label_trials

    def pressed(scenario: Scenario, **options: Any) -> Iterator[Any]:
        for number, trial in enumerate(real(scenario, **options)):
            if number == trials:
                signal.raise_signal(signal.SIGINT)
            yield trial

    monkeypatch.setattr("deepleak_core.cli.labels.label_trials", pressed)
    path = tmp_path / "out.json"
    arguments = ["--model", "lenet", "--composition", "random", "--json", str(path)]
    ended = command("labels", *arguments, "--repeats", "3")
    if trials < len(STRATEGIES):
        assert (ended.status, ended.out) == (1, "")
        assert ended.err.count("\n") == 1
        assert not path.exists()
        return
    assert ended.status == 0
    assert "1 batch of 4 images" in ended.out
    values = json.loads(path.read_text())
    monkeypatch.undo()
    assert command("labels", *arguments).status == 0
    alone = json.loads(path.read_text())
    for kept in (values, alone):
        for score in kept["strategies"].values():
            del score["seconds"]
    assert values == alone, "as if one batch had been asked for"


def test_results_that_cannot_be_written_are_still_shown(command: Callable[..., Any]) -> None:
    ended = command("labels", "--model", "lenet", "--json", "/dev/full")
    assert ended.status == 1
    assert "--json" in ended.err
    assert ended.err.count("\n") == 1
    assert all(name in ended.out for name in STRATEGIES)
