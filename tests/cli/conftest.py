"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from deepleak_core.cli import app as cli


@dataclass
class Ended:
    """What a command left: its exit status and its output."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Run one command in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        status = cli.main(arguments)
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """train/ and test/ with two images of two classes each, one class dark, one bright."""
    root = tmp_path / "photos"
    for split in ("train", "test"):
        for name, value in (("cat", 30), ("ship", 220)):
            (root / split / name).mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (32, 32), (value, value, 100 + i)).save(root / split / name / f"{i}.jpg")
    return root
