"""The column of a batch's true mean images, which blends are compared with. Needs no PyTorch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from deepleak_core.events import GroundTruthKnown
from deepleak_core.scoring.pictures import mean_pictures
from ui.player import Still

WEIGHT = 1.5  # of the column


def true_means(
    labels: Sequence[Hashable], truth: GroundTruthKnown | None, class_names: Sequence[str]
) -> tuple[Still, ...]:
    """The mean image of each class that repeats among `labels`, hidden without `truth`; none without repeats."""
    repeated = sum(count > 1 for count in Counter(labels).values())
    if not repeated:
        return ()
    found = mean_pictures(truth, class_names) if truth else []
    pictures, captions, counts = zip(*found, strict=True) if found else ((), (), ())
    notes = tuple(f"mean of {count}" for count in counts)
    return (Still(title="True mean", pictures=pictures, count=repeated, captions=captions, notes=notes, weight=WEIGHT),)
