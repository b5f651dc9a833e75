"""Modules of the browser components as one text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ui import scripts
from ui.player.component import FOLDER, MODULES

COMPONENTS = {
    "player": [FOLDER / f"{name}.js" for name in MODULES],
    "feed": [FOLDER / "feed.js"],
    "cards": [FOLDER / "dom.js", FOLDER.parent / "cards" / "cards.js"],
}
PARTS = [file for files in COMPONENTS.values() for file in files]


def test_imports_and_exports_between_modules_are_left_out(tmp_path: Path) -> None:
    first, second = tmp_path / "first.js", tmp_path / "second.js"
    first.write_text("export const one = 1;\n")
    second.write_text('import { one } from "./first.js";\nexport default function mount() { return one; }\n')
    assert scripts.joined(first, second) == "const one = 1;\n\nexport default function mount() { return one; }\n"


@pytest.mark.parametrize("files", COMPONENTS.values(), ids=COMPONENTS)
def test_a_component_has_one_entry_and_unique_names(files: list[Path]) -> None:
    script = scripts.joined(*files)
    assert len(re.findall(r"^export default function", script, re.MULTILINE)) == 1
    assert "\nimport " not in script
    names = re.findall(r"^(?:async )?(?:export default )?(?:function|class|const|let) (\w+)", script, re.MULTILINE)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("files", COMPONENTS.values(), ids=COMPONENTS)
def test_modules_come_after_those_they_import(files: list[Path]) -> None:
    for n, file in enumerate(files):
        imported = re.findall(r'^import .* from ".*?(\w+)\.js"', file.read_text(), re.MULTILINE)
        assert set(imported) <= {earlier.stem for earlier in files[:n]}


@pytest.mark.parametrize("file", PARTS, ids=lambda file: file.name)
def test_no_data_is_read_as_html(file: Path) -> None:
    script = file.read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
    assert script.count("createContextualFragment") == (1 if file.name == "columns.js" else 0), "notes are templates"
