"""HTML of what the server sees and what the attack did: the update, the inferred labels, separated features, stages."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from deepleak_core.events import FeaturesSeparated, LabelsInferred, Stage, UpdateShared, png
from deepleak_core.labels.wrong_labels import instead_of
from ui.rendering import base64_of, render

DOUBTFUL = 0.8  # confidence below which a class is named as uncertain
ROWS = 12  # classes of a larger vocabulary that are listed
CHIPS = 24  # classes that get a chip
TIMES = "\N{MULTIPLICATION SIGN}"

CERTIFIED = "Certified: only these label counts fit the gradient."
CERTIFIED_BY_COPIES = "Then certified with the images: only with these labels do the copies match the whole update."


# ------------------------------------------------------------------------------------------------- the update


@dataclass(frozen=True)
class _Layer:
    name: str
    size: int
    norm: float
    height: float  # of its bar, in percent


def update(shared: UpdateShared) -> Markup:
    """The size of the update in words, and the norm of each layer's part as a strip of bars."""
    size = _bytes(shared.bytes)
    return render("update.html", numbers=sum(shared.sizes), layers=_layers(shared), what=_what(shared), size=size)


def _layers(shared: UpdateShared) -> list[_Layer]:
    top = max(shared.norms) or 1.0
    return [
        _Layer(name, size, norm, max(2.0, 100 * norm / top))
        for name, size, norm in zip(shared.layers, shared.sizes, shared.norms, strict=True)
    ]


def _what(shared: UpdateShared) -> str:
    steps = f"{shared.local_steps} local step{'s' if shared.local_steps > 1 else ''}"
    return "A gradient" if shared.mode == "fedsgd" else f"Weights after {steps}"


def no_labels() -> Markup:
    """The space of the inferred labels before there are any."""
    return render("no_labels.html")


def shared(update: UpdateShared | None) -> Markup:
    """What leaves the device: how much, and a sample of its values as grey values; nothing without an update.

    Runs that have no sample of values show the norms of the layers.
    """
    if update is None:
        return render("shared.html", size="", picture="", shown=0, numbers=0, what="", layers=())
    side = math.isqrt(len(update.sample))
    return render(
        "shared.html",
        size=_bytes(update.bytes),
        picture=base64_of(_grey_values(update.sample, side)) if side else "",
        shown=side * side,
        numbers=sum(update.sizes),
        what=_what(update),
        layers=() if side else _layers(update),
    )


def _grey_values(sample: Sequence[int], side: int) -> bytes:
    """Values from 0 to 255 as a square picture, as PNG bytes."""
    return png(np.array(sample[: side * side], dtype=np.float32).reshape(1, side, side) / np.float32(255))


def _bytes(size: int) -> str:
    """A size in bytes, in words.

    >>> _bytes(1_003_048), _bytes(812)
    ('1.0 MB', '0.8 kB')
    """
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


# ----------------------------------------------------------------------------------------------------- labels


@dataclass(frozen=True)
class _Chip:
    words: str
    wrong: bool = False
    hint: str = ""


@dataclass(frozen=True)
class _Row:
    name: str
    evidence: float
    width: float  # of its bar, in percent of half the column
    estimate: str
    counts: tuple[int, ...]
    truth: str
    present: bool


def labels(
    inferred: LabelsInferred,
    used: Sequence[int],
    class_names: Sequence[str],
    *,
    true_counts: Sequence[int] | None,
    certified_copies: bool = False,
) -> Markup:
    """The inferred labels in one line, and for each class the numbers behind them on request.

    `used` are the labels that the attack uses, ascending: others than those inferred where they were changed on
    purpose or corrected. Without `true_counts`, as there is no ground truth or it is hidden, nothing is called wrong.
    `certified_copies` says that images with the labels in use reproduce the update to rounding, which holds for both.
    """
    changed = tuple(used) != inferred.found
    shown = listed_classes(inferred, used, true_counts)
    found = sum(map(min, inferred.counts, true_counts)) if true_counts is not None else 0
    total = sum(inferred.counts)
    return render(
        "labels.html",
        chips=_chips(inferred.counts, class_names, true_counts),
        verdict="" if true_counts is None else "all correct" if found == total else f"{found} of {total} correct",
        all_correct=found == total,
        note=_label_note(inferred, used, class_names, certified_copies),
        changed=changed,
        truth_column=true_counts is not None,
        rows=_rows(inferred, used, class_names, shown, true_counts),
        left_out=len(inferred.counts) - len(shown),
    )


def _chips(counts: Sequence[int], class_names: Sequence[str], true_counts: Sequence[int] | None) -> list[_Chip]:
    chips = []
    for label, count in enumerate(counts):
        if count:
            words = class_names[label] + (f" {TIMES} {count}" if count > 1 else "")
            true = count if true_counts is None else true_counts[label]
            chips.append(_Chip(words, count != true, f"{true} in the batch"))
    if len(chips) > CHIPS:
        chips[CHIPS:] = [_Chip(f"and {len(chips) - CHIPS} further classes")]
    return chips


def _label_note(
    inferred: LabelsInferred, used: Sequence[int], class_names: Sequence[str], certified_copies: bool
) -> str:
    by_copies = certified_copies and not inferred.certified
    confidence = () if by_copies else inferred.confidence
    notes = [inferred.note, certainty(inferred.certified, confidence, class_names)]
    if tuple(used) != inferred.found:
        why = "Changed on purpose" if tuple(used) == inferred.order else "Corrected by the attack"
        notes.append(f"{why}: {instead_of(inferred.found, used, class_names)}.")
    if by_copies:
        notes.append(CERTIFIED_BY_COPIES)
    return " ".join(filter(None, notes))


def _rows(
    inferred: LabelsInferred,
    used: Sequence[int],
    class_names: Sequence[str],
    shown: Sequence[int],
    true_counts: Sequence[int] | None,
) -> list[_Row]:
    top = max((abs(inferred.evidence[c]) for c in shown), default=0.0) or 1.0
    in_use, changed = Counter(used), tuple(used) != inferred.found
    rows = []
    for c in shown:
        count, last = inferred.counts[c], in_use[c]
        truth = "" if true_counts is None else f"{true_counts[c] or '·'}{'' if true_counts[c] == last else ' ✗'}"
        rows.append(
            _Row(
                name=class_names[c],
                evidence=inferred.evidence[c],
                width=50 * abs(inferred.evidence[c]) / top,
                estimate=two_digits(inferred.real_counts[c]),
                counts=(count, last) if changed else (count,),
                truth=truth,
                present=last > 0,
            )
        )
    return rows


def listed_classes(inferred: LabelsInferred, used: Sequence[int], true_counts: Sequence[int] | None) -> list[int]:
    """The classes of the table: all of a small vocabulary, else those found, used or true and the nearest misses."""
    classes = range(len(inferred.counts))
    if len(classes) <= ROWS:
        return list(classes)
    true = true_counts or [0] * len(classes)
    sure = [c for c in classes if inferred.counts[c] or true[c] or c in used]
    near = sorted(set(classes) - set(sure), key=lambda c: inferred.real_counts[c], reverse=True)
    return sorted(sure + near[: max(2, ROWS - len(sure))], key=lambda c: (-inferred.real_counts[c], c))


def certainty(certified: bool, confidence: Sequence[float], class_names: Sequence[str]) -> str:
    """Whether counts are certified, or which are least certain; empty where the strategy gives no confidence.

    >>> certainty(False, (0.95, 0.4, 0.3), ("cat", "dog", "ship"))
    'Least certain: ship (30 %), dog (40 %).'
    """
    if certified:
        return CERTIFIED
    doubtful = sorted((sure, name) for sure, name in zip(confidence, class_names, strict=False) if sure < DOUBTFUL)
    named = ", ".join(f"{name} ({100 * sure:.0f} %)" for sure, name in doubtful[:3])
    return f"Least certain: {named}." if named else ""


def two_digits(value: float) -> str:
    """A number with two digits after the point.

    >>> two_digits(1.006), two_digits(-0.001)
    ('1.01', '0.00')
    """
    return f"{round(value, 2) + 0.0:.2f}"


# ------------------------------------------------------------------------------------------ the attack's own steps


@dataclass(frozen=True)
class _Cell:
    opacity: float
    words: str


@dataclass(frozen=True)
class _Map:
    words: str
    cells: tuple[_Cell, ...]


def separated(features: FeaturesSeparated, class_names: Sequence[str]) -> Markup:
    """Cosine similarities of the images' features as two maps: in the update, and after separation."""
    titles = [class_names[label] for label in features.labels]
    maps = [_Map("in the update", _cells(features.before, titles)), _Map("separated", _cells(features.after, titles))]
    return render("separated.html", maps=maps, size=len(titles))


def _cells(values: Sequence[float], titles: Sequence[str]) -> tuple[_Cell, ...]:
    cells = []
    for place, value in enumerate(values):
        a, b = divmod(place, len(titles))
        cells.append(_Cell(max(0.04, min(1.0, value)), f"{titles[a]} and {titles[b]}: {value:.2f}"))
    return tuple(cells)


def stages(happened: Sequence[Stage]) -> Markup:
    """What the attack did, stage by stage, each with its time from the start of the attack."""
    return render("stages.html", stages=happened)
