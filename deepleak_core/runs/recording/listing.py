"""The gallery: a folder of archives that come with the app, in the order of their file names."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepleak_core.errors import DeepLeakError, UnusableRecording
from deepleak_core.runs.recording.archives import ADVICE, Archive
from deepleak_core.runs.recording.files import ENTRIES, bytes_of, described, load
from deepleak_core.runs.recording.kept import SHOWN, Page, Recording
from deepleak_core.runs.recording.strips import split
from deepleak_core.scenario import Scenario
from deepleak_core.text import listed, shorten

logger = logging.getLogger(__name__)

GALLERY = Path(__file__).parents[3] / "assets" / "gallery"  # only in a copy of the repository


@dataclass(frozen=True, kw_only=True)
class RunHead:
    """What a list of recordings shows of one run: `pictures` are its last ones, as PNG."""

    scenario: Scenario
    device: str
    seconds: float
    pictures: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class Head:
    """What a list of recordings shows of one; `size` is the archive's in bytes."""

    name: str
    title: str
    sentence: str
    page: Page
    runs: tuple[RunHead, ...]
    size: int

    @property
    def scenario(self) -> Scenario:
        """The scenario of the first run."""
        return self.runs[0].scenario

    @property
    def pictures(self) -> tuple[bytes, ...]:
        """The last pictures of the first run, as PNG."""
        return self.runs[0].pictures

    def pictures_of(self, scenario: Scenario) -> tuple[bytes, ...]:
        """The last pictures of the run of this scenario, as PNG; empty where there is none."""
        return next((run.pictures for run in self.runs if run.scenario == scenario), ())

    @property
    def seconds(self) -> float:
        """The attack time of the longest run: where the clock of a player ends, which shows all runs side by side."""
        return max(run.seconds for run in self.runs)


def gallery(folder: Path = GALLERY) -> tuple[Head, ...]:
    """Heads of the recordings in a folder, in the order of their file names; unreadable files are left out."""
    heads = []
    for path in sorted(folder.glob("*.zip")):
        try:
            heads.append(_head(path))
        except DeepLeakError as error:
            logger.warning("%s is left out of the gallery: %s", path.name, error)
    return tuple(heads)


def gallery_recording(name: str, folder: Path = GALLERY) -> Recording:
    """The recording of that name in a folder. Raises `UnusableRecording` where there is none."""
    paths = {_name_of(path): path for path in sorted(folder.glob("*.zip"))}
    if name not in paths:
        raise UnusableRecording(f"There is no recording {shorten(name)!r}; accepted are {listed(list(paths), 20)}.")
    return load(paths[name])


def _name_of(path: Path) -> str:
    """The name of a recording, from that of its file, which may begin with a number for the order.

    >>> _name_of(Path("03-one-wrong-label.zip"))
    'one-wrong-label'
    """
    return re.sub(r"^\d+-", "", path.stem)


def _head(path: Path) -> Head:
    """What a list shows of an archive, from run.json and one frame."""
    archive = Archive(bytes_of(path), ENTRIES)
    values = described(archive)
    try:
        return Head(
            name=_name_of(path),
            title=values["title"],
            sentence=values["sentence"],
            page=values["page"],
            runs=tuple(_run_head(archive, number, run) for number, run in enumerate(values["runs"])),
            size=path.stat().st_size,
        )
    except (KeyError, TypeError, IndexError, OSError) as error:
        raise UnusableRecording(f"{path.name} is no complete recording; {ADVICE}") from error


def _run_head(archive: Archive, number: int, run: dict[str, Any]) -> RunHead:
    frames = run["frames"]
    pictures = archive.read(f"frames/{number}/{len(frames) - 1:04d}.webp")
    return RunHead(
        scenario=Scenario(**run["scenario"]),
        device=run["device"],
        seconds=run["finished"]["seconds"],
        pictures=split(pictures, min(len(frames[-1]["labels"]), SHOWN)),
    )
