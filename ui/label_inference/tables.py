"""Label inference as tables: from the last layer's gradient to label counts, and every strategy beside the truth.

Both tables have the classes as columns, in the same places. Right and wrong differ by shape and sign first (a disc with
a tick, a box with a cross), by colour second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from deepleak_core.events import LastLayerRead, StrategyAnswered
from deepleak_core.labels.strategies import STRATEGIES
from ui.label_inference.chips import badge
from ui.rendering import render
from ui.server_view import ROWS, certainty, two_digits

NOISE_MISLEADS = "The network predicts something else for noise than for the images: the counts are off."
VERIFIED_HELPS = f"{NOISE_MISLEADS} Verified, below, needs no noise."
COLUMNS = 24  # classes of a larger vocabulary that get a column
LETTERS = 18  # letters of a class name that fit


@dataclass(frozen=True)
class _Cell:
    kind: str  # bar, real, count, hit, miss or nothing
    value: float = 0.0
    words: str = ""
    height: float = 0.0  # of a bar, in percent of half the cell
    hint: str = ""


NOTHING = _Cell("nothing")


@dataclass(frozen=True)
class _Row:
    head: str
    words: str
    cells: tuple[_Cell, ...]
    tail: str = ""
    correct: tuple[int, int] | None = None  # labels found, of so many
    badge: str = ""
    badge_kind: str = ""
    seconds: str = ""
    about: str = ""

    @property
    def all_correct(self) -> bool:
        return self.correct is not None and self.correct[0] == self.correct[1]

    @property
    def verdict(self) -> str:
        if self.correct is None:
            return ""
        return "all correct" if self.all_correct else "{} of {}".format(*self.correct)


def columns(read: LastLayerRead, answers: Sequence[StrategyAnswered]) -> list[int]:
    """The classes that get a column: all of a small vocabulary, else those in the batch or named by a strategy."""
    classes = range(len(read.counts))
    if len(classes) <= ROWS:
        return list(classes)
    claimed = [c for c in classes if not read.true_counts[c] and any(answer.counts[c] for answer in answers)]
    claimed.sort(key=lambda c: sum(answer.counts[c] for answer in answers), reverse=True)
    return sorted(([c for c in classes if read.true_counts[c]] + claimed)[:COLUMNS])


def steps(
    read: LastLayerRead, class_names: Sequence[str], shown: Sequence[int], answers: Sequence[StrategyAnswered] = ()
) -> Markup:
    """Four steps from an update to label counts, then the truth; the first two rows have one scale.

    Where these steps miss and the strategy Verified does not, a line says so.
    """
    top = max(*(abs(value) for value in read.gradient), *read.probabilities, 1e-12)
    total, right = sum(read.true_counts), sum(map(min, read.counts, read.true_counts))
    rows = [
        _Row("Gradient", "of the last layer", _bars(read.gradient, shown, top), "negative = in the batch"),
        _Row("Baseline", "prediction on noise", _bars(read.probabilities, shown, top)),
        _Row("Baseline - gradient", f"times {total} images",
             tuple(_Cell("real", read.real_counts[c], two_digits(read.real_counts[c])) for c in shown)),
        _Row("Rounded counts", "largest first", _marks(read.counts, read.true_counts, shown), correct=(right, total)),
        _Row("Truth", "", _counts(read.true_counts, shown), f"sum {total}"),
    ]  # fmt: skip
    verified = any(answer.strategy == "verified" and answer.exact for answer in answers)
    note = VERIFIED_HELPS if right < total and verified else ""
    return _table("dl-steps", rows, class_names, shown, note=note)


def matrix(
    answers: Sequence[StrategyAnswered], class_names: Sequence[str], shown: Sequence[int], *, awaited: str = ""
) -> Markup:
    """Strategies by classes: the count each strategy gives, correct or wrong, how many it has right, and its time.

    A strategy that has not answered yet has a row that says what is `awaited`, or none without such words.
    """
    truth, given = answers[0].true_counts, {answer.strategy: answer for answer in answers}
    rows = [_Row("Truth", "", _counts(truth, shown))]
    for name, strategy in STRATEGIES.items():
        about = f"{strategy.summary} {strategy.source}"
        if name in given:
            rows.append(_answer(strategy.title, given[name], class_names, shown, about))
        elif awaited:
            rows.append(_Row(strategy.title, awaited, (NOTHING,) * len(shown), about=about))
    return _table("dl-matrix", rows, class_names, shown, key=True)


def _answer(title: str, answer: StrategyAnswered, class_names: Sequence[str], shown: Sequence[int], about: str) -> _Row:
    words, kind = badge(answer)
    unseen = sum(answer.counts) - sum(answer.counts[c] for c in shown)
    doubts = "" if answer.certified else certainty(False, answer.confidence, class_names)
    note = " ".join(filter(None, (answer.note, doubts, f"{unseen} in further classes" if unseen else "")))
    return _Row(
        title, note, _marks(answer.counts, answer.true_counts, shown), badge=words, badge_kind=kind,
        seconds=_seconds(answer.seconds), about=about, correct=(answer.found, sum(answer.true_counts)),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ the pieces


def _table(
    kind: str,
    rows: Sequence[_Row],
    class_names: Sequence[str],
    shown: Sequence[int],
    *,
    note: str = "",
    key: bool = False,
) -> Markup:
    names = [class_names[c].replace("_", " ") for c in shown]
    return render(
        "label_table.html", kind=kind, crowded=len(shown) > ROWS, letters=min(LETTERS, max(map(len, names))),
        names=names, rows=rows, key=key, note=note, left_out=len(class_names) - len(shown),
    )  # fmt: skip


def _bars(values: Sequence[float], shown: Sequence[int], top: float) -> tuple[_Cell, ...]:
    return tuple(_Cell("bar", values[c], height=50 * abs(values[c]) / top) for c in shown)


def _counts(counts: Sequence[int], shown: Sequence[int]) -> tuple[_Cell, ...]:
    return tuple(_Cell("count", words=str(counts[c])) if counts[c] else NOTHING for c in shown)


def _marks(counts: Sequence[int], truth: Sequence[int], shown: Sequence[int]) -> tuple[_Cell, ...]:
    return tuple(_mark(counts[c], truth[c]) for c in shown)


def _mark(count: int, truth: int) -> _Cell:
    if not count and not truth:
        return NOTHING
    kind = "hit" if count == truth else "miss"
    return _Cell(kind, words=str(count), hint=f"{count} found, {truth} in the batch")


def _seconds(seconds: float) -> str:
    """A time in words.

    >>> _seconds(0.00312), _seconds(0.0004), _seconds(2.34)
    ('3 ms', 'under 1 ms', '2.3 s')
    """
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.001 else "under 1 ms"
