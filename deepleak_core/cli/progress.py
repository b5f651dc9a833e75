"""A progress bar on stderr, and Ctrl-C as a request to stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from deepleak_core.cli.output import plain
from deepleak_core.events import Downloading, Event, Snapshot


class Bar:
    """A progress bar with a description and a state, both texts."""

    def __init__(self, progress: Progress):
        self._progress = progress
        self._task = progress.add_task("preparing", total=1.0, state="")

    def show(self, description: str, done: float | None, state: str = "") -> None:
        """Show what is being done; `done` is in [0, 1], None where it is unknown."""
        self._progress.update(self._task, description=plain(description), completed=done, state=plain(state))

    def show_event(self, event: Event) -> None:
        """Show a download or a snapshot; other events change nothing."""
        if isinstance(event, Downloading):
            done = event.bytes_done / event.bytes_total if event.bytes_total else None
            self.show(f"downloading {event.dataset}", done, f"{event.bytes_done / 1e6:.0f} MB")
        elif isinstance(event, Snapshot):
            quality = f"{event.score.mean_psnr:.1f} dB, " if event.score else ""
            state = f"iteration {event.step}, {quality}residual {event.residual:.2g}"
            self.show("reconstructing", event.progress, state)


@contextmanager
def progress_bar() -> Iterator[Bar]:
    """A progress bar on stderr inside this context; nothing is drawn where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}", markup=False),
    )
    shared = sys.stdout.isatty()  # lines printed meanwhile go above the bar; into a file they go directly
    off = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=off, redirect_stdout=shared) as progress:
        yield Bar(progress)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks the work to stop and keep what there is; a second one raises `KeyboardInterrupt`.

    Yields the function that says whether it was pressed.
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
