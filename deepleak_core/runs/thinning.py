"""Keep fewer moments of a run where their pictures would take too much.

An attack shows up to eight moments a second. Those of 64 images of 224 pixels would be 23 GB after 300 seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deepleak_core.events import Event, Finished, Snapshot, Stage


def thinned(events: Iterable[Event], most: float) -> Iterator[Event]:
    """The events of a run without some of its snapshots.

    Half of the space goes to whichever come first, the other half is given out evenly over the progress of the attack.
    The first snapshot and the last one are always there. In place of the first that is left out, a stage says so.

    Args:
        events: What happens in a run, in order.
        most: Bytes that all pictures may take, uncompressed, besides the last ones; as PNG noise takes 4 % more.
    """
    spent, held, whole = 0, None, True
    for event in events:
        if isinstance(event, Snapshot):
            size = event.images.size
            if spent and spent + size > most * (1 + (event.progress or 0)) / 2:
                held = event
                if whole:
                    whole = False
                    yield _announced(event, most)
                continue
            spent, held = spent + size, None
        elif isinstance(event, Finished) and held is not None:
            yield held
        yield event


def _announced(first: Snapshot, most: float) -> Stage:
    """What a viewer is told where moments begin to be left out, `first` the first of them."""
    sentence = f"Fewer moments are kept from here on: pictures of one run take {most / 1e6:g} MB at most."
    return Stage(name="Fewer moments", sentence=sentence, step=first.step, seconds=first.seconds)
