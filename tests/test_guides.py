"""The guides are followed to the letter: their files, their lines, their commands, in a copy of the package."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import code_blocks

ROOT = Path(__file__).parent.parent
# tests/data follows adding_a_data_set.md, which puts everything into one file.
GUIDES = sorted(path for path in (ROOT / "docs").glob("adding_*.md") if path.stem != "adding_a_data_set")


def follow(guide: Path, root: Path) -> None:
    """Write the files of a guide, and put its lines into files that exist."""
    for block in code_blocks(guide, "python"):
        head, _, rest = block.partition("\n")
        path, _, change = head.removeprefix("# ").partition(": ")
        if not path.endswith(".py"):
            continue  # an example that is no file
        if change:
            (root / path).write_text(with_lines((root / path).read_text(), rest, change.rpartition(" ")[2]))
        else:
            assert not (root / path).exists(), f"{path} exists already"
            (root / path).write_text(rest)


def with_lines(source: str, lines: str, name: str) -> str:
    """A module with the imports of `lines` among its own, and the others first in the collection called `name`."""
    imports = "".join(re.findall(r"^(?:from|import) .*\n", lines, re.MULTILINE))
    entries = re.sub(r"^(?:from|import) .*\n", "", lines, flags=re.MULTILINE).strip("\n") + "\n"
    opening = re.compile(rf"^(\s*{name}\b[^=\n]*=.*?[\[{{]\n)", re.DOTALL | re.MULTILINE)
    assert opening.search(source), f"there is no {name}"
    source = opening.sub(lambda found: found[1] + entries, source, count=1)
    return source.replace("from __future__ import annotations\n", f"from __future__ import annotations\n{imports}", 1)


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_guide_works_to_the_letter(guide: Path, tmp_path: Path) -> None:
    for name in ("deepleak_core", "ui", "pages", "assets", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "app.py", tmp_path)
    follow(guide, tmp_path)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "DEEPLEAK_DATA": str(tmp_path / "data")}
    commands = [
        shlex.split(line) for block in code_blocks(guide) for line in block.splitlines() if line.startswith("python ")
    ]
    assert commands
    for command in commands:
        command = [sys.executable, *command[1:]]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, f"{shlex.join(command)}\n{ended.stdout}{ended.stderr}"
