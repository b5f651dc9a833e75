"""The frozen events of a run, in the order in which they happen.

A run yields `Prepared`, `GroundTruthKnown` (where there is a ground truth), `UpdateShared`, `LabelsInferred`, then
`Stage`, `FeaturesSeparated`, `LabelsRevised` and `Snapshot` any number of times, then one `Finished`. While a data set
is downloaded, `Downloading` comes first. A study of label inference (`studies.label_accuracy`) yields `LastLayerRead`
and one `StrategyAnswered` for each strategy, or one `Scored` after another; one of wrong labels
(`studies.wrong_labels`) yields one `WrongLabelTried` after another.

Events hold what the attacker knows, images in the attacker's order. Where a ground truth exists, `scoring` attaches
a score to `LabelsInferred`, `LabelsRevised`, `Snapshot` and `Finished`; elsewhere `score` is None.
`to_message` and `from_message` convert an event to plain msgpack-ready values and back.

>>> event = Downloading(dataset="cifar10", bytes_done=1, bytes_total=4)
>>> from_message(to_message(event)) == event
True
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

Reason = Literal["converged", "iterations", "seconds", "stopped", "diverged", "vanished"]
Outcome = Literal["recovered", "recognisable", "not recovered"]
TROUBLE: tuple[Reason, ...] = ("diverged", "vanished")  # ends for which the attack itself failed
ASSUMPTION = "Assumption"  # name of a `Stage` that says that the order of images is assumed, not known
LABELS_CHANGED = "Labels changed"  # name of the `Stage` before a `LabelsRevised`; its sentence says what changed
Element = TypeVar("Element")
Images = npt.NDArray[np.float32]


# ------------------------------------------------------------------------------------------------------- scores


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """How close inferred labels are to the true ones.

    `true_counts` (C,) says how often each class occurs in the private batch; `exact` is whether the labels that were
    inferred, or revised, are the true ones; deliberate wrong labels do not count.
    """

    true_counts: tuple[int, ...]
    exact: bool


@dataclass(frozen=True, kw_only=True)
class Score:
    """How close the reconstructions of one snapshot are to the ground truth, one value for each private image.

    `places[i]` is the reconstruction, in the attacker's order, that is matched to private image i. `psnr` is in dB, at
    most 120. Where labels repeat, `psnr_to_mean` is the PSNR in dB to the mean image of the class in the batch, and
    `fusion` the fusion index (`scoring.metrics.fusion_index`).
    """

    places: tuple[int, ...]
    psnr: tuple[float, ...]
    psnr_to_mean: tuple[float, ...] = ()
    fusion: float | None = None

    @property
    def mean_psnr(self) -> float:
        """Mean PSNR of the batch in dB."""
        return sum(self.psnr) / len(self.psnr)


@dataclass(frozen=True, kw_only=True)
class FinalScore(Score):
    """The score at the end of a run, one value for each private image.

    `ssim` is in [-1, 1], `max_error_8bit` in 0..255, `pixel_exact` is where that is 0. `outcomes` are verdicts by the
    rule of `scoring.sentences`. Where labels repeat, `nearest_psnr` is the PSNR in dB of each reconstruction to the
    private image that it is closest to, and `fused` is where it shows the blend of its class. `noise_psnr` and
    `grey_psnr` are the mean PSNR in dB of uniform noise and of flat grey images against the same private images.
    `time_to` maps psnr20, psnr30 and pixel_exact to the attack time in seconds at which every image had reached it,
    None where it never was.
    """

    ssim: tuple[float, ...]
    max_error_8bit: tuple[int, ...]
    pixel_exact: tuple[bool, ...]
    outcomes: tuple[Outcome, ...]
    nearest_psnr: tuple[float, ...] = ()
    fused: tuple[bool, ...] = ()
    noise_psnr: float
    grey_psnr: float
    time_to: dict[str, float | None]


def in_private_order(values: Sequence[Element], score: Score | None) -> tuple[Element, ...]:
    """Values given in the attacker's order, reordered to that of the private batch; unchanged without a score.

    >>> in_private_order(["b", "a"], Score(places=(1, 0), psnr=(20.0, 20.0)))
    ('a', 'b')
    """
    return tuple(values) if score is None else tuple(values[place] for place in score.places)


# ------------------------------------------------------------------------------------------------ events of a run


@dataclass(frozen=True, kw_only=True)
class Downloading:
    """A data set is being downloaded. `bytes_total` is 0 where it is unknown."""

    dataset: str
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is public before the round: the target model and its classes; and the device that the attack runs on."""

    class_names: tuple[str, ...]
    model_title: str
    parameters: int
    device: str
    stage_note: str


@dataclass(frozen=True, kw_only=True)
class GroundTruthKnown:
    """The private batch, for display only: class of each image, and the images as PNG bytes."""

    labels: tuple[int, ...]
    pictures: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class UpdateShared:
    """What the server received: the size of the update, and the norm of each layer's part of the gradient.

    `sample` are values from all over the gradient, evenly spaced and in its order, each relative to the root mean
    square of its layer: 128 is zero, 255 and 0 are 3 or more and -3 or less. A square number of them, to be drawn.
    """

    mode: str
    batch_size: int
    local_steps: int
    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    norms: tuple[float, ...]
    bytes: int
    sample: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LabelsInferred:
    """Label inference: for each class the evidence, the real-valued count and the integer count, all (C,).

    `order` are the labels that the attack uses, ascending, one for each image, deliberate wrong labels included;
    `falsified` are the places of the wrong ones. `certified` counts are proven by the update itself. `confidence` (C,)
    is the probability of each count, empty where the strategy gives none. `note` says in a sentence how the counts were
    found, or what was assumed; it may be empty.
    """

    strategy: str
    evidence: tuple[float, ...]
    real_counts: tuple[float, ...]
    counts: tuple[int, ...]
    order: tuple[int, ...]
    falsified: tuple[int, ...]
    certified: bool = False
    confidence: tuple[float, ...] = ()
    note: str = ""
    seconds: float
    score: LabelScore | None = None

    @property
    def found(self) -> tuple[int, ...]:
        """The inferred labels, ascending, without deliberate wrong labels."""
        return tuple(label for label, count in enumerate(self.counts) for _ in range(count))


@dataclass(frozen=True, kw_only=True)
class LabelsRevised:
    """The attack replaced its labels: `order` are the new ones, ascending, one for each image.

    `certified` says whether the last layer's gradient proves them; otherwise the residual fell. The `Stage` before
    says what has changed.
    """

    order: tuple[int, ...]
    certified: bool
    step: int = 0
    seconds: float = 0.0
    score: LabelScore | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The attack starts something new; `sentence` says what and why.

    A `remark` belongs to the outcome of the run: an assumption, a limit of the network, labels that were changed.
    """

    name: str
    sentence: str
    remark: bool = False
    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FeaturesSeparated:
    """The last layer's gradient was separated into one feature vector per image.

    `before` and `after` are the cosine similarities between the features of the images in the order of `labels`,
    K x K row by row: before, with the mean of its class for each image, and after. `errors` (K,) are estimated
    relative errors; `misfit` is in units of rounding noise, about 1 when solved.
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
    """One moment of a running attack, in the attacker's order.

    `images` is (B, C, H, W) float32 in [0, 1]; `labels` (B,) are the classes that the attacker assumes for them.
    `residual` is the squared distance between simulated and shared update over the squared norm of the shared one.
    `progress` in [0, 1] is how much of the attack is done, None where it is unknown.
    """

    step: int
    seconds: float
    loss: float
    residual: float
    labels: tuple[int, ...]
    progress: float | None
    images: Images
    score: Score | None = None

    def pictures(self) -> tuple[bytes, ...]:
        """Each image as PNG bytes, in the attacker's order (see `in_private_order`)."""
        return tuple(map(png, self.images))


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The end of a run: why it ended, and its outcome in one sentence.

    `residual` is that of the last snapshot, `seconds` the attack time. `certified` images are 8-bit images that
    reproduce the whole update to rounding: exact copies, known without the ground truth.
    """

    reason: Reason
    sentence: str
    step: int
    seconds: float
    residual: float
    certified: bool = False
    score: FinalScore | None = None


# ------------------------------------------------------------------------------------------------ events of studies


@dataclass(frozen=True, kw_only=True)
class LastLayerRead:
    """From an update to label counts, step by step: (C,) values each.

    `gradient` is that of the last layer's bias, or its estimate where there is none; `probabilities` are the estimate
    of the mean prediction; `real_counts` are K (probabilities - gradient), and `counts` the rounded integers.
    """

    gradient: tuple[float, ...]
    probabilities: tuple[float, ...]
    real_counts: tuple[float, ...]
    counts: tuple[int, ...]
    true_counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class StrategyAnswered:
    """The answer of one label strategy on one batch: counts (C,), true counts (C,), and whether they are certified.

    `confidence` (C,) is the probability of each count, empty where the strategy gives none.
    """

    strategy: str
    counts: tuple[int, ...]
    true_counts: tuple[int, ...]
    certified: bool
    note: str
    confidence: tuple[float, ...] = ()
    seconds: float

    @property
    def exact(self) -> bool:
        """Whether all counts are right."""
        return self.counts == self.true_counts

    @property
    def found(self) -> int:
        """Number of labels found, counted with multiplicity."""
        return sum(map(min, self.counts, self.true_counts))


@dataclass(frozen=True, kw_only=True)
class Scored:
    """All label strategies after `draws` of `repeats` batches; `scores` maps each to its accuracy, as plain values."""

    draws: int
    repeats: int
    scores: dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class WrongLabelTried:
    """How an attack with one wrong label ended: PSNR in dB and verdict of each image, and the residual.

    `swap` is the wrong label, such as "cat>dog"; empty for the attack with all labels correct.
    """

    swap: str
    psnr: tuple[float, ...]
    outcomes: tuple[Outcome, ...]
    residual: float

    @property
    def mean_psnr(self) -> float:
        """Mean PSNR of the batch in dB."""
        return sum(self.psnr) / len(self.psnr)

    @property
    def recognisable(self) -> int:
        """How many images are recognisable or recovered."""
        return sum(outcome != "not recovered" for outcome in self.outcomes)


Event = (
    Downloading
    | Prepared
    | GroundTruthKnown
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
    | WrongLabelTried
)
KINDS: dict[str, Callable[..., Event]] = {kind.__name__: kind for kind in get_args(Event)}
PICTURES = {GroundTruthKnown.__name__: "pictures", Snapshot.__name__: "images"}  # the field of a message with PNG bytes
SCORES: dict[str, Callable[..., Any]] = {
    LabelsInferred.__name__: LabelScore,
    LabelsRevised.__name__: LabelScore,
    Snapshot.__name__: Score,
    Finished.__name__: FinalScore,
}


# ---------------------------------------------------------------------------------------- pictures and messages


def to_8bit(images: Images) -> npt.NDArray[np.uint8]:
    """Images of any shape in [0, 1], rounded to 8 bits."""
    pixels: npt.NDArray[np.uint8] = (np.clip(images, 0, 1) * 255).round().astype(np.uint8)
    return pixels


def png(image: Images) -> bytes:
    """An image (C, H, W) in [0, 1], C 1 or 3, as PNG bytes, rounded to 8 bits."""
    pixels = to_8bit(image)
    buffer = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def from_png(data: bytes) -> Images:
    """PNG bytes to an image (C, H, W) in [0, 1]; C is 1 for greyscale, else 3."""
    with Image.open(io.BytesIO(data)) as picture:
        values = np.asarray(picture if picture.mode == "L" else picture.convert("RGB"), dtype=np.float32)
    pixels = values / np.float32(255)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def to_message(event: Event) -> dict[str, Any]:
    """An event as plain values: numbers, text, lists and PNG bytes; `kind` names its class."""
    message: dict[str, Any] = {f.name: getattr(event, f.name) for f in fields(event)}
    if isinstance(event, Snapshot):
        message["images"] = event.pictures()
    if message.get("score") is not None:
        message["score"] = _lists(asdict(message["score"]))
    return {"kind": type(event).__name__} | _lists(message)


def from_message(message: Mapping[str, Any]) -> Event:
    """The event that `to_message` was given, images rounded to 8 bits. Raises ValueError for an unknown kind."""
    values = _tuples(message)
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"event kind was {kind!r}; accepted are {', '.join(KINDS)}.")
    if kind == Snapshot.__name__:
        values["images"] = np.stack([from_png(picture) for picture in values["images"]])
    if values.get("score") is not None:
        values["score"] = score_of(kind, values["score"])
    event: Event = KINDS[kind](**values)
    return event


def score_of(kind: str, values: Mapping[str, Any]) -> Any:
    """The score of an event of this kind, from its plain values."""
    return SCORES[kind](**_tuples(values))


def _lists(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
