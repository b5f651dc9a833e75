"""The wheel works without the repository, and dependencies are declared once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deepleak_core.version import VERSION

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is unpacked into, dependencies left out; built from a copy, so that nothing is left."""
    source, wheels, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "target"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("deepleak_core", "ui", "pages", "assets"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = wheels.iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    return target


def call(installed: Path, folder: Path, *command: str) -> str:
    """The output of a command in a folder, with the installed package instead of the repository."""
    environment = os.environ | {"PYTHONPATH": str(installed), "DEEPLEAK_DATA": str(folder)}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_only_the_core_is_installed(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {
        "deepleak_core",
        "bin",
    }
    assert (installed / "deepleak_core" / "py.typed").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["untrained", "late"])
def test_an_installed_package_attacks_in_an_empty_folder(installed: Path, tmp_path: Path, stage: str) -> None:
    code = "import deepleak_core; print(deepleak_core.__file__)"
    assert call(installed, tmp_path, sys.executable, "-c", code).startswith(str(installed))
    options = ["attack", "--indices", "0,1,3,4", "--stage", stage, "--max-iterations", "5", "--json", "result.json"]
    call(installed, tmp_path, sys.executable, "-m", "deepleak_core", *options)
    assert json.loads((tmp_path / "result.json").read_text())["iterations"] == 5


def test_the_script_is_the_command_line(installed: Path, tmp_path: Path) -> None:
    assert "lenet64-elu" in call(installed, tmp_path, sys.executable, str(installed / "bin" / "deepleak"), "list")


def test_requirements_are_those_of_the_project() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = [line for line in lines if line and not line.startswith("#")]
    assert required == PROJECT["dependencies"] + PROJECT["optional-dependencies"]["app"]


def test_development_tools_are_pinned() -> None:
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    tools = [line for line in lines if line and not line.startswith(("#", "-r"))]
    assert tools
    assert all("==" in line for line in tools)


def test_pre_commit_uses_the_pinned_tools() -> None:
    """One version each, whether `make lint` runs a tool or a commit does."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    tools = dict(line.split("==") for line in (ROOT / "requirements-dev.txt").read_text().splitlines() if "==" in line)
    assert f"rev: v{tools['ruff']}" in hooks


def test_there_is_one_version(installed: Path) -> None:
    assert [path.name for path in installed.glob("deepleak-*")] == [f"deepleak-{VERSION}.dist-info"]
    assert f"\nversion: {VERSION}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{VERSION}] - " in (ROOT / "CHANGELOG.md").read_text()
