"""The command `attack`: one run, its report on stdout, its results as JSON and images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from deepleak_core.cli.output import not_written, require_file, require_folder, say, show_table, write_json
from deepleak_core.cli.progress import interruptible, progress_bar
from deepleak_core.cli.status import DONE, Failed, UnusableOption
from deepleak_core.errors import DeepLeakError, UnsupportedScenario
from deepleak_core.events import (
    TROUBLE,
    Downloading,
    Event,
    Finished,
    GroundTruthKnown,
    LabelsInferred,
    Prepared,
    Snapshot,
    Stage,
    in_private_order,
)
from deepleak_core.labels.wrong_labels import instead_of
from deepleak_core.runs import captured, export
from deepleak_core.runs import run as runs
from deepleak_core.scenario import Scenario

ENDED_EARLY = {"stopped": "Stopped before its end.", "seconds": "Ended by the time limit."}
Kind = TypeVar("Kind", bound=Event)


def attack(
    scenario: Scenario,
    *,
    weights: Path | None,
    update: Path | None,
    json_file: Path | None,
    folder: Path | None,
) -> int:
    """Run a scenario, or attack the update in two files; returns the exit status or raises what `main` makes one of."""
    require_file("--json", json_file)
    require_folder("--out", folder)
    if (weights is None) != (update is None):
        raise UnusableOption("--weights and --update belong together: give both files, or none of them.")
    if weights is not None and update is not None:
        case = captured.load(weights, update, scenario)
        scenario = captured.described(scenario, case)
        events = _watch(lambda stop: captured.run(case, scenario, stop=stop))
    else:
        events = _watch(lambda stop: runs.run(scenario, stop=stop))
    finished = _last(events, Finished)
    unwritten = _write(scenario, events, json_file, folder)
    if finished.reason in TROUBLE:
        raise Failed(finished.sentence)
    _report(events, finished)
    if unwritten:
        raise unwritten[0]
    return DONE


def _watch(run: Callable[[Callable[[], bool]], Iterator[Event]]) -> list[Event]:
    """All events of a run. An interrupt during a download ends it at once, later it stops the attack."""
    events: list[Event] = []
    with progress_bar() as bar, interruptible() as interrupted:
        try:
            for event in run(interrupted):
                events.append(event)
                bar.show_event(event)
                if isinstance(event, Downloading) and interrupted():
                    raise KeyboardInterrupt
        except UnsupportedScenario:
            raise
        except DeepLeakError as error:
            # A refusal before anything is prepared is about the options; later, the attack could not go on.
            if any(isinstance(event, Prepared) for event in events):
                raise Failed(str(error)) from error
            raise
    return events


def _write(scenario: Scenario, events: Sequence[Event], json_file: Path | None, folder: Path | None) -> list[Failed]:
    """Write the files asked for; returns the errors of those that could not be written, for after the report."""
    failed = []
    if json_file:
        try:
            write_json(json_file, export.summary(scenario, events))
        except Failed as error:
            failed.append(error)
    if folder:
        try:
            _write_images(folder, events)
        except OSError as error:
            failed.append(not_written("--out", folder, error))
    return failed


def _write_images(folder: Path, events: Sequence[Event]) -> None:
    """private-N.png, rebuilt-N.png, and sheet.png with both in pairs; without a ground truth, no private ones."""
    snapshot = _find(events, Snapshot)
    if snapshot is None:
        return
    names, truth, score = _last(events, Prepared).class_names, _find(events, GroundTruthKnown), snapshot.score
    rebuilt = in_private_order(snapshot.pictures(), score)
    labels = truth.labels if truth else in_private_order(snapshot.labels, score)
    captions = [names[label] for label in labels]
    if score:
        captions = [f"{caption} {psnr:.1f} dB" for caption, psnr in zip(captions, score.psnr, strict=True)]
    _write_all(folder, "private", truth.pictures if truth else ())
    _write_all(folder, "rebuilt", rebuilt)
    (folder / "sheet.png").write_bytes(export.sheet(truth.pictures if truth else None, rebuilt, captions))


def _write_all(folder: Path, name: str, images: Iterable[bytes]) -> None:
    for i, image in enumerate(images):
        (folder / f"{name}-{i}.png").write_bytes(image)


def _report(events: Sequence[Event], finished: Finished) -> None:
    """Print a line for each image, then the outcome in words."""
    prepared, inferred = _last(events, Prepared), _find(events, LabelsInferred)
    _show_images(events, finished, prepared)
    say(f"Target model: {prepared.model_title}, {prepared.stage_note}.")
    if inferred is not None:
        _report_labels(inferred, prepared.class_names)
    for event in events:
        if isinstance(event, Stage) and event.remark:
            say(f"{event.name} after {event.seconds:.1f} s: {event.sentence}")
    if finished.score is not None and finished.score.fusion is not None:
        say(
            f"Fusion index: {finished.score.fusion:.2f}, the share of images with a common label that are closer to "
            "the mean of their class than to any single image."
        )
    if finished.reason in ENDED_EARLY:
        say(ENDED_EARLY[finished.reason])
    say(finished.sentence)


def _show_images(events: Sequence[Event], finished: Finished, prepared: Prepared) -> None:
    """A table with a row for each image, in the order of the private batch where that is known."""
    names, truth, snapshot = prepared.class_names, _find(events, GroundTruthKnown), _find(events, Snapshot)
    title = f"{finished.step} iterations in {finished.seconds:.1f} s on {prepared.device}"
    assumed = [names[label] for label in in_private_order(snapshot.labels, snapshot.score)] if snapshot else []
    if truth is None or finished.score is None:
        rows = [(str(i), name) for i, name in enumerate(assumed)]
        return show_table(title, ("image", "attacked as"), rows)
    score = finished.score
    columns = zip(truth.labels, assumed, score.psnr, score.ssim, score.max_error_8bit, score.outcomes, strict=True)
    scored = [
        (names[true], name, f"{psnr:.1f}", f"{ssim:.3f}", str(error), verdict)
        for true, name, psnr, ssim, error, verdict in columns
    ]
    show_table(title, ("private image", "attacked as", "PSNR dB", "SSIM", "largest 8-bit error", "verdict"), scored)
    ssim = sum(score.ssim) / len(score.ssim)
    baselines = f"A flat grey image would score {score.grey_psnr:.1f} dB, random noise {score.noise_psnr:.1f}."
    say(f"On average {score.mean_psnr:.1f} dB and SSIM {ssim:.2f}. {baselines}")


def _report_labels(inferred: LabelsInferred, names: Sequence[str]) -> None:
    right = ""
    if inferred.score is not None:
        right = "all right, " if inferred.score.true_counts == inferred.counts else "not all right, "
    say(f"Labels by {inferred.strategy}: {right}{inferred.seconds:.2g} s.")
    if inferred.falsified:
        changed = instead_of(inferred.found, inferred.order, names)
        say(f"Made wrong on purpose: {len(inferred.falsified)} of them, {changed}.")


def _find(events: Sequence[Event], kind: type[Kind]) -> Kind | None:
    """The last event of a class, None without one."""
    return next((event for event in reversed(events) if isinstance(event, kind)), None)


def _last(events: Sequence[Event], kind: type[Kind]) -> Kind:
    """The last event of a class that every ended run has."""
    found = _find(events, kind)
    assert found is not None
    return found
