"""Small events that tests of widgets share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepleak_core.events import LabelsInferred, LastLayerRead, StrategyAnswered

PNG = b"\x89PNG"


def inferred(counts: Sequence[int], real: Sequence[float] | None = None, **values: Any) -> LabelsInferred:
    """Label inference with these counts."""
    real = tuple(real or map(float, counts))
    order = tuple(label for label, count in enumerate(counts) for _ in range(count))
    common = {"strategy": "zero-shot", "counts": tuple(counts), "order": order, "falsified": (), "seconds": 0.1}
    return LabelsInferred(**common | {"evidence": tuple(-v for v in real), "real_counts": real} | values)


def read(counts: Sequence[int], truth: Sequence[int]) -> LastLayerRead:
    """The steps from an update to these counts."""
    return LastLayerRead(
        gradient=(-0.2,) * len(counts), probabilities=(0.1,) * len(counts), real_counts=tuple(map(float, counts)),
        counts=tuple(counts), true_counts=tuple(truth),
    )  # fmt: skip


def answered(counts: Sequence[int], truth: Sequence[int], **values: Any) -> StrategyAnswered:
    """A strategy's answer."""
    common: dict[str, Any] = {"strategy": "idlg", "certified": False, "note": "", "seconds": 0.002}
    return StrategyAnswered(counts=tuple(counts), true_counts=tuple(truth), **common | values)
