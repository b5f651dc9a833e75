"""Checkpoints: saved weights of target models, one file for each training stage.

A checkpoint is a safetensors file, named after network, classes and stage. Its metadata say how far the network was
trained, how accurate it is, and what it predicts on average for each class; nothing else is ever read. Some are in the
package; those that are trained here are kept in the user's data folder, where every worker of this machine finds them.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file

from deepleak_core.data.downloads import data_folder
from deepleak_core.federated.class_statistics import MOST_CLASSES, ClassStatistics
from deepleak_core.federated.pretrained import STAGE, pretrained
from deepleak_core.federated.target_model import TargetModel, feature_dimension
from deepleak_core.federated.tensor_files import opened
from deepleak_core.text import shorten

CHECKPOINTS = Path(__file__).parent / "weights"  # those of the package


def own_folder() -> Path:
    """The folder of checkpoints that were trained here."""
    return data_folder() / "checkpoints"


def stages(name: str, vocabulary: str, *, image_size: int | None = None) -> dict[str, Path | None]:
    """Training stages of a network on a set of classes ("cifar10"): `untrained`, the package's, and those trained here.

    A stage that was trained here replaces one of the package of the same name. `pretrained` is among them where there
    are such weights; its file is downloaded by the first run (`federated.preparation`). With `image_size`, in pixels,
    it is left out where these weights are for larger images.
    """
    weights = pretrained(name, vocabulary)
    pattern = checkpoint_name(name, vocabulary, "*")
    found = [path for folder in (CHECKPOINTS, own_folder()) for path in sorted(folder.glob(pattern))]
    usable = [path for path in found if defect(path) is None]
    to_download = {STAGE: own_folder() / checkpoint_name(name, vocabulary, STAGE)} if weights else {}
    found_by_stage = {"untrained": None} | to_download | {path.stem.split("--")[2]: path for path in usable}
    if weights and image_size is not None and image_size < weights.least_size:
        del found_by_stage[STAGE]
    return found_by_stage


def defect(checkpoint: Path) -> str | None:
    """Why a file cannot be a checkpoint, in one sentence; None where it can. Each version of a file is read once."""
    name = shorten(checkpoint.name)
    try:
        state = checkpoint.stat()
        str(checkpoint).encode()
    except OSError as error:
        return f"{name} cannot be read ({error.strerror}); take another training stage."
    except UnicodeEncodeError:
        return f"{name} has a name that is not UTF-8; rename it."
    if checkpoint.stem.endswith("--untrained"):
        return f"{name} is named after the stage without any training; rename it."
    return _defect(checkpoint, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=256)
def _defect(checkpoint: Path, modified: int, size: int) -> str | None:
    name, advice = shorten(checkpoint.name), "train it again, or take stage untrained."
    try:
        with opened(checkpoint) as file:
            names = list(file.keys())
            broken = next((n for n in names if not bool(file.get_tensor(n).float().isfinite().all())), None)
        _training(checkpoint)
    except (OSError, SafetensorError) as error:
        return f"{name} cannot be read as safetensors ({shorten(str(error))}); {advice}"
    except RecursionError:
        return f"{name} has metadata that are nested too deeply; {advice}"
    except (KeyError, TypeError, ValueError):
        pass  # nothing is known of the training: `describe` says so
    if "head.weight" not in names:
        return f"{name} has no head.weight, the last layer's weights; {advice}"
    return f"{name} has values in {shorten(broken)} that are not finite; {advice}" if broken else None


def checkpoint_name(name: str, vocabulary: str, stage: str) -> str:
    """The file name of a network's training stage on a set of classes.

    >>> checkpoint_name("lenet", "cifar10", "late")
    'lenet--cifar10--late.safetensors'
    """
    return f"{name}--{vocabulary}--{stage}.safetensors"


def save(
    model: TargetModel, checkpoint: Path, *, epochs: float, accuracy: float, statistics: ClassStatistics | None = None
) -> None:
    """Write the weights, running BatchNorm statistics included, with epochs and accuracy as metadata.

    Predictions by class are left out for more than `MOST_CLASSES`.
    """
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    training: dict[str, Any] = {"epochs": round(epochs, 3), "accuracy": round(accuracy, 4)}
    if statistics is not None and model.head.out_features <= MOST_CLASSES:
        training["validation"] = statistics.to_json()
    # A single entry, since safetensors writes several in random order and equal trainings must give equal files.
    save_file(state, checkpoint, {"training": json.dumps(training)})


def _training(checkpoint: Path) -> Any:
    """The training metadata of a checkpoint. Raises `KeyError` or `ValueError` where there are none."""
    with opened(checkpoint) as file:
        return json.loads((file.metadata() or {})["training"])


def class_statistics_of(checkpoint: Path, classes: int) -> ClassStatistics | None:
    """The mean predictions by class that a checkpoint stores, if it does."""
    try:
        return ClassStatistics.from_json(_training(checkpoint)["validation"], classes)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError):
        return None


def describe(checkpoint: Path) -> str:
    """The training of a checkpoint in words, such as "3 epochs, 65 % accuracy"; never fails."""
    try:
        training = _training(checkpoint)
        epochs, accuracy = round(float(training["epochs"]), 2), float(training["accuracy"])
    except (OSError, SafetensorError):
        return "unreadable"
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return "training unknown"
    if not (0 <= epochs < math.inf and 0 <= accuracy <= 1):
        return "training unknown"
    return f"{epochs:g} epoch{'' if epochs == 1 else 's'}, {100 * accuracy:.0f} % accuracy"


def note(stage: str, checkpoint: Path | None) -> str:
    """A training stage in words.

    >>> note("untrained", None)
    'untrained'
    """
    if checkpoint is None:
        return stage
    return f"{stage}: {describe(checkpoint) if checkpoint.exists() else 'downloaded when it is first used'}"


def misfit(model: TargetModel, checkpoint: Path) -> str | None:
    """Why a checkpoint does not fit a network, in one sentence; None where it fits.

    Reads no weights, only their shapes: the network may be on the device "meta".
    """
    file_name = shorten(checkpoint.name)
    try:
        with opened(checkpoint) as file:
            names = file.keys()
            saved = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (OSError, SafetensorError) as error:
        reason = shorten(str(error))
        return f"{file_name} cannot be read as safetensors ({reason}); train it again, or take stage untrained."
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    differing = {name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name)}
    if not differing:
        return None
    if differing == {"head.bias"}:
        has, lacks = ("a", "none") if "head.bias" in saved else ("no", "one")
        return (
            f"{file_name} was trained with {has} bias in the last layer, head_bias asks for {lacks}; "
            "change it, or take stage untrained."
        )
    head = saved.get("head.weight", ())
    if differing == {"head.weight"} and len(head) == 2 and head[0] == model.head.out_features:
        sizes = range(32, 225)  # those a scenario may have
        channels = model.mean.shape[1]
        fitting = (size for size in sizes if feature_dimension(model.body, (channels, size, size)) == head[1])
        if size := next(fitting, None):
            return f"{file_name} was trained for an image_size of {size}; take that, or stage untrained."
    first = min(differing)
    return (
        f"{file_name} does not fit this network: {shorten(first)} is {_shape(saved.get(first))} in the file and "
        f"should be {_shape(wanted.get(first))}; train it again, or take stage untrained."
    )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "a single number"
