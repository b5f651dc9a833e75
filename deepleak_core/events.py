"""What a run tells, in the order it happens. Every event is frozen and knows its place on the attack's clock.

A run yields `Prepared`, `UpdateShared`, `LabelsInferred`, then `Stage`, `FeaturesSeparated`, `LabelsRevised` and
`Snapshot` any number of times, then one `Finished`. While a data set is downloaded, `Downloading` comes first.
A study of label inference (see `evaluation`) yields `LastLayerRead` and a `StrategyAnswered` for each strategy, or
one `Scored` after another.
`to_message` and `from_message` turn an event into plain msgpack-ready values and back.

>>> event = Downloading(dataset="cifar10", bytes_done=1, bytes_total=4)
>>> from_message(to_message(event)) == event
True
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np
from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Downloading:
    """A data set is on its way. `bytes_total` is 0 where the server does not tell."""

    dataset: str
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The client has its private batch, everyone has the target model.

    `pictures` are the private images as PNG bytes: the truth, for display alone.
    """

    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    pictures: tuple[bytes, ...]
    model_title: str
    parameters: int
    device: str
    stage_note: str


@dataclass(frozen=True, kw_only=True)
class UpdateShared:
    """What the server received: the size of the update and the norm of each layer's part."""

    mode: str
    batch_size: int
    local_steps: int
    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    norms: tuple[float, ...]
    bytes: int


@dataclass(frozen=True, kw_only=True)
class LabelsInferred:
    """Label inference, laid open: per class the evidence, the real-valued count, the integer, the truth.

    `order` is the labels as the attack uses them, falsified ones included; `falsified` names their places. `proven`
    counts are beyond doubt; `confidence` is how sure the strategy is of each class, empty where it cannot tell.
    """

    strategy: str
    evidence: tuple[float, ...]
    real_counts: tuple[float, ...]
    counts: tuple[int, ...]
    true_counts: tuple[int, ...]
    order: tuple[int, ...]
    falsified: tuple[int, ...]
    exact: bool
    proven: bool = False
    confidence: tuple[float, ...] = ()
    seconds: float

    @property
    def found(self) -> tuple[int, ...]:
        """The labels that were inferred, ascending, before any was made wrong on purpose."""
        return tuple(label for label, count in enumerate(self.counts) for _ in range(count))


LABELS_CHANGED = "Labels changed"  # the stage that tells in words what `LabelsRevised` then says in numbers


@dataclass(frozen=True, kw_only=True)
class LabelsRevised:
    """The attack found its own labels wrong and goes on with others: `order`, ascending, one for each image.

    `proven` says whether the last layer's gradient proves them; else a falling residual speaks for them. The `Stage`
    before says in words what has changed.
    """

    order: tuple[int, ...]
    proven: bool
    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The attack starts something new and says in one sentence what and why; the run puts it on its clock."""

    name: str
    sentence: str
    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FeaturesSeparated:
    """The last layer's gradient was taken apart into one feature vector per image.

    `before` and `after` are cosine similarities between the features of the images in the order of `labels`,
    K x K row by row: before, when all that shows of an image is the mean of its class, and after. `errors` (K,)
    are estimated relative errors; `misfit` is in units of rounding noise, about 1 when solved.
    """

    labels: tuple[int, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    errors: tuple[float, ...]
    singular_values: tuple[float, ...]
    misfit: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One moment of the running attack.

    `images` is (B, H, W, C) uint8 in the order of the true batch (matched for display); `labels` are the
    classes the attacker assumed for them; `psnr` is in dB, one a picture. `residual` is the squared distance
    between simulated and shared update over the squared norm of the shared one; `progress` in [0, 1] is how
    much of the attack is done, None where nobody can tell. Where labels repeat, `psnr_to_mean` is in dB to the mean
    image of each picture's class in the batch, and `fusion` is the fusion index, see `metrics.fusion_index`.
    """

    step: int
    seconds: float
    loss: float
    residual: float
    labels: tuple[int, ...]
    psnr: tuple[float, ...]
    mean_psnr: float
    progress: float | None
    images: np.ndarray
    psnr_to_mean: tuple[float, ...] = ()
    fusion: float | None = None

    def pictures(self) -> tuple[bytes, ...]:
        """Each image as PNG bytes at its own resolution; a browser or `enlarge` scales them up unsmoothed."""
        return tuple(map(png, self.images))


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The end of a run: why it ended, how good the pictures are, and one sentence in plain words.

    `reason` is one of converged, iterations, seconds, stopped, diverged, vanished. The per-image values are in
    the order of the true batch: `ssim` in [-1, 1], `max_error_8bit` in 0..255, `pixel_exact` where that is 0.
    `time_to` maps psnr20, psnr30 and pixel_exact to seconds of attack time at which every image was there.
    `psnr_to_mean` and `fusion` are those of the last `Snapshot`.
    """

    reason: str
    sentence: str
    step: int
    seconds: float
    residual: float
    psnr: tuple[float, ...]
    ssim: tuple[float, ...]
    max_error_8bit: tuple[int, ...]
    pixel_exact: tuple[bool, ...]
    noise_psnr: float
    time_to: dict[str, float | None]
    psnr_to_mean: tuple[float, ...] = ()
    fusion: float | None = None


@dataclass(frozen=True, kw_only=True)
class LastLayerRead:
    """From an update to label counts, step by step: (C,) values each, one a class.

    `gradient` is that of the last layer's bias, or what stands for it where there is none; `probabilities` are the
    estimate of mean p; `real_counts` are K (probabilities - gradient), and `counts` the integers made of them.
    """

    gradient: tuple[float, ...]
    probabilities: tuple[float, ...]
    real_counts: tuple[float, ...]
    counts: tuple[int, ...]
    true_counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class StrategyAnswered:
    """One label strategy on the batch: its integers, the truth, whether it proves them, what it says of itself.

    `confidence` is how sure it is of each class, empty where it cannot tell.
    """

    strategy: str
    counts: tuple[int, ...]
    true_counts: tuple[int, ...]
    proven: bool
    note: str
    confidence: tuple[float, ...] = ()
    seconds: float

    @property
    def exact(self) -> bool:
        """Whether the whole multiset of labels was found."""
        return self.counts == self.true_counts

    @property
    def found(self) -> int:
        """Labels found, each as often as it is there."""
        return sum(map(min, self.counts, self.true_counts))


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Every label strategy after `draws` of `repeats` batches; `scores` maps each to its `LabelScore` as values."""

    draws: int
    repeats: int
    scores: dict[str, dict[str, float]]


Event = (
    Downloading
    | Prepared
    | UpdateShared
    | LabelsInferred
    | LabelsRevised
    | Stage
    | FeaturesSeparated
    | Snapshot
    | Finished
    | LastLayerRead
    | StrategyAnswered
    | Scored
)
KINDS: dict[str, Callable[..., Event]] = {kind.__name__: kind for kind in get_args(Event)}


def png(image: np.ndarray) -> bytes:
    """(H, W, C) uint8 to PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def from_png(data: bytes) -> np.ndarray:
    """PNG bytes to (H, W, C) uint8."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def to_message(event: Event) -> dict[str, Any]:
    """An event as plain values: numbers, text, lists and PNG bytes; `kind` names its class."""
    message: dict[str, Any] = {f.name: getattr(event, f.name) for f in fields(event)}
    if isinstance(event, Snapshot):
        message["images"] = event.pictures()
    return {"kind": type(event).__name__} | {k: list(v) if isinstance(v, tuple) else v for k, v in message.items()}


def from_message(message: dict[str, Any]) -> Event:
    """The event `to_message` was given. Raises ValueError for a kind that is none."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in message.items()}
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"event kind was {kind!r}; accepted are {', '.join(KINDS)}.")
    if kind == "Snapshot":
        values["images"] = np.stack([from_png(picture) for picture in values["images"]])
    event: Event = KINDS[kind](**values)
    return event
