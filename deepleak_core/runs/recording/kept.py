"""What is kept of a run: the events that happen once, and frames; and a recording, a short sequence of such runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from deepleak_core.events import (
    FeaturesSeparated,
    Finished,
    GroundTruthKnown,
    LabelsInferred,
    LabelsRevised,
    Prepared,
    Stage,
    UpdateShared,
)
from deepleak_core.scenario import Scenario

MOST_RUNS = 6
SHOWN = 64  # pictures of a larger batch that a frame holds
LONGEST_SENTENCE = 600
Page = Literal["live", "fusion", "wrong-label", "gradinversion"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
Title = Annotated[str, Field(min_length=1, max_length=120)]
Sentence = Annotated[str, Field(min_length=1, max_length=LONGEST_SENTENCE)]


@dataclass(frozen=True, kw_only=True)
class RecordedFrame:
    """One moment of an attack. Values and pictures are in the order of the private images, or the attacker's.

    `labels` (B,) are the classes that the attacker assumes. `psnr` (B,) is in dB under the fixed order; `psnr_to_mean`
    (B,) only where labels repeat. `pictures` are the first `SHOWN` images side by side as one WebP picture.
    """

    step: int
    seconds: float
    residual: float
    labels: tuple[int, ...]
    psnr: tuple[float, ...] = ()
    psnr_to_mean: tuple[float, ...] = ()
    pictures: bytes

    @property
    def count(self) -> int:
        """Number of images in `pictures`."""
        return min(len(self.labels), SHOWN)

    @property
    def mean_psnr(self) -> float | None:
        """Mean PSNR of the batch in dB, None without a ground truth."""
        return sum(self.psnr) / len(self.psnr) if self.psnr else None


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A finished run: the events that happen once, and frames. `version` is DeepLeak's, `device` what it ran on."""

    scenario: Scenario
    version: str
    device: str
    prepared: Prepared
    truth: GroundTruthKnown | None
    shared: UpdateShared | None
    inferred: LabelsInferred | None
    revised: LabelsRevised | None
    separated: FeaturesSeparated | None
    stages: tuple[Stage, ...]
    frames: tuple[RecordedFrame, ...]
    finished: Finished


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A short sequence of runs on one page, under a name that is fit for a link; what one archive holds."""

    name: Name
    title: Title
    sentence: Sentence
    page: Page
    runs: Annotated[tuple[RecordedRun, ...], Field(min_length=1, max_length=MOST_RUNS)]
