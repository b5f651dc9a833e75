"""What is said about an outcome: its figures in one sentence, and nothing that they do not show."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from deepleak_core.events import LabelsInferred
from deepleak_core.scoring.score import what_leaked

NAMES = ("bird", "cat", "dog")


def inferred(counts: Sequence[int], order: Sequence[int], exact: bool, falsified: Sequence[int] = ()) -> LabelsInferred:
    values = tuple(map(float, counts))
    return LabelsInferred(
        strategy="zero-shot", evidence=values, real_counts=values, counts=tuple(counts), true_counts=tuple(counts),
        order=tuple(order), falsified=tuple(falsified), exact=exact, seconds=0.1,
    )  # fmt: skip


def said(psnr: Sequence[float], labels: LabelsInferred) -> str:
    return what_leaked(psnr, [False] * len(psnr), 8.0, "fedsgd", labels, NAMES)


@pytest.mark.parametrize(
    ("psnr", "words"),
    [
        ([41.0, 35.0], "All of the 2 private images were rebuilt from the shared gradient alone, like a photograph"),
        ([25.0, 12.0], "1 of the 2 private images were rebuilt from the shared gradient alone, clearly"),
        ([16.5, 16.5], "None of the 2 private images were rebuilt clearly: only a blurred trace came back (16 dB"),
        ([16.5, 6.1], "None of the 2 private images were rebuilt clearly: only a blurred trace of 1 came back (11 dB"),
        ([12.0, 6.1], "None of the 2 private images were rebuilt: what came back is hardly better than noise (9 dB"),
    ],
)
def test_the_sentence_is_that_of_its_figures(psnr: list[float], words: str) -> None:
    assert said(psnr, inferred([1, 1, 0], [0, 1], exact=True)).startswith(words)


def test_labels_made_wrong_are_named() -> None:
    told = said([16.5, 6.1], inferred([1, 1, 0], [1, 2], exact=True, falsified=(1,)))
    assert told.endswith("1 of the 2 labels the attack used was wrong: dog instead of bird.")


def test_images_fuse_where_the_labels_that_were_used_repeat_and_only_there() -> None:
    fused = "Images that share a label fused into one another."
    assert said([16.5, 6.1], inferred([0, 2, 0], [1, 1], exact=True)).endswith(fused)
    mended = inferred([0, 2, 0], [0, 1], exact=True)  # the counts are those of before
    assert fused not in said([16.5, 6.1], mended)
    assert said([16.5, 6.1], inferred([0, 2, 0], [1, 1], exact=False)).endswith(
        "Not every label was inferred correctly."
    )
