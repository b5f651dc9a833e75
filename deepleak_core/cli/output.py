"""Output of commands: text and tables on stdout, files that are checked before the work starts."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from deepleak_core.cli.status import Failed, UnusableOption
from deepleak_core.text import printable, shorten

LONGEST_LINE = 600  # characters of a refusal, which may quote input of any length


def plain(text: str) -> str:
    r"""A text with every character escaped that a terminal might obey; line breaks stay.

    >>> plain("cat\x1b[31m")
    'cat\\x1b[31m'
    """
    return "\n".join(map(printable, text.split("\n")))


def one_line(text: str) -> str:
    r"""A text as one line of at most `LONGEST_LINE` characters.

    >>> one_line("It does\nnot fit.")
    'It does not fit.'
    """
    line = plain(" ".join(text.split()))
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[: half - 3]} ... {line[2 - half :]}"


class _OneLine(logging.Formatter):
    """Log records as one line each, without tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(record.getMessage())


@contextmanager
def logged_in_lines() -> Iterator[None]:
    """Print warnings of the package to stderr, one line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logger = logging.getLogger("deepleak_core")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def say(text: str) -> None:
    """Print a line to stdout; class names and file names in it are no markup and no control codes."""
    Console(markup=False, highlight=False).print(plain(text))


def show_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to stdout. Its first column is never cut short, so names in it can be copied."""
    table = Table(*heads, title=plain(title), title_justify="left", box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    table.columns[0].overflow = "fold"
    for row in rows:
        table.add_row(*map(plain, row))
    Console(markup=False, highlight=False).print(table)


# --------------------------------------------------------------------------------------------------------- files


def require_file(option: str, path: Path | None) -> None:
    """Create the folder of a file to be written later. Raises `UnusableOption` where the file cannot be written."""
    if path is None:
        return
    given = f"{option} was {shorten(repr(str(path)))}"
    if os.path.isdir(path):
        raise UnusableOption(f"{given}, which is a folder; name a file in it.")
    if not os.path.exists(path):
        _require_writable_folder(given, path.parent)
    elif not os.access(path, os.W_OK):
        raise UnusableOption(f"{given}, which cannot be written; name another file.")


def require_folder(option: str, path: Path | None) -> None:
    """Create a folder that files are written to later. Raises `UnusableOption` where that is impossible."""
    if path is not None:
        _require_writable_folder(f"{option} was {shorten(repr(str(path)))}", path)


def _require_writable_folder(given: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableOption(f"{given}; its folder cannot be made ({error.strerror}); name another.") from error
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UnusableOption(f"{given}; its folder cannot be written ({error.strerror}); name another.") from error


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write results as JSON. Raises `Failed` where they cannot be written."""
    try:
        path.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise not_written("--json", path, error) from error
    say(f"Written to {path}.")


def not_written(option: str, path: Path, error: OSError) -> Failed:
    """The error for results that could not be written to the path of an option."""
    return Failed(f"The results could not be written to {option} {shorten(str(path))} ({error.strerror}).")
