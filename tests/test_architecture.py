"""The house keeps its shape: imports go downwards, the core knows no browser, pages know no mathematics."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Each module imports only from floors above its own line. A new module is given its place here.
FLOORS = (
    {"scenario", "events", "metrics", "vocabularies", "validation"},
    {"turns", "downloads", "separation", "presets", "threads"},
    {"models", "together", "simplex", "independence", "solitary"},
    {"disaggregation"},
    {"verification"},
    {"datasets", "client"},
    {"labels", "mislabelling", "objectives", "peeling"},
    {"solvers"},
    {"exact", "judge", "repair"},
    {"search"},
    {"attack"},
    {"evaluation", "findings", "store", "training"},
    {"workers"},
    {"export", "engine"},
    {"cli"},
    {"__main__"},
)
CORE = sorted(path for path in (ROOT / "deepleak_core").rglob("*.py") if path.name != "__init__.py")
PAGES, UI = sorted((ROOT / "app_pages").rglob("*.py")), sorted((ROOT / "ui").rglob("*.py"))


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


def module_of(path: Path) -> str:
    """deepleak_core/labels.py and deepleak_core/labels/rules.py both belong to `labels`."""
    return path.relative_to(ROOT / "deepleak_core").parts[0].removesuffix(".py")


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", CORE, ids=module_of)
def test_a_module_imports_only_from_floors_below(path: Path) -> None:
    module = module_of(path)
    floor = next((i for i, names in enumerate(FLOORS) if module in names), None)
    assert floor is not None, f"{module} has no place in FLOORS yet"
    below = set().union(*FLOORS[:floor]) | {module}
    used = {name.split(".")[1] for name in imports(path) if name.startswith("deepleak_core.")}
    assert used <= below, f"{module} reaches up or sideways to {sorted(used - below)}"


def test_every_place_is_taken() -> None:
    assert set().union(*FLOORS) == {module_of(path) for path in CORE}
    assert sum(map(len, FLOORS)) == len(set().union(*FLOORS))


@pytest.mark.parametrize("path", CORE, ids=module_of)
def test_the_core_knows_no_browser(path: Path) -> None:
    assert not roots(path) & {"streamlit", "plotly", "ui", "app_pages", "app"}


def test_the_core_works_where_streamlit_is_not_installed() -> None:
    names = ", ".join(f"deepleak_core.{module_of(path)}" for path in CORE if path.name != "__main__.py")
    code = f"import sys; sys.modules.update(streamlit=None, plotly=None); import {names}"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("path", [*UI, *PAGES, ROOT / "app.py"], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages_and_widgets_hold_no_mathematics(path: Path) -> None:
    """What is left of torch there is the question which devices there are."""
    tree = ast.parse(path.read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch"
    }
    assert used <= {"cuda"}
    assert not {name for name in imports(path) if name.startswith("torch.")}
    assert not roots(path) & {"torchvision", "scipy", "torchmetrics"}


def test_widgets_know_no_page_and_pages_no_other_page() -> None:
    assert not [path for path in UI if roots(path) & {"app_pages", "app"}]
    assert not [path for path in PAGES if roots(path) & {"app_pages", "app"}]


def test_what_is_imported_is_required() -> None:
    """Every package the product imports stands in requirements.txt, and nothing stands there for nothing."""
    own = {"deepleak_core", "ui", "app_pages", "app", "benchmarks"}
    names = {"PIL": "pillow", "dask": "distributed", "torchvision": "torchvision", "yaml": "pyyaml"}
    used = set().union(*(roots(path) for path in [*CORE, *UI, *PAGES, ROOT / "app.py"]))
    used = {names.get(name, name) for name in used - own - set(sys.stdlib_module_names)}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = {line.partition(">")[0].strip() for line in lines if line and not line.startswith("#")}
    files_only = {"foolbox"}  # its sample images are read, it is never imported
    assert required == used | files_only
