"""The commands `attack`, `labels`, `train`, `record` and `list`, and their exit status.

Every setting of a `Scenario` is an option of `attack` and `labels` (see `options`). Progress goes to stderr, results to
stdout and into the files that options name. What a command does is in a module of its own, imported when it is called:
they load PyTorch, which `--help` does not need.

Exit status: 0 done; 2 unusable options, one line on stderr; 1 the work itself failed, one line on stderr.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated

import typer

from deepleak_core.cli.options import ImageFolder, JsonFile, takes_scenario
from deepleak_core.cli.output import logged_in_lines, one_line
from deepleak_core.cli.status import DONE, FAILED, UNUSABLE, Failed
from deepleak_core.errors import DeepLeakError
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Gradient leakage in federated learning: what a client's update reveals about its private images.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; without `arguments`, those of the process."""
    try:
        with logged_in_lines():
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
    """Print one line to stderr and return the status."""
    typer.echo(one_line(sentence), err=True)
    return status


def _started(command: Callable[..., int]) -> Callable[..., int]:
    """Set the number of threads before a command runs, and end it in a sentence when it is interrupted."""

    @wraps(command)
    def run(*arguments: object, **options: object) -> int:
        try:
            import torch

            torch.set_num_threads(cpu_threads())
            return command(*arguments, **options)
        except KeyboardInterrupt as interrupt:
            raise Failed("Stopped before there was a result.") from interrupt

    return run


@app.command()
@takes_scenario
@_started
def attack(
    scenario: Scenario,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="captured update: the weights that the server sent")
    ] = None,
    update: Annotated[
        Path | None, typer.Option(metavar="FILE", help="captured update: the gradient or the weights that came back")
    ] = None,
    json: JsonFile = None,
    out: ImageFolder = None,
) -> int:
    """Reconstruct a private batch from the update that its client shares, simulated or captured as two files."""
    from deepleak_core.cli import attack

    return attack.attack(scenario, weights=weights, update=update, json_file=json, folder=out)


@app.command()
@takes_scenario
@_started
def labels(
    scenario: Scenario,
    repeats: Annotated[
        int, typer.Option(min=1, metavar="N", help="batches to draw (default: 1)", show_default=False)
    ] = 1,
    json: JsonFile = None,
) -> int:
    """Infer only the labels, by every strategy; settings of the attack itself change nothing here."""
    from deepleak_core.cli import labels

    return labels.labels(scenario, repeats=repeats, json_file=json)


@app.command()
@_started
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
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="where checkpoints go (default: the user's data folder)")
    ] = None,
) -> int:
    """Train a target model and keep its training stages, to be attacked as --stage NAME."""
    from deepleak_core.cli import train

    return train.train(
        model, data=data, stages=stages, dataset=dataset, batch_size=batch_size, learning_rate=learning_rate,
        image_size=image_size, limit=limit, seed=seed, device=device, **({} if out is None else {"out": out}),
    )  # fmt: skip


@app.command()
@_started
def record(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="the runs to record", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.zip", help="the archive (default: beside the YAML file)")
    ] = None,
) -> int:
    """Record a sequence of runs as one archive that the app plays without computing, see docs/recordings.md."""
    from deepleak_core.cli import record

    return record.record(file, out=out)


@app.command("list")
@_started
def list_() -> int:
    """Data sets, target models with their training stages, attacks with their settings, label strategies."""
    from deepleak_core.cli import listing

    return listing.show()
