"""ES modules of the browser components, joined into the one text that a Streamlit component takes."""

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
