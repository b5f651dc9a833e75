"""The command `labels`: every label strategy on the same batches, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from deepleak_core.cli.output import require_file, show_table, write_json
from deepleak_core.cli.progress import interruptible, progress_bar
from deepleak_core.cli.status import DONE, Failed
from deepleak_core.data import datasets
from deepleak_core.federated.preparation import prepare
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.runs import checks
from deepleak_core.scenario import Scenario
from deepleak_core.studies.label_accuracy import LabelScore, LabelTrial, label_scores, label_trials


def labels(scenario: Scenario, *, repeats: int, json_file: Path | None) -> int:
    """Infer labels on `repeats` batches, fewer when interrupted; returns the exit status."""
    require_file("--json", json_file)
    trials = _trials(scenario, repeats)
    batches = len(trials) // len(STRATEGIES)
    scores = label_scores(trials)
    failed = None
    if json_file:
        values = {name: asdict(score) for name, score in scores.items()}
        try:
            write_json(
                json_file, {"scenario": scenario.model_dump(mode="json"), "repeats": batches, "strategies": values}
            )
        except Failed as error:
            failed = error
    _show(scores, scenario, batches)
    if failed:
        raise failed
    return DONE


def _trials(scenario: Scenario, repeats: int) -> Sequence[LabelTrial]:
    """The trials of whole batches, on which every strategy has answered."""
    trials: list[LabelTrial] = []
    with progress_bar() as bar, interruptible() as interrupted:
        checks.check(scenario)
        for event in prepare(scenario):
            bar.show_event(event)
            if interrupted():
                raise KeyboardInterrupt
        for trial in label_trials(scenario, repeats=repeats, stop=interrupted):
            if interrupted():  # this trial may have been cut short
                break
            trials.append(trial)
            bar.show("inferring labels", len(trials) / (repeats * len(STRATEGIES)))
    whole = trials[: len(trials) // len(STRATEGIES) * len(STRATEGIES)]
    if not whole:
        raise KeyboardInterrupt
    return whole


def _show(scores: dict[str, LabelScore], scenario: Scenario, batches: int) -> None:
    rows = [
        (
            name,
            *(f"{rate:.1%}" for rate in (s.exact_rate, s.instance_accuracy, s.presence_accuracy, s.proven_rate)),
            f"{s.seconds:.2g} s",
        )
        for name, s in scores.items()
    ]
    heads = ("strategy", "whole batch right", "labels right", "presence right", "certified", "time a batch")
    images, classes = scenario.batch_size, len(datasets.names_of_classes(scenario))
    title = (
        f"Label inference, {scenario.mode}, {scenario.model} {scenario.stage}: "
        f"{batches} batch{'es' * (batches > 1)} of {images} image{'s' * (images > 1)}, {classes} classes"
    )
    show_table(title, heads, rows)
