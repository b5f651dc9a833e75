"""Columns of a comparison: private images, reconstructions, gauges.

A column shows a `Side`: one run at the moment shown, or its scenario before it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deepleak_core.errors import DeepLeakError
from deepleak_core.runs.recording import RecordedRun
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import Scenario
from ui import messages, records, tracks
from ui.means import true_means
from ui.player import Note, Still, Track
from ui.player.parts import Asides


@dataclass(frozen=True)
class Side:
    """One run of a comparison, None before it is started, or a recording.

    `leader` is the first run of its group that has not ended, which knows what all of them wait for. `together` is
    whether every run of the group has pictures: shown alone, a run would look like the faster one.
    """

    scenario: Scenario
    run: RunRecord | None = None
    leader: RunRecord | None = None
    together: bool = True
    recorded: RecordedRun | None = None

    @property
    def facts(self) -> records.Facts:
        """The facts of the run, none before it."""
        if self.recorded is not None:
            run = self.recorded
            return records.Facts(run.prepared, run.truth, run.shared, run.inferred)
        return records.facts_of(self.run) if self.run else records.Facts()


def sides_of(runs: Sequence[RunRecord]) -> tuple[Side, ...]:
    """The runs of a group."""
    together = all(run.snapshots or not run.under_way for run in runs)
    leader = next((run for run in runs if run.under_way), runs[0])
    return tuple(Side(run.scenario, run, leader, together) for run in runs)


def private(
    title: str,
    side: Side,
    *,
    choices: Sequence[str] = (),
    shown: Sequence[str] = (),
    weight: float = 1,
) -> Still | Note:
    """The private images of a scenario, whether it has run or not.

    `shown` are labels to write below them instead of the true ones; those that differ are marked as wrong. With
    `choices` each label is a menu.
    """
    try:
        images, labels = records.private_batch(side.scenario)
    except DeepLeakError as error:
        return Note(title=title, html=messages.note(str(error)), weight=weight)
    captions = tuple(shown) or labels
    wrong = tuple(a != b for a, b in zip(captions, labels, strict=True))
    return Still(
        title=title, pictures=images, captions=captions, wrong=wrong, choices=tuple(choices), weight=weight,
    )  # fmt: skip


def attacked(
    title: str,
    side: Side,
    *,
    name: str,
    asides: Asides = "none",
    against: str = "",
    average: bool = False,
    gauge: bool = False,
    weight: float = 1,
) -> Track:
    """What an attack has reconstructed; `name` is that of its curve, `asides` are small words below its pictures."""
    return tracks.track(
        title, side.run, name=name, count=side.scenario.batch_size, leader=side.leader, together=side.together,
        recorded=side.recorded, asides=asides, against=against, average=average, gauge=gauge, weight=weight,
    )  # fmt: skip


def means(side: Side) -> tuple[Still, ...]:
    """The mean image of each class that repeats in the batch, hidden before the run has begun; none without repeats."""
    try:
        _, labels = records.private_batch(side.scenario)
    except DeepLeakError:
        return ()
    truth, prepared = side.facts.truth, side.facts.prepared
    return true_means(labels, truth if prepared else None, prepared.class_names if prepared else ())
