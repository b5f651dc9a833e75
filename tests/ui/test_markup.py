"""The app's own HTML: what it shows, and that nothing given to it becomes markup."""

from __future__ import annotations

from dataclasses import replace

from deepleak_core.events import LabelsInferred, UpdateShared
from ui import markup

PNG = b"\x89PNG"


def inferred(counts: list[int], true_counts: list[int], real: list[float] | None = None) -> LabelsInferred:
    real = real or [float(count) for count in counts]
    order = tuple(label for label, count in enumerate(counts) for _ in range(count))
    return LabelsInferred(
        strategy="zero-shot", evidence=tuple(-value for value in real), real_counts=tuple(real), counts=tuple(counts),
        true_counts=tuple(true_counts), order=order, falsified=(), exact=counts == true_counts, seconds=0.1,
    )  # fmt: skip


def test_names_of_classes_are_never_markup() -> None:
    name = "<img src=x onerror=alert(1)>"
    shared = UpdateShared(
        mode="fedsgd", batch_size=1, local_steps=0, layers=(name,), sizes=(3,), norms=(1.0,), bytes=12
    )
    pieces = [
        markup.thumbnails([PNG], [name]),
        markup.rebuilt([PNG], [name], [20.0], [True]),
        markup.labels(inferred([1, 0], [1, 0]), [1], [name, name], suspense=False),
        markup.update(shared),
        markup.nothing_shared([name]),
        markup.headline(name),
        markup.note(name),
        markup.progress(0.5, name, name),
    ]
    assert not [piece for piece in pieces if name in piece]


def test_a_picture_says_its_label_and_quality_and_marks_a_wrong_label() -> None:
    right, wrong = markup.rebuilt([PNG, PNG], ["cat", "dog"], [31.26, 12.0], [False, True]).split("</figure>")[:2]
    assert "cat" in right and "31.3" in right and "dl-photo" in right and "dl-wrong" not in right
    assert "dog" in wrong and "12.0" in wrong and "dl-poor" in wrong and "dl-wrong" in wrong


def test_a_large_batch_is_cut_short_and_says_so() -> None:
    grid = markup.rebuilt([PNG] * 100, ["cat"] * 100, [10.0] * 100)
    assert grid.count("<img") == markup.SHOWN and "and 36 more" in grid


def test_of_many_classes_the_interesting_ones_are_listed() -> None:
    counts, truth, real = [0] * 1000, [0] * 1000, [0.0] * 1000
    counts[7], truth[9], real[7], real[9], real[500] = 1, 1, 0.9, 0.2, 0.3  # 7 taken for 9, 500 nearly taken
    shown = markup.interesting(inferred(counts, truth, real), [7, 800])
    assert len(shown) == markup.ROWS and shown[:3] == [7, 500, 9] and 800 in shown
    assert markup.interesting(inferred([0, 1], [1, 0]), [1]) == [0, 1]


def test_labels_that_are_not_those_inferred_are_told_beside_them() -> None:
    found, names = inferred([2, 0], [1, 1]), ["cat", "dog"]
    mended = markup.labels(found, [0, 1], names, suspense=False)
    assert "<th>used</th>" in mended and "✗" not in mended
    assert "Mended by the attack: dog instead of cat." in mended
    spoilt = replace(inferred([1, 1], [1, 1]), order=(0, 0), falsified=(1,))
    told = markup.labels(spoilt, spoilt.order, names, suspense=False)
    assert told.count("1 ✗") == 2 and "Made wrong on purpose: cat instead of dog." in told


def test_suspense_hides_the_truth() -> None:
    found, names = inferred([2, 0], [1, 1]), ["cat", "dog"]
    open_table = markup.labels(found, [0, 0], names, suspense=False)
    assert "1 ✗" in open_table and "used" not in open_table
    assert "✗" not in markup.labels(found, [0, 0], names, suspense=True)
    assert "cat" not in markup.hidden(2) and markup.hidden(2).count("dl-tile") == 2
