"""Small pieces of HTML that every page uses: headline, numbered steps, notes, progress bars."""

from __future__ import annotations

import time

from markupsafe import Markup

from ui.rendering import joined, render

MOST_LETTERS = 130  # of a sentence in the usual type, which then fits into the first row


def headline(sentence: str) -> Markup:
    """The sentence at the top of a page; smaller where it is very long."""
    return render("headline.html", sentence=sentence, long=len(sentence) > MOST_LETTERS)


def when(created: float) -> str:
    """Before a sentence about a run that answered the same question earlier: when that was, in local time."""
    return time.strftime("Run here at %H:%M. ", time.localtime(created))


def step(number: int, title: str, *content: Markup) -> Markup:
    """A numbered heading with its content below."""
    return render("step.html", number=number, title=title, content=joined(content))


def note(words: str) -> Markup:
    """A small remark; it keeps its space where there are no words."""
    return render("paragraph.html", kind="dl-note", words=words)


def caption(words: str) -> Markup:
    """What a figure shows, below it."""
    return render("paragraph.html", kind="dl-caption", words=words)


def waiting(words: str) -> Markup:
    """Why there is no answer yet, in about the space of one."""
    return render("paragraph.html", kind="dl-waiting", words=words)


def progress(done: float | None, left: str, right: str = "", *, hint: str = "") -> Markup:
    """A progress bar with words above it, always of the same height; `done` in [0, 1], None where it is unknown."""
    return render("progress.html", done=done, left=left, right=right, hint=hint)
