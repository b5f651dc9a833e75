"""The shape of the code: layers, a core without the app, pages without mathematics, declared dependencies.

Which package may import which is a contract of import-linter in pyproject.toml.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE_FOLDERS = ("pages", "app_pages")
CORE = sorted((ROOT / "deepleak_core").rglob("*.py"))
UI = sorted((ROOT / "ui").rglob("*.py"))
PAGES = sorted(path for folder in PAGE_FOLDERS for path in (ROOT / folder).rglob("*.py"))
# Distributions whose import name differs.
DISTRIBUTIONS = {"PIL": "pillow", "dask": "distributed", "yaml": "pyyaml"}
# Needed though never imported by name: foolbox's sample images are read as files.
FILES_ONLY = {"foolbox"}


def imports(path: Path) -> set[str]:
    """Every module a file imports, wherever in the file, `from a import b` as both a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def roots(path: Path) -> set[str]:
    """The first part of every imported name."""
    return {name.partition(".")[0] for name in imports(path)}


def name_of(path: Path) -> str:
    """A path relative to the repository, as the name of a test."""
    return path.relative_to(ROOT).as_posix()


def test_packages_import_only_from_lower_layers() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command is not None, "import-linter is not installed; see requirements-dev.txt"
    ended = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


def test_the_core_works_where_the_app_is_not_installed() -> None:
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in CORE if path.name[0] != "_"]
    blocked = "streamlit=None, plotly=None, jinja2=None"
    code = f"import sys; sys.modules.update({blocked}); import {', '.join(modules)}"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("path", [*UI, *PAGES, ROOT / "app.py"], ids=name_of)
def test_pages_and_widgets_hold_no_mathematics(path: Path) -> None:
    """The only question they ask torch is which devices there are."""
    used = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch"
    }
    assert used <= {"cuda"}
    assert not {name for name in imports(path) if name.startswith("torch.")}
    assert not roots(path) & {"torchvision", "scipy", "torchmetrics"}


def test_widgets_know_no_page_and_pages_no_other_page() -> None:
    """But for the shell, which runs the app when a page's link is opened first."""
    assert not [path for path in UI if path.name != "shell.py" and roots(path) & {*PAGE_FOLDERS, "app"}]
    assert not [path for path in PAGES if roots(path) & set(PAGE_FOLDERS)]


def test_what_is_imported_is_declared() -> None:
    """The core imports exactly the dependencies, the app what the extra `app` adds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core, app = (
        {line.partition(">")[0] for line in lines}
        for lines in (project["dependencies"], project["optional-dependencies"]["app"])
    )
    used_by_core = third_party(CORE)
    assert used_by_core | FILES_ONLY == core
    assert third_party([*UI, *PAGES, ROOT / "app.py"]) - used_by_core <= app


def third_party(paths: list[Path]) -> set[str]:
    """The distributions that files import, the project's own and Python's left out."""
    own = {"deepleak_core", "ui", "app", "benchmarks", *PAGE_FOLDERS}
    used = set().union(*map(roots, paths)) - own - set(sys.stdlib_module_names)
    return {DISTRIBUTIONS.get(name, name) for name in used}
