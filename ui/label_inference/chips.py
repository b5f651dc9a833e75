"""The labels that each strategy infers, as chips in one line; a wrong count says what the true one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from deepleak_core.events import StrategyAnswered
from deepleak_core.labels.strategies import STRATEGIES
from ui.rendering import render
from ui.server_view import TIMES

CHIPS = 16  # classes of one answer that get a chip


@dataclass(frozen=True)
class _Chip:
    words: str
    wrong: bool


@dataclass(frozen=True)
class _Line:
    title: str
    about: str
    chips: tuple[_Chip, ...] = ()
    further: int = 0  # classes without a chip
    verdict: str = ""
    correct: bool = False
    badge: str = ""
    badge_kind: str = ""
    awaited: str = ""


def answers(given: Sequence[StrategyAnswered], class_names: Sequence[str], *, awaited: str = "") -> Markup:
    """A line for each strategy; one that has not answered yet says what is `awaited`, or is left out without it."""
    found = {answer.strategy: answer for answer in given}
    lines = []
    for name, strategy in STRATEGIES.items():
        about = f"{strategy.summary} {strategy.source}"
        if name in found:
            lines.append(_line(strategy.title, about, found[name], class_names))
        elif awaited:
            lines.append(_Line(strategy.title, about, awaited=awaited))
    return render("answers.html", lines=lines)


def badge(answer: StrategyAnswered) -> tuple[str, str]:
    """What a strategy says of its own answer, and the style of that: certified, estimated or nothing."""
    if answer.certified:
        return ("certified", "") if answer.exact else ("certified, but wrong", "dl-false")
    return ("estimated", "dl-estimated") if answer.confidence else ("", "")


def _line(title: str, about: str, answer: StrategyAnswered, class_names: Sequence[str]) -> _Line:
    named = [c for c in range(len(class_names)) if answer.counts[c] or answer.true_counts[c]]
    named.sort(key=lambda c: answer.counts[c] == answer.true_counts[c])  # errors first: they are never left out
    kept = sorted(named[:CHIPS])
    words, kind = badge(answer)
    return _Line(
        title, about, tuple(_chip(class_names[c], answer.counts[c], answer.true_counts[c]) for c in kept),
        further=len(named) - len(kept),
        verdict="all correct" if answer.exact else f"{answer.found} of {sum(answer.true_counts)}",
        correct=answer.exact, badge=words, badge_kind=kind,
    )  # fmt: skip


def _chip(name: str, count: int, true: int) -> _Chip:
    """A class and its count; both counts where they differ.

    >>> _chip("cat", 1, 1).words, _chip("cat", 1, 4).words
    ('cat', 'cat 1, true 4')
    """
    name = name.replace("_", " ")
    if count != true:
        return _Chip(f"{name} {count}, true {true}", wrong=True)
    return _Chip(f"{name} {TIMES} {count}" if count > 1 else name, wrong=False)
