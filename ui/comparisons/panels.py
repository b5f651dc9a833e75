"""Panels of a comparison: private images, reconstructions, labels, means of a class.

A panel shows a `Side`: one run at the moment shown, or its scenario before it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from deepleak_core.errors import DeepLeakError
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import Scenario
from deepleak_core.studies import comparisons
from ui import pictures, pieces, records, server_view
from ui.pieces import Panel
from ui.records import Frame
from ui.rendering import NOTHING, joined, render

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Side:
    """One run of a comparison; `leader` is the first run of its group, which knows what all of them wait for."""

    scenario: Scenario
    run: RunRecord | None = None
    frame: Frame | None = None
    leader: RunRecord | None = None

    @property
    def facts(self) -> records.Facts:
        """The facts of the run, none before it."""
        return records.facts_of(self.run) if self.run else records.Facts()


def side_of(run: RunRecord) -> Side:
    """A run at its last moment."""
    return Side(run.scenario, run, records.frame_of(run), run)


def private(title: str, side: Side, *, above: Markup = NOTHING, weight: int = 1) -> Panel:
    """The private images of a scenario, whether it has run or not."""
    try:
        images, labels = records.private_batch(side.scenario)
    except DeepLeakError as error:
        return Panel(title, pieces.note(str(error)), weight)
    return Panel(title, joined([above, pieces.no_progress(), pictures.originals(images, labels)]), weight)


def attacked(
    title: str,
    side: Side,
    *,
    asides: Sequence[str] = (),
    above: Markup = NOTHING,
    below: Markup = NOTHING,
    weight: int = 1,
) -> Panel:
    """What an attack has reconstructed and how far it is; `asides` are small words below its pictures."""
    if side.frame is None:
        grid = pictures.nothing_rebuilt(side.scenario.batch_size)
        return Panel(title, joined([above, _no_pictures(side), grid, below]), weight)
    frame, moment = side.frame, side.frame.moment
    done = moment.progress if side.run and side.run.under_way else 1.0
    residual = pieces.not_matched(moment.residual)
    words = f"{frame.score.mean_psnr:.1f} dB, {residual}" if frame.score else residual
    bar = pieces.progress(done, f"{moment.seconds:.1f} s", words, hint=pieces.residual_hint(side.scenario.mode))
    grid = pictures.rebuilt(frame.pictures, frame.titles, frame.psnr, frame.wrong, frame.outcomes, asides)
    return Panel(title, joined([above, bar, grid, below]), weight)


def _no_pictures(side: Side) -> Markup:
    """Why there are no pictures."""
    if side.run is None or side.leader is None:
        return pieces.progress(0, "")
    if side.run.under_way:
        return pieces.progress(*records.why_waiting(side.leader))
    return pieces.progress(0, "Ended before its first picture")


def changes(before: Side, after: Side) -> list[str]:
    """What each picture gains or loses against another run, in dB; none while either has no score."""
    if not (before.frame and after.frame and before.frame.psnr and after.frame.psnr):
        return []
    pairs = zip(before.frame.psnr, after.frame.psnr, strict=True)
    return [f"{b - a:+.1f} dB".replace("-", MINUS) for a, b in pairs]


def to_mean(side: Side) -> list[str]:
    """How close each picture is to the mean of its class, where the class has other images in the batch."""
    frame, truth = side.frame, side.facts.truth
    if frame is None or frame.score is None or truth is None or not frame.score.psnr_to_mean:
        return []
    repeated = [truth.labels.count(label) > 1 for label in truth.labels]
    return [f"to mean {psnr:.1f}" if r else "" for psnr, r in zip(frame.score.psnr_to_mean, repeated, strict=True)]


def similarity(side: Side) -> list[str]:
    """SSIM of each picture that a run ended with; none for earlier ones."""
    return [f"SSIM {ssim:.2f}" for ssim in side.frame.end.ssim] if side.frame and side.frame.end else []


def means(side: Side) -> Markup:
    """The mean image of each class that repeats in a run's batch, large."""
    facts = side.facts
    if facts.truth is None or facts.prepared is None:
        return NOTHING
    found = comparisons.mean_pictures(facts.truth, facts.prepared.class_names)
    return joined(pictures.mean(*each) for each in found)


def true_labels(side: Side) -> Markup:
    """The labels of the private images in one line."""
    counts = records.true_counts_of(side.facts)
    return _label_line(_names(side, counts or ()))


def inferred_labels(side: Side) -> Markup:
    """The labels that a run infers, in one line, and how many of them are correct."""
    inferred = side.facts.inferred
    if inferred is None:
        return _label_line([])
    right = comparisons.labels_right(inferred) if inferred.score else None
    return _label_line(_names(side, inferred.counts), right)


def _names(side: Side, counts: Sequence[int]) -> list[str]:
    return side.facts.names([label for label, count in enumerate(counts) for _ in range(count)])


def _label_line(names: Sequence[str], right: int | None = None) -> Markup:
    return render("label_line.html", labels=", ".join(names), right=right, total=len(names))


def stages(side: Side) -> Markup:
    """What the attack of a run did, stage by stage."""
    return server_view.stages(records.stages_of(side.run.id)) if side.run else NOTHING
