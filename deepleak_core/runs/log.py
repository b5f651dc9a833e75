"""The log of the app: one line for each event, as text or as JSON, without personal data.

An event names runs, scenarios by their fingerprint, and workers. It holds no address or token of a visitor, and no name
of a file or folder: `log` takes no other facts than those in `Facts`. What else is logged, by this package and those
that it uses, is cleaned in JSON: quotations, paths and addresses are left out, and so are the messages of tracebacks.

>>> log("run finished", run="k3xv", reason="converged", seconds=1.5)  # needs `configure` once
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO, TypedDict, Unpack

from deepleak_core.errors import DeepLeakError

logger = logging.getLogger("deepleak_core.events")

FINGERPRINT_DIGITS = 16  # of a scenario's fingerprint: enough to tell scenarios apart
FORMS = ("text", "json")

_QUOTED = re.compile(r"(?<!\w)(['\"]).*?\1(?!\w)")
_PATH = re.compile(r"(?<![\w:/])(?:[A-Za-z]:\\|~?/)[^\s:,;)]+")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b(?::\d+)?|\[?(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}\]?(?::\d+)?", re.I)


class Facts(TypedDict, total=False):
    """What an event may tell.

    `scenario` is a fingerprint, `cause` the name of an error or one or two fixed words, `worker` an address on the
    network of the cluster, `seconds` a duration.
    """

    run: str
    scenario: str
    attempt: int
    status: str
    reason: str
    cause: str
    worker: str
    device: str
    version: str
    seconds: float


def log(event: str, *, level: int = logging.INFO, **facts: Unpack[Facts]) -> None:
    """Log an event of fixed words with its facts; empty ones are left out."""
    told: dict[str, Any] = {name: value for name, value in facts.items() if value not in ("", None)}
    if "scenario" in told:
        told["scenario"] = told["scenario"][:FINGERPRINT_DIGITS]
    if "seconds" in told:
        told["seconds"] = round(told["seconds"], 3)
    logger.log(level, event, extra={"facts": told})


@contextmanager
def refusals() -> Iterator[None]:
    """Log every refusal that is raised within."""
    try:
        yield
    except DeepLeakError as error:
        log("refused", cause=type(error).__name__)
        raise


def configure(form: str, stream: TextIO | None = None) -> logging.Handler:
    """Have the events and warnings of the whole process written in this form, by default to stderr.

    Args:
        form: `text`, or `json`: then also what other packages log by handlers of their own.
        stream: Where to write.

    Raises:
        ValueError: There is no such form.
    """
    if form not in FORMS:
        raise ValueError(f"The form of the log was {form!r}; accepted are {' and '.join(FORMS)}.")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(_is_of_interest)
    logging.getLogger().addHandler(handler)
    logging.getLogger("deepleak_core").setLevel(logging.INFO)
    if form == "json":
        for other in list(logging.root.manager.loggerDict.values()):
            for own in other.handlers if isinstance(other, logging.Logger) else ():
                own.setFormatter(handler.formatter)
    return handler


class TextFormatter(logging.Formatter):
    """Time, level, words, and facts as `name=value`; tracebacks in full."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        facts = "".join(f" {name}={value}" for name, value in _facts(record).items())
        return super().formatMessage(record) + facts


class JsonFormatter(logging.Formatter):
    """A JSON object on one line: `time`, `level`, `event` and its facts, or `logger` and `message` of other records."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
        }
        if hasattr(record, "facts"):
            entry |= {"event": record.msg, **_facts(record)}
        else:
            entry |= {"logger": record.name, "message": clean(record.getMessage())}
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, trace = record.exc_info
            frames = traceback.extract_tb(trace)
            entry["error"] = kind.__name__
            entry["trace"] = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(entry, default=str)


def clean(text: str) -> str:
    """A text without what it quotes, paths and network addresses.

    >>> clean("'cats/anna.png' of /home/anna/cats was asked by 192.0.2.7:5000, again")
    '... of ... was asked by ..., again'
    """
    for pattern in (_QUOTED, _ADDRESS, _PATH):
        text = pattern.sub("...", text)
    return text


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Of other packages warnings only: Dask tells of every connection."""
    return record.levelno >= logging.WARNING or record.name.startswith("deepleak_core")


def _facts(record: logging.LogRecord) -> Mapping[str, Any]:
    facts: Mapping[str, Any] = getattr(record, "facts", {})
    return facts
