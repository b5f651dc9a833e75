"""What the first page needs before PyTorch, Dask and the database are loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SLOW = ("torch", "torchvision", "dask", "distributed", "sqlalchemy")
FIRST = ("app", "ui.address", "ui.live", "ui.live.stage", "ui.live.details", "ui.live.actions")


@pytest.mark.parametrize("module", FIRST)
def test_the_first_sight_waits_for_no_slow_import(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {SLOW} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
