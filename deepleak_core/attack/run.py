"""The whole story of a run, in order: a private batch, its update, the labels, the images.

`run` is a generator of frozen events. Command line, worker, tests and notebooks all iterate it:

>>> from deepleak_core.scenario import Scenario
>>> story = run(Scenario(indices=(0, 4), max_iterations=3))
>>> [type(event).__name__ for event in story if type(event).__name__ != "Snapshot"]
['Prepared', 'UpdateShared', 'LabelsInferred', 'Stage', 'Finished']

The private batch is used in three places only: the client shares its update, `Judge` measures how close the
attack came, and the strategy `true` hands over the labels. `reconstruct`, the attack itself, never sees it.

To add an attack, see `presets`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from deepleak_core.attack.exact import Told, reconstruct_exactly
from deepleak_core.attack.matching import match_update
from deepleak_core.attack.presets import PRESETS, Preset
from deepleak_core.attack.repair import LONGEST, is_uncertain, search_and_repair
from deepleak_core.attack.solvers import Iterate
from deepleak_core.data import datasets
from deepleak_core.data.batches import GroundTruth, load_batch
from deepleak_core.errors import DatasetUnavailable, OutOfMemory, UnsupportedScenario
from deepleak_core.events import (
    Event,
    FeaturesSeparated,
    LabelsInferred,
    LabelsRevised,
    Prepared,
    Stage,
    UpdateShared,
    png,
)
from deepleak_core.federated import client, models
from deepleak_core.federated.client import ClientUpdate, LocalTraining
from deepleak_core.federated.models import TargetModel
from deepleak_core.labels import strategies as labels
from deepleak_core.labels import wrong_labels as mislabelling
from deepleak_core.labels.strategies import Knowledge
from deepleak_core.scenario import Scenario
from deepleak_core.scoring.score import Judge, pixels

SNAPSHOT_SECONDS = 0.125
UNMOVED_STEPS = 10  # iterations after which a residual that never changed never will


def check(scenario: Scenario) -> None:
    """Raise `UnsupportedScenario` with every reason why this scenario cannot run here."""
    problems: list[str] = []

    def known(name: str, value: str, accepted: Sequence[str]) -> bool:
        if value not in accepted:
            problems.append(f"{name} was {value!r}; accepted are {', '.join(accepted)}.")
        return value in accepted

    finds_own_steps = known("attack", scenario.attack, list(PRESETS)) and PRESETS[scenario.attack].solver != "adam"
    if finds_own_steps and scenario.learning_rate is not None:
        problems.append(
            f"learning_rate is no setting of {scenario.attack}, whose solver finds its own steps; leave it out."
        )
    known("label_strategy", scenario.label_strategy or "true", [*labels.STRATEGIES, "true"])
    dataset_known = known("dataset", scenario.dataset, list(datasets.DATASETS))
    if dataset_known and scenario.mislabel:
        with suppress(DatasetUnavailable):  # the run will say so
            try:
                mislabelling.swaps(scenario.mislabel, datasets.names_of_classes(scenario))
            except UnsupportedScenario as error:
                problems += error.problems
    if known("model", scenario.model, list(models.MODELS)) and dataset_known:
        vocabulary = datasets.DATASETS[scenario.dataset].vocabulary
        stages = models.stages(scenario.model, vocabulary)
        if known(f"stage of {scenario.model}", scenario.stage, list(stages)):
            checkpoint = stages[scenario.stage]
            with torch.device("meta"):  # shapes are compared, no weights computed
                problem = checkpoint and models.misfit(target_model(scenario.changed(stage="untrained")), checkpoint)
            problems += [problem] if problem else []
    if scenario.device.startswith("cuda"):
        count = torch.cuda.device_count()
        if int(scenario.device.partition(":")[2] or 0) >= count:
            problems.append(f"device was {scenario.device!r}, this machine has {count} CUDA devices; take auto or cpu.")
    if problems:
        raise UnsupportedScenario(problems)


# ---------------------------------------------------------------------------------------------- the attacker


def reconstruct(
    model: TargetModel,
    update: ClientUpdate,
    believed: Sequence[int],
    preset: Preset,
    scenario: Scenario,
    stop: Callable[[], bool] = lambda: False,
    *,
    repairs: bool = False,
) -> Iterator[Told | LabelsRevised]:
    """The attack: from public knowledge, the update and believed labels (ascending) to ever better images.

    Iterates are inputs (R, B, 3, H, W) as the first layer sees them; `seed` is all that is random. With `repairs`,
    labels that leave the residual high are doubted and changed.
    """
    method = reconstruct_exactly if preset.solver == "exact" else match_update

    def search(labels: Sequence[int]) -> Iterator[Told]:
        return method(model, update, labels, preset, scenario, stop)

    if not repairs:
        yield from search(believed)
        return
    knowledge = Knowledge.of(model, update, image_size=scenario.image_size, seed=scenario.seed_for("labels"), stop=stop)
    yield from search_and_repair(search, knowledge, believed, datasets.names_of_classes(scenario))


def trouble(iterate: Iterate, first: Iterate) -> tuple[str, str] | None:
    """Why an attack cannot go on, as (reason, sentence with what to change), or None."""
    if not (math.isfinite(iterate.loss) and math.isfinite(iterate.gradient)):
        return "diverged", (
            f"The attack broke off: its loss became {iterate.loss} at iteration {iterate.step}. "
            "Lower the learning rate or choose another preset."
        )
    if iterate.loss > 1e4 * max(first.loss, 1.0):
        return "diverged", (
            f"The attack ran away: its loss grew from {first.loss:.2g} to {iterate.loss:.2g}. "
            "Lower the learning rate or choose another preset."
        )
    # Priors move pixels whatever the network does: what tells is a residual that stays the same to the last bit.
    unmoved = iterate.step == UNMOVED_STEPS and torch.equal(iterate.residuals, first.residuals)
    if unmoved or (iterate.step == 0 and iterate.gradient == 0):
        return "vanished", (
            "The attack gets nowhere: the update does not depend on the pixels, its gradient is zero. "
            "Choose a model with smooth activations, or another training stage or seed."
        )
    return None


# --------------------------------------------------------------------------------------------- the whole run


class Clock:
    """Seconds of attack time: what happens inside `paused` (display, metrics, the reader) does not count."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._paused = 0.0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started - self._paused

    @contextmanager
    def paused(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began


def run(scenario: Scenario, *, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Execute a scenario and tell what happens, see `events` for the order.

    `stop` is asked between iterations; once it says yes, the last snapshot and `Finished` follow. Raises
    `UnsupportedScenario`, `DatasetUnavailable` or `OutOfMemory`.
    """
    check(scenario)
    story = _story(scenario, stop)
    try:
        while True:
            # Repeatable results matter more here than the fastest convolution. The reader, who may be at another run
            # meanwhile, keeps settings of its own.
            with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
                event = next(story, None)
            if event is None:
                return
            yield event
    except (MemoryError, RuntimeError) as error:  # PyTorch has a type of its own on a GPU, a message on a CPU
        exhausted = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
        if not exhausted:
            raise
        raise OutOfMemory(
            f"A batch of {scenario.batch_size} at {scenario.image_size} pixels with {scenario.model} needs more "
            "memory than the device has; make the batch or the images smaller, or take fewer restarts."
        ) from error


def _story(scenario: Scenario, stop: Callable[[], bool]) -> Iterator[Event]:
    yield from datasets.prepare(scenario)
    device = choose_device(scenario)
    preset = PRESETS[scenario.attack].for_scenario(scenario)
    batch = load_batch(scenario)
    model = target_model(scenario).to(device)
    _check_memory(scenario, model, preset)
    yield Prepared(
        labels=tuple(batch.labels.tolist()),
        class_names=batch.class_names,
        pictures=tuple(png(image) for image in pixels(batch.images)),
        model_title=models.MODELS[scenario.model].title,
        parameters=sum(p.numel() for p in model.parameters()),
        device=describe(device),
        stage_note=models.note(scenario.stage, checkpoint_of(scenario)),
    )
    update = client.share(model, batch.images.to(device), batch.labels.to(device), local_training_of(scenario))
    gradient = update.gradient(model)
    yield UpdateShared(
        mode=update.mode,
        batch_size=update.batch_size,
        local_steps=update.local_steps,
        layers=tuple(gradient),
        sizes=tuple(t.numel() for t in gradient.values()),
        norms=tuple(float(t.norm()) for t in gradient.values()),
        bytes=sum(t.numel() * t.element_size() for t in update.tensors.values()),
    )
    clock = Clock()
    limit = scenario.max_seconds or math.inf

    def over() -> bool:
        return stop() or clock.seconds > limit

    inferred = _infer_labels(scenario, preset, model, update, batch, clock, over)
    with clock.paused():
        yield inferred
        yield Stage(name=preset.title, sentence=_what_starts(update, preset), step=0, seconds=inferred.seconds)
    judge = Judge(batch, scenario)
    repairs = preset.repairs and not inferred.falsified and is_uncertain(inferred)
    if scenario.repair_labels is not None:
        repairs = scenario.repair_labels
    iterations = preset.iterations + (LONGEST if repairs and scenario.max_iterations is None else 0)
    story = reconstruct(model, update, inferred.order, preset, scenario, over, repairs=repairs)
    yield from _watch(story, model, inferred, judge, clock, limit, iterations, stop)


def _infer_labels(
    scenario: Scenario,
    preset: Preset,
    model: TargetModel,
    update: ClientUpdate,
    batch: GroundTruth,
    clock: Clock,
    stop: Callable[[], bool],
) -> LabelsInferred:
    classes = len(batch.class_names)
    if preset.label_strategy == "true":
        found = labels.given(batch.labels, classes)
    else:
        found = labels.infer(
            model,
            update,
            strategy=preset.label_strategy,
            image_size=scenario.image_size,
            seed=scenario.seed_for("labels"),
            stop=stop,
        )
    order = labels.order(found.counts)
    if scenario.mislabel:
        order, falsified = mislabelling.swap(
            order, mislabelling.swaps(scenario.mislabel, batch.class_names), batch.class_names
        )
    else:
        seed = scenario.seed_for("wrong labels")
        order, falsified = mislabelling.falsify(order, scenario.wrong_labels, classes, seed=seed)
    seconds = clock.seconds
    true_counts = torch.bincount(batch.labels, minlength=classes)
    return LabelsInferred(
        strategy=preset.label_strategy,
        evidence=tuple(found.evidence.tolist()),
        real_counts=tuple(found.real_counts.tolist()),
        counts=tuple(found.counts.tolist()),
        true_counts=tuple(true_counts.tolist()),
        order=tuple(order),
        falsified=falsified,
        exact=torch.equal(found.counts.cpu(), true_counts),
        proven=found.proven,
        confidence=() if found.confidence is None else tuple(found.confidence.tolist()),
        seconds=seconds,
    )


def _watch(
    story: Iterator[Told | LabelsRevised],
    model: TargetModel,
    inferred: LabelsInferred,
    judge: Judge,
    clock: Clock,
    limit: float,
    iterations: int,
    stop: Callable[[], bool],
) -> Iterator[Event]:
    """Cut the iterates into snapshots by time, end the run when it is over, and sum it up.

    Iterations are counted through all stages of the attack. Revised labels take the place of those inferred.
    """
    ended, sentence, first = "", "", None
    shown, pending, step = -math.inf, None, 0
    for told in story:
        if not isinstance(told, Iterate):
            if isinstance(told, LabelsRevised):
                inferred, first = judge.revised(inferred, told), None
            with clock.paused():
                yield _stamped(told, step, clock.seconds)
            continue
        pending = iterate = replace(told, step=step)
        first = first or iterate
        step += 1
        if wrong := trouble(iterate, first):
            ended, sentence = wrong
        elif stop():
            ended = "stopped"
        elif clock.seconds > limit:
            ended = "seconds"
        elif iterate.progress >= 1 or step > iterations:
            ended = "iterations"
        if ended or clock.seconds - shown >= SNAPSHOT_SECONDS:
            shown, pending = clock.seconds, None
            with clock.paused():
                progress = 1.0 if ended else min(1.0, max(iterate.progress, shown / limit))
                yield judge.snapshot(model, iterate, inferred.order, shown, progress)
        if ended:
            break
    if pending is not None:
        seconds = clock.seconds
        with clock.paused():
            yield judge.snapshot(model, pending, inferred.order, seconds, 1.0)
    yield judge.finish(ended or "converged", sentence, clock.seconds, inferred)


# --------------------------------------------------------------------------------------------- small helpers


def _stamped(event: Stage | LabelsRevised | FeaturesSeparated, step: int, seconds: float) -> Event:
    """An event of the attack with its place on the run's clock, which the attack does not know."""
    if isinstance(event, FeaturesSeparated):
        return replace(event, seconds=seconds)
    return replace(event, step=step, seconds=seconds)


def choose_device(scenario: Scenario) -> torch.device:
    """`auto` takes a CUDA device where there is one."""
    if scenario.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(scenario.device)


def describe(device: torch.device) -> str:
    """A device in words, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def target_model(scenario: Scenario) -> TargetModel:
    """The network of a scenario at its training stage, as server and client know it."""
    dataset = datasets.dataset_of(scenario)
    mean, std = dataset.statistics
    return models.build(
        scenario.model,
        classes=len(datasets.names_of_classes(scenario)),
        image_size=scenario.image_size,
        mean=mean,
        std=std,
        head_bias=scenario.head_bias,
        batchnorm=scenario.batchnorm,
        seed=scenario.seed_for("model"),
        checkpoint=checkpoint_of(scenario),
    )


def checkpoint_of(scenario: Scenario) -> Path | None:
    """The file a training stage is read from, None for `untrained`."""
    return models.stages(scenario.model, datasets.dataset_of(scenario).vocabulary)[scenario.stage]


def local_training_of(scenario: Scenario) -> LocalTraining | None:
    """The client's local training, None for FedSGD."""
    if scenario.mode == "fedsgd":
        return None
    return LocalTraining(epochs=scenario.local_epochs, batch_size=scenario.local_batch_size, lr=scenario.local_lr)


def _what_starts(update: ClientUpdate, preset: Preset) -> str:
    source = f"the update of {update.local_steps} local steps" if update.local else "the shared gradient"
    if preset.solver == "exact":
        return f"The last layer's part of {source} is taken apart, image by image."
    return f"Pixels are moved until {source} is explained."


def _check_memory(scenario: Scenario, model: TargetModel, preset: Preset) -> None:
    """Refuse before starting what surely does not fit: activations are counted on one image.

    Double backward keeps about six values for each activation and four copies of every parameter.
    """
    activations = 0

    def count(module: torch.nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal activations
        activations += output.numel()

    leaves = [m for m in model.body.modules() if not list(m.children())]
    hooks = [m.register_forward_hook(count) for m in leaves]
    with torch.no_grad():
        model.eval()
        model(torch.zeros(1, 3, scenario.image_size, scenario.image_size, device=model.mean.device))
        model.train(scenario.batchnorm == "train")
    for hook in hooks:
        hook.remove()
    parameters = sum(p.numel() for p in model.parameters())
    local = local_training_of(scenario)
    unrolled = len(local.slices(scenario.batch_size)) if local and preset.fedavg == "simulated" else 1
    needed = 4 * (6 * activations * scenario.batch_size * preset.restarts * unrolled + 4 * parameters * unrolled)
    device = model.mean.device
    available = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > available:
        raise OutOfMemory(
            f"A batch of {scenario.batch_size} at {scenario.image_size} pixels with {scenario.model} needs about "
            f"{needed / 1e9:.1f} GB, the device has {available / 1e9:.1f} GB free; make the batch or the images "
            "smaller, or take fewer restarts."
        )
