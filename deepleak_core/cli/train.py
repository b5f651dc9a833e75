"""The command `train`: training stages of a target model, one line for each checkpoint."""

from __future__ import annotations

from typing import Any

from deepleak_core.cli.output import say
from deepleak_core.cli.progress import Bar, interruptible, progress_bar
from deepleak_core.cli.status import DONE, Failed, UnusableOption
from deepleak_core.errors import TrainingDiverged
from deepleak_core.federated import checkpoints, training
from deepleak_core.text import shorten


def train(model: str, *, stages: str, **settings: Any) -> int:
    """Train a model; `stages` is such as "early=0.25,late=5", the other settings are those of `training.train`."""
    steps = training.train(model, stages=epochs_of(stages), **settings)
    with progress_bar() as bar, interruptible() as interrupted:
        try:
            for step in steps:
                _show(step, bar)
                if interrupted():
                    raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise Failed("Stopped before the last stage; what was saved until then is kept.") from interrupt
        except TrainingDiverged as error:
            raise Failed(str(error)) from error
    return DONE


def epochs_of(stages: str) -> dict[str, float]:
    """The epochs of each stage.

    >>> epochs_of("early=0.25,late=5")
    {'early': 0.25, 'late': 5.0}
    """
    pairs = [part.split("=") for part in stages.split(",")]
    try:
        epochs = {name.strip(): float(number) for name, number in pairs}
    except ValueError:
        epochs = {}
    if len(epochs) != len(pairs):
        raise UnusableOption(
            f"--stages was {shorten(repr(stages))}; accepted are different names with their epochs, "
            "such as early=0.25,late=5."
        )
    return epochs


def _show(step: training.Progress, bar: Bar) -> None:
    """Update the progress bar, or print a line for a checkpoint."""
    if isinstance(step, training.Reading):
        bar.show(f"reading {step.folder}", step.done)
    elif isinstance(step, training.Step):
        bar.show("training", step.done, f"epoch {step.epoch:.2f}, loss {step.loss:.3f}")
    else:
        say(f"{step.checkpoint}: {checkpoints.describe(step.checkpoint)}")
