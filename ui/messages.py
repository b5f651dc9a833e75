r"""Problems and notes in sentences, and the one place where foreign text becomes part of a page.

Names of classes, folders, files, checkpoints and plug-ins, values of a link and messages of errors come from anybody.
They reach a page in three ways, in none of which anything in them is Markdown or HTML:

- in sentences, by the functions of this module: text of a template (`ui.rendering`), which escapes it
- in pieces of HTML, by the same templates
- in labels and help of Streamlit's inputs, which are Markdown always: by `plain`

`st.error`, `st.warning`, `st.caption` and their like take Markdown too. They are used for fixed words only, which
tests/ui/test_foreign_text.py checks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import streamlit as st
from markupsafe import Markup

from deepleak_core.text import shorten
from ui import pieces
from ui.rendering import render
from ui.titles import in_titles

if TYPE_CHECKING:
    from deepleak_core.runs.engine import Engine
    from deepleak_core.runs.store import RunRecord, Store

LONGEST = 600  # characters of a message; the rest of a longer one is left out
MOST = 8  # messages at a time
BREAK = "\N{WORD JOINER}"  # is not seen, and keeps what is beside it from being read as one sign
MARKS = re.compile(r"([\\`*_{}\[\]()<>#+!|~$&.=-])")
# What Streamlit replaces after Markdown has been read, when a backslash has no effect any longer: symbols and pictures
# between colons, addresses of pages and mailboxes, which become links, and arrows and dashes of several characters.
SIGNS = re.compile(r"[:@]|www(?=\\\.)|[-<>~](?=\\[-=>])", re.IGNORECASE)


def error(sentence: str) -> None:
    """Say why something cannot be done."""
    _draw([sentence], "dl-error")


def warning(sentence: str) -> None:
    """Say what a visitor should know of what is shown."""
    _draw([sentence], "dl-warning")


def warnings(remarks: Iterable[str]) -> None:
    """Every remark on what is shown."""
    for remark in remarks:
        warning(remark)


def errors(problems: Iterable[str]) -> None:
    """Every problem once, the first `MOST` of them."""
    found = list(dict.fromkeys(problems))
    further = [f"There are {len(found) - MOST} further problems."] if len(found) > MOST else []
    if found:
        _draw([*found[:MOST], *further], "dl-error")


def of_runs(*records: RunRecord) -> None:
    """Why runs failed, were interrupted, had to be started again or cannot begin, each sentence once."""
    from ui.records import hindrances  # imports PyTorch

    for message in dict.fromkeys(record.message for record in records if record.message):
        failed = any(record.status == "failed" and record.message == message for record in records)
        (error if failed else warning)(message)
    for hindrance in hindrances(*records):
        warning(hindrance)


def of_store(store: Store) -> None:
    """Once per session, what happened to the run database when it was opened."""
    if store.notice and not st.session_state.get("store_notice"):
        st.session_state.store_notice = True
        st.toast(plain(store.notice), icon=":material/database:", duration="long")


def of_engine(engine: Engine) -> None:
    """Why pictures of runs under way do not arrive at the moment, where that is so."""
    if engine.trouble:
        warning(f"The attack goes on, and its pictures follow once they can be stored. {engine.trouble}")


def note(sentence: str) -> Markup:
    """A sentence in small type, in the place of what it explains."""
    return pieces.note(_line(sentence))


def plain(text: str) -> str:
    r"""A text as Markdown that shows it as it is, in one line.

    >>> print(plain("![x](a.png)"), plain("2. of **3**"))
    \!\[x\]\(a\.png\) 2\. of \*\*3\*\*
    """
    return SIGNS.sub(lambda sign: sign[0] + BREAK, MARKS.sub(r"\\\1", _line(text)))


def _draw(sentences: Sequence[str], kind: str) -> None:
    st.html(render("messages.html", kind=kind, sentences=[_line(in_titles(sentence)) for sentence in sentences]))


def _line(text: str) -> str:
    """The text in one line of limited length; characters that do not show, or turn the direction, are escaped."""
    return shorten(" ".join(text.split()), LONGEST)
