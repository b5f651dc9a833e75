"""The machine that a run took place on, in words."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The name of the processor, or of its architecture where the system tells no more."""
    info = Path("/proc/cpuinfo")  # where Linux keeps it
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
