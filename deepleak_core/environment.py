"""Settings of a server: environment variables, what each means, and their values where none is given.

    DEEPLEAK_MAX_SECONDS=120 streamlit run app.py

Each variable is declared once, below; docs/deployment.md has the table that `table` writes.

>>> KEEP_DAYS.value({"DEEPLEAK_KEEP_DAYS": "7"}), KEEP_DAYS.value({}), KEEP_DAYS.value({"DEEPLEAK_KEEP_DAYS": "none"})
(7.0, 30.0, None)
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from deepleak_core.errors import DeepLeakError
from deepleak_core.text import shorten

NONE = "none"  # written for no limit


@dataclass(frozen=True)
class Text:
    """A variable whose value is any text. `otherwise` says in words what is done without it."""

    name: str
    meaning: str
    otherwise: str

    def value(self, environment: Mapping[str, str] = os.environ) -> str:
        """What is given, empty where nothing is."""
        return environment.get(self.name, "")


@dataclass(frozen=True)
class Limit:
    """A variable whose value is a number above 0, or `none`. `default` is None where there is no limit by itself."""

    name: str
    meaning: str
    default: float | None
    otherwise: str = ""
    whole: bool = False

    def value(self, environment: Mapping[str, str] = os.environ) -> float | None:
        """The limit, None without one.

        Raises:
            DeepLeakError: Something else is given.
        """
        given = environment.get(self.name, "").strip()
        if not given:
            return None if self.default is None else float(self.default)
        if given.lower() == NONE:
            return None
        number = _number(given)
        if number is None or number <= 0 or (self.whole and number != int(number)):
            kind = "a whole number from 1 up" if self.whole else "a number above 0"
            raise DeepLeakError(f"{self.name} was {shorten(repr(given))}; accepted is {kind}, or {NONE} for no limit.")
        return number


def _number(given: str) -> float | None:
    try:
        number = float(given)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


DATABASE = Text(
    "DEEPLEAK_DB",
    "SQLAlchemy URL of the run store",
    "SQLite in `$XDG_DATA_HOME/deepleak`, or `~/.local/share/deepleak`",
)
DATA = Text(
    "DEEPLEAK_DATA",
    "data folder: downloaded data sets, and checkpoints that were trained here",
    "`$XDG_CACHE_HOME/deepleak`, or `~/.cache/deepleak`",
)
IMAGES = Text(
    "DEEPLEAK_IMAGES",
    "folder of own images, one folder a class, or of several such folders; every visitor may choose them",
    "none",
)
SCHEDULER = Text("DEEPLEAK_SCHEDULER", "address of a Dask scheduler", "workers are started on this machine")
PRESENTER_CODE = Text(
    "DEEPLEAK_PRESENTER_CODE",
    "whoever gives this code below a page sees all recent runs, and may stop, keep and forget them",
    "none: nobody may",
)
THREADS = Text("DEEPLEAK_THREADS", "CPU threads of an attack", "all cores but one, which is left to the app")
LOG = Text("DEEPLEAK_LOG", "form of the log: `text`, or `json` for an object on each line", "`text`")
MAX_SECONDS = Limit("DEEPLEAK_MAX_SECONDS", "seconds after which every attack that a visitor has started ends", 300)
MAX_ITERATIONS = Limit("DEEPLEAK_MAX_ITERATIONS", "iterations after which it ends", 100_000, whole=True)
MAX_BATCH = Limit("DEEPLEAK_MAX_BATCH", "images in a batch that a visitor may attack", 256, whole=True)
MAX_MEMORY_MB = Limit(
    "DEEPLEAK_MAX_MEMORY_MB", "MB of memory that a visitor's attack may take", None, "80 % of the machine's", whole=True
)
RUN_MB = Limit("DEEPLEAK_RUN_MB", "MB of pictures of one attack; beyond half of them fewer moments are kept", 200)
KEEP_DAYS = Limit("DEEPLEAK_KEEP_DAYS", "days after which a run is forgotten", 30)
KEEP_MB = Limit("DEEPLEAK_KEEP_MB", "MB that all runs together may take; beyond them the oldest are forgotten", 2000)

VARIABLES: tuple[Text | Limit, ...] = (
    DATABASE, DATA, IMAGES, SCHEDULER, PRESENTER_CODE, THREADS, LOG,
    MAX_SECONDS, MAX_ITERATIONS, MAX_BATCH, MAX_MEMORY_MB, RUN_MB, KEEP_DAYS, KEEP_MB,
)  # fmt: skip


def table() -> str:
    """All variables as a table in Markdown."""
    rows = [("variable", "meaning", "default"), ("---", "---", "---")]
    for variable in VARIABLES:
        default = "" if isinstance(variable, Text) or variable.default is None else f"{variable.default:g}"
        rows.append((f"`{variable.name}`", variable.meaning, default or variable.otherwise))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
