"""The steps of the guided tour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """One sentence about what `page` shows when its address has the parameters `query`."""

    page: str  # file name in pages/, without ending
    sentence: str
    query: Mapping[str, str] = field(default_factory=dict)


STEPS = (
    Step("live_attack", "The photos stay on the client, only a gradient is shared. The server rebuilds the photos."),
    Step(
        "label_inference",
        "First the server reads which classes are in the batch: they stand out in the update.",
        {"indices": "0,1,4,5"},
    ),
    Step("one_wrong_label", "The attack needs the right labels: a single wrong one makes every image worse."),
    Step("same_label_fusion", "Images that share a label come back as their blend, until they are separated."),
    Step("gallery", "Shared weights, trained networks, larger photos: recorded attacks, ready to play."),
    Step("how_it_works", "Why all this works, and what helps against it."),
)
