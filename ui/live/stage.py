"""The stage of the page: what the client keeps, what it shares, and what the server rebuilds, from left to right.

A recording is drawn without PyTorch. While a run is under way its moments are pushed to the player, and a fragment that
reads one row of the store repeats beside it. At the end the whole page is drawn once more, and nothing repeats any
longer.
"""

from __future__ import annotations

from collections.abc import Sequence

from deepleak_core.events import UpdateShared
from deepleak_core.runs.recording import RecordedRun
from ui import player, server_view, shell
from ui.live.view import View
from ui.player import Column, Drawing, Note, Still, Track

KEEPS, SHARES, REBUILDS = "Stays on the device", "Is shared", "The server rebuilds"
CURVE, INVITES = "rebuilt", "Press Run the attack"
WIDE, SLIM = 3.0, 1.3  # weights of columns: private and rebuilt images, one size and opposite each other; and the note
HEIGHT = f"max(24rem, calc(100svh - 11.35rem - {player.ABOVE}))"  # the window below the cards and the sentence


def draw(view: View) -> None:
    """Pictures of a run under way as they arrive, else a recording, or what there is before a run."""
    if view.record is not None and view.under_way:
        from ui.live import watch  # imports the store

        watch.draw(view.record, hidden=view.hidden)
    else:
        shell.fragment(_still)(view)


def _still(view: View) -> None:
    if view.recording is None:
        from ui.live import watch

        columns = watch.before(view)
    else:
        columns = _recorded(view.recording, hidden=view.hidden)
    show(drawing(columns, autoplay=view.record is None or view.answered))


def drawing(columns: Sequence[Column], *, autoplay: bool = False) -> Drawing:
    """The columns as `show` draws them."""
    return player.drawing(columns, autoplay=autoplay, height=HEIGHT)


def show(drawn: Drawing) -> None:
    """Draw the columns; always in the same player, which goes on from a run to its recording."""
    player.show(drawn, key="attack-stage")


def _recorded(run: RecordedRun, *, hidden: bool) -> list[Column]:
    names = run.prepared.class_names
    private: Sequence[bytes] = run.truth.pictures if run.truth else ()
    captions = [names[label] for label in run.truth.labels] if run.truth else []
    kept = [client(private, captions, hidden=hidden)] if run.truth else []
    return [*kept, shared(run.shared), Track(title=REBUILDS, name=CURVE, run=run, weight=WIDE)]


def client(pictures: Sequence[bytes], names: Sequence[str], *, hidden: bool) -> Still:
    """The private images, or placeholders where they are hidden."""
    if hidden:
        return Still(title=KEEPS, pictures=(), count=len(pictures), weight=WIDE)
    return Still(title=KEEPS, pictures=tuple(pictures), captions=tuple(names), weight=WIDE)


def shared(update: UpdateShared | None) -> Note:
    """What leaves the device: its size, and a sample of its values as a picture."""
    return Note(title=SHARES, html=server_view.shared(update), weight=SLIM)
