"""What a player is made of. Pictures and values stand in the order of the private images where these are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from deepleak_core.runs.recording import RecordedRun

Asides = Literal["none", "to_mean", "change"]


@dataclass(frozen=True, kw_only=True)
class Still:
    """Pictures that do not change, as PNG or WebP bytes, with a caption and a small note below each.

    Up to `count`, placeholders stand for pictures that are hidden.
    Captions that are `wrong` are marked. Where `choices` are given, each caption is a menu of them; `play` returns what
    a visitor picks.
    """

    title: str
    pictures: tuple[bytes, ...]
    count: int = 0
    captions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    wrong: tuple[bool, ...] = ()
    choices: tuple[str, ...] = ()
    weight: float = 1


@dataclass(frozen=True, kw_only=True)
class LiveFrame:
    """The newest moment of a run that goes on.

    `captions` are the names of the classes that the attacker assumes, `labels` their numbers. `pictures` is one strip,
    images side by side (see `strip`). `psnr` and `psnr_to_mean` are in dB, empty without a ground truth; `baseline` is
    the mean PSNR of flat grey images. `curve` holds points of attack seconds and mean PSNR in dB, or -log10 of the
    residual without a ground truth. `progress` in [0, 1] is None where it is unknown; `sentence` says what the attack
    does now.
    """

    seconds: float
    step: int
    residual: float
    labels: tuple[int, ...]
    captions: tuple[str, ...]
    pictures: bytes
    wrong: tuple[bool, ...] = ()
    psnr: tuple[float, ...] = ()
    psnr_to_mean: tuple[float, ...] = ()
    baseline: float | None = None
    curve: tuple[tuple[float, float], ...] = ()
    progress: float | None = None
    sentence: str = ""


@dataclass(frozen=True, kw_only=True)
class Track:
    """The pictures of one attack: recorded (`run`), under way (`live`), or not there yet.

    Without pictures, `count` placeholders say what they are `waiting` for; `waiting_share` in [0, 1] is how much of
    that is done, None where it is unknown. `name` is that of its curve. `asides` are small words below each picture:
    its PSNR to the mean of its class, or what it gains against the track named `against`. `average` adds a slider that
    blends the pictures of one believed label. `gauge` adds the share of the update that is not explained at the moment
    shown, as a large number and a bar. `hide_wrong` leaves out the marks of wrong labels.
    `stream` is the address of further moments (see `ui.stream`).
    """

    title: str
    name: str
    run: RecordedRun | None = None
    live: LiveFrame | None = None
    count: int = 0
    waiting: str = ""
    waiting_share: float | None = 0.0
    asides: Asides = "none"
    against: str = ""
    average: bool = False
    gauge: bool = False
    hide_wrong: bool = False
    stream: str = ""
    weight: float = 1


@dataclass(frozen=True, kw_only=True)
class Note:
    """HTML from the app's own templates, styled by the app's style sheet."""

    title: str
    html: Markup
    weight: float = 1


Column = Still | Track | Note


@dataclass(frozen=True, kw_only=True)
class Click:
    """A choice in the menu below a picture: the column and the image, counted from 0, and the words picked."""

    column: int
    image: int
    choice: str
