"""The command line: `python -m deepleak_core attack`, `labels`, `train` and `list`.

Every setting of a `Scenario` is an option of `attack` and `labels`, taken from its fields: a setting added there
is an option here. Progress goes to stderr, results to stdout and into the files asked for.

Exit status: 0 done; 2 unusable options, one line on stderr; 1 the attack itself failed, one line on stderr.
"""

from __future__ import annotations

import inspect
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import torch
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.data import datasets
from deepleak_core.errors import DeepLeakError, TrainingDiverged
from deepleak_core.events import (
    LABELS_CHANGED,
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
from deepleak_core.federated import checkpoints, models, training
from deepleak_core.labels import wrong_labels
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.runs import export
from deepleak_core.runs.checks import check
from deepleak_core.runs.run import run
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario
from deepleak_core.studies import label_accuracy as evaluation

DONE, FAILED, UNUSABLE = 0, 1, 2

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Gradient leakage in federated learning: what a client's update tells about its private images.",
)
EventKind = TypeVar("EventKind")
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the results here, as JSON")]


class UnusableOption(DeepLeakError):
    """An option of the command itself that cannot work."""


class Failed(DeepLeakError):
    """The work itself went wrong, though the options were fine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status; without `arguments`, those of the process."""
    try:
        torch.set_num_threads(cpu_threads())
        return app(arguments, standalone_mode=False) or DONE
    except typer.TyperException as error:
        return _refuse(f"{error.format_message().rstrip('.')}. See python -m deepleak_core --help.", UNUSABLE)
    except Failed as error:
        return _refuse(str(error), FAILED)
    except DeepLeakError as error:
        return _refuse(str(error), UNUSABLE)
    except Exception as error:
        return _refuse(f"The work failed with {type(error).__name__}: {error}", FAILED)


def _refuse(sentence: str, status: int) -> int:
    """One line on stderr, whatever line breaks the sentence has."""
    typer.echo(" ".join(sentence.split()), err=True)
    return status


# ------------------------------------------------------------------------------------- options from Scenario


def takes_scenario(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command, whose first parameter is a scenario, an option for each setting in its place.

    Values are passed on as text: `Scenario` validates them and says in one sentence what it expected.
    """

    def with_options(**options: Any) -> int:
        settings = {name: options.pop(name) for name in Scenario.model_fields}
        scenario = Scenario(**{name: value for name, value in settings.items() if value is not None})
        try:
            return command(scenario, **options)
        except KeyboardInterrupt as interrupt:
            raise Failed("Stopped before there was a result.") from interrupt

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    with_options.__signature__ = inspect.Signature([*map(_option, Scenario.model_fields), *own])  # type: ignore[attr-defined]
    with_options.__annotations__ = {}
    with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
    return with_options


def _option(name: str) -> inspect.Parameter:
    """The option of one setting: its name, its words and its default are the field's own."""
    field = Scenario.model_fields[name]
    flag = "--" + name.replace("_", "-")
    words = f"{field.description}" + ("" if field.default is None else f" (default: {str(field.default).lower()})")
    is_flag = field.annotation in (bool, bool | None)
    kind: Any = bool | None if is_flag else str | None
    if is_flag:
        option = typer.Option(f"{flag}/--no-{flag[2:]}", help=words)
    else:
        metavar = "|".join(_choices(field.annotation)) or name.rpartition("_")[2].upper()
        option = typer.Option(flag, metavar=metavar, help=words)
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=Annotated[kind, option]
    )


def _choices(annotation: Any) -> list[str]:
    """The words a Literal accepts, however it is wrapped."""
    parts = get_args(annotation)
    return [p for part in parts for p in ([part] if isinstance(part, str) else _choices(part))]


# ------------------------------------------------------------------------------------------------- commands


@app.command()
@takes_scenario
def attack(
    scenario: Scenario,
    json: JsonFile = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write private and rebuilt pictures here, as PNG")
    ] = None,
) -> int:
    """Rebuild a private batch from the update its client shares."""
    _make_room(json, out)
    events: list[Event] = []
    with _progress() as (progress, task), _interruptible() as interrupted:
        try:
            for event in run(scenario, stop=interrupted):
                events.append(event)
                _show(event, progress, task, interrupted)
        except DeepLeakError as error:
            # A refusal before anything was prepared is about the options; later, the attack could not go on.
            if any(isinstance(event, Prepared) for event in events):
                raise Failed(str(error)) from error
            raise
    if json:
        _write_json(json, export.summary(scenario, events))
    if out:
        _write_pictures(out, events)
    finished = _last(events, Finished)
    if finished.reason in TROUBLE:
        raise Failed(finished.sentence)
    _report(events, finished)
    return DONE


@app.command()
@takes_scenario
def labels(
    scenario: Scenario,
    repeats: Annotated[
        int, typer.Option(min=1, metavar="N", help="batches to draw (default: 1)", show_default=False)
    ] = 1,
    json: JsonFile = None,
) -> int:
    """Infer only the labels, by every strategy; settings of the attack itself change nothing here."""
    _make_room(json, None)
    trials: list[evaluation.LabelTrial] = []
    with _progress() as (progress, task), _interruptible() as interrupted:
        check(scenario)
        for event in datasets.prepare(scenario):
            _show(event, progress, task, interrupted)
        for trial in evaluation.label_trials(scenario, repeats=repeats):
            trials.append(trial)
            progress.update(task, description="inferring labels", completed=len(trials) / (repeats * len(STRATEGIES)))
            if interrupted():
                break
    scores = evaluation.label_scores(trials)
    drawn = len(trials) // len(scores)
    if json:
        values = {name: asdict(score) for name, score in scores.items()}
        _write_json(json, {"scenario": scenario.model_dump(mode="json"), "repeats": drawn, "strategies": values})
    _print_scores(scores, scenario, batches=drawn)
    return DONE


@app.command()
def train(
    data: Annotated[Path, typer.Option(metavar="DIR", help="folder with train/ and test/, each of class folders")],
    model: Annotated[str, typer.Option(metavar="MODEL", help="target model")] = "lenet64-elu",
    dataset: Annotated[str, typer.Option(metavar="DATASET", help="its classes are learned")] = "cifar10-samples",
    stages: Annotated[str, typer.Option(metavar="NAME=EPOCHS,...", help="stages to save")] = "early=0.25,late=5",
    batch_size: Annotated[int, typer.Option(metavar="SIZE", help="images in a mini-batch")] = 64,
    learning_rate: Annotated[float, typer.Option(metavar="RATE", help="at the start; it falls to zero")] = 0.05,
    image_size: Annotated[int, typer.Option(metavar="SIZE", help="height and width in pixels")] = 32,
    limit: Annotated[int | None, typer.Option(metavar="N", help="take only N images to train on and to test")] = None,
    seed: Annotated[int, typer.Option(metavar="SEED", help="everything random follows from it")] = 0,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:N")] = "auto",
    out: Annotated[Path, typer.Option(metavar="DIR", help="where checkpoints go")] = checkpoints.CHECKPOINTS,
) -> int:
    """Train a target model and keep its training stages, to be attacked as --stage NAME."""
    story = training.train(
        model, data=data, stages=_epochs(stages), dataset=dataset, batch_size=batch_size, learning_rate=learning_rate,
        image_size=image_size, limit=limit, seed=seed, device=device, out=out,
    )  # fmt: skip
    with _progress() as (progress, task), _interruptible() as interrupted:
        try:
            for told in story:
                _show_training(told, progress, task)
                if interrupted():
                    raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise Failed("Stopped before the last stage; what was saved until then is kept.") from interrupt
        except TrainingDiverged as error:
            raise Failed(str(error)) from error
    return DONE


def _epochs(stages: str) -> dict[str, float]:
    """The epochs of each stage, from "early=0.25,late=5"."""
    pairs = [part.split("=") for part in stages.split(",")]
    try:
        epochs = {name.strip(): float(number) for name, number in pairs}
    except ValueError:
        epochs = {}
    if len(epochs) != len(pairs):
        raise UnusableOption(
            f"--stages was {stages!r}; accepted are different names with their epochs, such as early=0.25,late=5."
        )
    return epochs


def _show_training(told: training.Progress, progress: Progress, task: TaskID) -> None:
    """Bring the progress bar up to date, and a line to stdout for each checkpoint."""
    if isinstance(told, training.Reading):
        progress.update(task, description=f"reading {told.folder}", completed=told.done)
    elif isinstance(told, training.Step):
        state = f"epoch {told.epoch:.2f}, loss {told.loss:.3f}"
        progress.update(task, description="training", completed=told.done, state=state)
    else:
        print(f"{told.checkpoint}: {checkpoints.describe(told.checkpoint)}", flush=True)


@app.command("list")
def list_() -> int:
    """Data sets, target models with their training stages, attack presets, label strategies."""
    vocabularies = sorted({dataset.vocabulary for dataset in datasets.DATASETS.values()})
    _print_table(
        "Data sets (--dataset)",
        ("name", "classes", "offline", "what it is"),
        [
            (name, str(len(d.class_names) or "its folders"), "yes" if d.bundled else "", d.summary)
            for name, d in datasets.DATASETS.items()
        ],
    )
    _print_table(
        "Target models (--model, --stage)",
        ("name", "stages", "what it is", "source"),
        [(name, _stages(name, vocabularies), m.summary, m.source) for name, m in models.MODELS.items()],
    )
    _print_table(
        "Attack presets (--attack)",
        ("name", "labels by", "what it does", "source"),
        [(name, p.label_strategy, p.summary, p.source) for name, p in ATTACKS.items()],
    )
    _print_table(
        "Label strategies (--label-strategy)",
        ("name", "what it does", "source"),
        [(name, s.summary, s.source) for name, s in STRATEGIES.items()]
        + [("true", "No inference: the true labels are handed to the attack.", "")],
    )
    return DONE


def _stages(model: str, vocabularies: Sequence[str]) -> str:
    """Every training stage of a model, a line each, with the classes and the training behind it."""
    lines = ["untrained"]
    for vocabulary in vocabularies:
        for stage, checkpoint in checkpoints.stages(model, vocabulary).items():
            lines += [f"{checkpoints.note(stage, checkpoint)} ({vocabulary})"] if checkpoint else []
    return "\n".join(lines)


# ------------------------------------------------------------------------------------ progress and interrupts


@contextmanager
def _progress() -> Iterator[tuple[Progress, TaskID]]:
    """A progress bar on stderr while the work goes on; none where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[state]}"))
    shared = sys.stdout.isatty()  # lines that are printed meanwhile go above the bar; into a file, past it
    off = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=off, redirect_stdout=shared) as progress:
        yield progress, progress.add_task("preparing", total=1.0, state="")


def _show(event: Event, progress: Progress, task: TaskID, interrupted: Callable[[], bool]) -> None:
    """Bring the progress bar up to date; a download is where an interrupt ends the work at once."""
    if isinstance(event, Downloading):
        if interrupted():
            raise KeyboardInterrupt
        done = event.bytes_done / event.bytes_total if event.bytes_total else None
        state = f"{event.bytes_done / 1e6:.0f} MB"
        progress.update(task, description=f"downloading {event.dataset}", completed=done, state=state)
    elif isinstance(event, Snapshot):
        quality = f"{event.score.mean_psnr:.1f} dB, " if event.score else ""
        state = f"iteration {event.step}, {quality}residual {event.residual:.2g}"
        progress.update(task, description="rebuilding", completed=event.progress, state=state)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks the work to stop and to keep what there is; a second one ends it at once.

    Yields the question whether it was pressed.
    """
    pressed = False

    def press(*_: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


# ---------------------------------------------------------------------------------------------------- output


def _make_room(json_file: Path | None, folder: Path | None) -> None:
    """Create the folders results go to, so that a bad path is refused before the work and not after it."""
    try:
        if json_file:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            if json_file.is_dir():
                raise UnusableOption(f"--json was {str(json_file)!r}, which is a folder; name a file in it.")
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        given = f"--out was {str(folder)!r}" if folder else f"--json was {str(json_file)!r}"
        raise UnusableOption(f"{given}; its folder cannot be made ({error.strerror}); name another.") from error


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n")
    _print(f"Written to {path}.")


def _write_pictures(folder: Path, events: Sequence[Event]) -> None:
    """rebuilt-N.png, and where the private images are known private-N.png and sheet.png with both in pairs."""
    prepared, snapshot = _last(events, Prepared), _last(events, Snapshot)
    rebuilt = in_private_order(snapshot.pictures(), snapshot.score)
    for i, picture in enumerate(rebuilt):
        (folder / f"rebuilt-{i}.png").write_bytes(picture)
    truth = next((event for event in events if isinstance(event, GroundTruthKnown)), None)
    if truth is None or snapshot.score is None:
        return
    for i, picture in enumerate(truth.pictures):
        (folder / f"private-{i}.png").write_bytes(picture)
    captions = [
        f"{prepared.class_names[label]} {psnr:.1f} dB"
        for label, psnr in zip(truth.labels, snapshot.score.psnr, strict=True)
    ]
    (folder / "sheet.png").write_bytes(export.sheet(truth.pictures, rebuilt, captions))


def _report(events: Sequence[Event], finished: Finished) -> None:
    """A line for each image, then the outcome in words."""
    prepared, inferred, snapshot = _last(events, Prepared), _last(events, LabelsInferred), _last(events, Snapshot)
    truth = next((event for event in events if isinstance(event, GroundTruthKnown)), None)
    names, score = prepared.class_names, finished.score
    title = f"{finished.step} iterations in {finished.seconds:.1f} s on {prepared.device}"
    if truth is not None and score is not None:
        believed = in_private_order(snapshot.labels, snapshot.score)
        rows = [
            (names[true], names[label], f"{psnr:.1f}", f"{ssim:.3f}", str(error))
            for true, label, psnr, ssim, error in zip(
                truth.labels, believed, score.psnr, score.ssim, score.max_error_8bit, strict=True
            )
        ]
        _print_table(title, ("private image", "attacked as", "PSNR dB", "SSIM", "largest 8-bit error"), rows)
    else:
        _print_table(title, ("attacked as",), [(names[label],) for label in snapshot.labels])
    _print(f"Target model: {prepared.model_title}, {prepared.stage_note}.")
    verdict = "" if inferred.score is None else ": all correct" if inferred.score.exact else ": not all correct"
    _print(f"Labels by {inferred.strategy}{verdict}, {inferred.seconds:.2g} s.")
    if inferred.falsified:
        swapped = wrong_labels.instead_of(inferred.found, inferred.order, names)
        _print(f"Made wrong on purpose: {len(inferred.falsified)} of them, {swapped}.")
    for event in events:
        if isinstance(event, Stage) and event.name in (LABELS_CHANGED, "Assumption"):
            _print(f"{event.name} after {event.seconds:.1f} s: {event.sentence}")
    if score is not None and score.fusion is not None:
        _print(
            f"Fusion index: {score.fusion:.2f}, the share of results with a common label that are closer to the mean "
            "of their class than to their own image."
        )
    _print(finished.sentence)


def _print_scores(scores: dict[str, evaluation.LabelScore], scenario: Scenario, *, batches: int) -> None:
    rows = [
        (
            name,
            *(f"{rate:.1%}" for rate in (s.exact_rate, s.instance_accuracy, s.presence_accuracy, s.proven_rate)),
            f"{s.seconds:.2g} s",
        )
        for name, s in scores.items()
    ]
    heads = ("strategy", "whole batch right", "labels right", "presence right", "proven", "time a batch")
    images, classes = scenario.batch_size, len(datasets.names_of_classes(scenario))
    title = (
        f"Label inference, {scenario.mode}, {scenario.model} {scenario.stage}: "
        f"{batches} batch{'es' * (batches > 1)} of {images} image{'s' * (images > 1)}, {classes} classes"
    )
    _print_table(title, heads, rows)


def _print_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*heads, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    table.columns[0].overflow = "fold"  # a name that is cut short could not be typed back
    for row in rows:
        table.add_row(*row)
    _print(table)


def _print(what: Table | str) -> None:
    """To stdout as it is: names of classes may hold what rich would read as markup."""
    Console(markup=False, highlight=False).print(what)


def _last(events: Sequence[Event], kind: type[EventKind]) -> EventKind:
    """The latest event of one kind; a run that ended has one of each."""
    return next(event for event in reversed(events) if isinstance(event, kind))
