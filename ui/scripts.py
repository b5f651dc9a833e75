"""What the browser components share: ES modules joined into one text, and a callback that does nothing."""

from __future__ import annotations

import re
from pathlib import Path

IMPORT = re.compile(r"^import .*;\n", re.MULTILINE)
EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def joined(*files: Path) -> str:
    """The modules as one: each after those that it imports from, imports and exports between them left out.

    Names must be unique among them, and an import takes one line.
    """
    return "\n".join(EXPORT.sub("", IMPORT.sub("", file.read_text(encoding="utf-8"))) for file in files)


def ignore() -> None:
    """Streamlit reports an event of a component only where a callback is named; its result says what happened."""
