"""Label inference as HTML: from the last layer's gradient to integers, and every strategy beside the truth.

Both tables have the classes as columns, in the same places. Right and wrong are told by shape and sign first (a disc
with a tick, a box with a cross), by colour second. Styled by `assets/style.css`.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from deepleak_core.events import LastLayerRead, StrategyAnswered
from deepleak_core.labels.strategies import STRATEGIES
from ui.markup import ROWS, certainty

BETTER = "For random noise the network predicts something else: the counts are off. Verified, below, needs no noise."
COLUMNS = 24  # classes of a larger vocabulary that get a column
LETTERS = 18  # of a class's name that there is room for


def columns(read: LastLayerRead, answers: Sequence[StrategyAnswered]) -> list[int]:
    """The classes worth a column: all of a small vocabulary, else those in the batch or named by a strategy."""
    classes = range(len(read.counts))
    if len(classes) <= ROWS:
        return list(classes)
    claimed = [c for c in classes if not read.true_counts[c] and any(answer.counts[c] for answer in answers)]
    claimed.sort(key=lambda c: sum(answer.counts[c] for answer in answers), reverse=True)
    return sorted(([c for c in classes if read.true_counts[c]] + claimed)[:COLUMNS])


def steps(
    read: LastLayerRead, class_names: Sequence[str], shown: Sequence[int], answers: Sequence[StrategyAnswered] = ()
) -> str:
    """Four steps from an update to labels, then the truth; the first two share a scale: their difference counts.

    Where these steps miss and the project's own strategy does not, a line says so.
    """
    top = max(*(abs(value) for value in read.gradient), *read.probabilities, 1e-12)
    total = sum(read.true_counts)
    right = sum(map(min, read.counts, read.true_counts))
    rows = [
        _row("Gradient", "of the last layer", [_bar(read.gradient[c], top) for c in shown], "down: in the batch"),
        _row("Noise", "what is predicted anyway", [_bar(read.probabilities[c], top) for c in shown], ""),
        _row("Noise - gradient", f"times {total} images", [_real(read.real_counts[c]) for c in shown], ""),
        _row("Integers", "largest first", [_mark(read.counts[c], read.true_counts[c], read.counts[c]) for c in shown],
             _verdict(right, total)),
        _row("Truth", "", [_plain(read.true_counts[c]) for c in shown], f"sum {total}"),
    ]  # fmt: skip
    better = right < total and any(answer.strategy == "verified" and answer.exact for answer in answers)
    return _table("dl-steps", rows, class_names, shown, f'<p class="dl-note">{BETTER}</p>' if better else "")


def matrix(
    answers: Sequence[StrategyAnswered], class_names: Sequence[str], shown: Sequence[int], *, awaited: str = ""
) -> str:
    """Strategies by classes: the integer each strategy gives, hit or miss, its verdict and its time.

    A strategy that has not answered yet has a row that says what is `awaited`, or none without such words.
    """
    truth, given = answers[0].true_counts, {answer.strategy: answer for answer in answers}
    rows = [_row("Truth", "", [_plain(truth[c]) for c in shown], "")]
    for name, strategy in STRATEGIES.items():
        about = f"{strategy.summary} {strategy.source}"
        if name not in given:
            if awaited:
                rows.append(_row(strategy.title, awaited, [_nothing()] * len(shown), "", title=about))
            continue
        answer = given[name]
        cells = [_mark(answer.counts[c], truth[c], answer.counts[c]) for c in shown]
        unseen = sum(answer.counts) - sum(answer.counts[c] for c in shown)
        badge = ""
        if answer.proven:
            badge = "<em>proven</em> " if answer.exact else "<em class='dl-false'>proven, wrongly</em> "
        elif answer.confidence:
            badge = "<em class='dl-estimated'>estimated</em> "
        tail = f"{_verdict(answer.found, sum(truth))}<small>{badge}{_seconds(answer.seconds)}</small>"
        doubts = "" if answer.proven else certainty(False, answer.confidence, class_names)
        note = " ".join(filter(None, (answer.note, doubts, f"{unseen} in further classes" if unseen else "")))
        rows.append(_row(strategy.title, note, cells, tail, title=about))
    key = (
        '<p class="dl-note dl-key"><b class="dl-hit">2</b> as many as there are '
        '<b class="dl-miss">1</b> too many or too few</p>'
    )
    return _table("dl-matrix", rows, class_names, shown, key)


def waiting(words: str) -> str:
    """Why there is no answer yet, in about the room of one."""
    return f'<p class="dl-waiting">{html.escape(words)}</p>'


# ------------------------------------------------------------------------------------------------ the pieces


def _table(kind: str, rows: Sequence[str], class_names: Sequence[str], shown: Sequence[int], below: str) -> str:
    crowded = " dl-crowded" if len(shown) > ROWS else ""
    titles = [html.escape(class_names[c].replace("_", " ")) for c in shown]
    letters = min(LETTERS, max(map(len, titles)))
    names = "".join(f'<th title="{title}"><span>{title}</span></th>' for title in titles)
    more = len(class_names) - len(shown)
    note = f'<p class="dl-note">and {more:,} further classes</p>' if more else ""
    return (
        f'<div class="dl-lab"><table class="{kind}{crowded}" style="--letters:{letters}">'
        f"<thead><tr><th></th>{names}<th></th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>{below}{note}"
    )


def _row(head: str, words: str, cells: Sequence[str], tail: str, *, title: str = "") -> str:
    small = f"<small>{html.escape(words)}</small>" if words else ""
    about = f' title="{html.escape(title)}"' if title else ""
    middle = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr><th{about}>{html.escape(head)}{small}</th>{middle}<td>{tail}</td></tr>"


def _bar(value: float, top: float) -> str:
    """A bar from the middle line, up for what is above zero, down for what is below."""
    side = "dl-below" if value < 0 else "dl-above"
    bar = f'<u class="{side}" style="height:{50 * abs(value) / top:.1f}%"></u>'
    return f'<i class="dl-column" title="{value:.4g}">{bar}</i>'


def _real(value: float) -> str:
    faint = ' class="dl-faint"' if abs(value) < 0.5 else ""
    return f"<span{faint}>{round(value, 2) + 0.0:.2f}</span>"


def _plain(count: int) -> str:
    return f"<b>{count}</b>" if count else _nothing()


def _mark(count: int, truth: int, shown: int) -> str:
    """A class of which `count` were found: a disc where that is true, a box where it is not, `shown` inside."""
    if not count and not truth:
        return _nothing()
    kind = "hit" if count == truth else "miss"
    return f'<b class="dl-{kind}" title="{count} found, {truth} in the batch">{shown}</b>'


def _nothing() -> str:
    return '<span class="dl-faint">·</span>'


def _verdict(right: int, total: int) -> str:
    return '<b class="dl-all">all right</b>' if right == total else f'<b class="dl-part">{right} of {total}</b>'


def _seconds(seconds: float) -> str:
    """
    >>> _seconds(0.00312), _seconds(0.0004), _seconds(2.34)
    ('3 ms', 'under 1 ms', '2.3 s')
    """
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.001 else "under 1 ms"
