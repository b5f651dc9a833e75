"""Registries that installed packages extend through entry points."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from deepleak_core.registry import Registry

Install = Callable[..., Registry[int]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package with entry points in a group, and give a registry of that group with one built-in entry."""

    def installed(module: str, **points: str) -> Registry[int]:
        (tmp_path / "plugin_of_a_test.py").write_text(module)
        metadata = tmp_path / "plugin_of_a_test-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-a-test\nVersion: 1.0\n")
        lines = [f"{name} = plugin_of_a_test:{attribute}" for name, attribute in points.items()]
        (metadata / "entry_points.txt").write_text("\n".join(["[deepleak.examples]", *lines]))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(__import__("sys").modules, "plugin_of_a_test", raising=False)
        return Registry("deepleak.examples", int, {"one": 1})

    return installed


def test_entries_of_packages_come_after_the_built_in_ones(install: Install) -> None:
    registry = install("TWO = 2\nTHREE = 3", two="TWO", three="THREE")
    assert dict(registry) == {"one": 1, "three": 3, "two": 2}
    assert next(iter(registry)) == "one"
    assert len(registry) == 3
    assert "two" in registry
    assert "four" not in registry


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("raise RuntimeError('broken')", "TWO"),
        ("import a_package_that_does_not_exist", "TWO"),
        ("this is no Python", "TWO"),
        ("TWO = 2", "MISSING"),
        ("TWO = 'two'", "TWO"),
        ("TWO = None", "TWO"),
        ("raise SystemExit(3)", "TWO"),
    ],
)
def test_entries_that_cannot_be_used_are_left_out_and_logged(
    install: Install, module: str, attribute: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry = install(module, two=attribute)
    with caplog.at_level(logging.ERROR):
        assert dict(registry) == {"one": 1}
    assert any("two" in record.getMessage() for record in caplog.records)


def test_one_broken_entry_does_not_take_others_with_it(install: Install) -> None:
    assert dict(install("TWO = 2", two="TWO", three="MISSING")) == {"one": 1, "two": 2}


def test_built_in_names_are_kept(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    registry = install("ONE = 111", one="ONE")
    with caplog.at_level(logging.ERROR):
        assert registry["one"] == 1
    assert caplog.records


def test_nothing_is_loaded_before_it_is_needed(install: Install, tmp_path: Path) -> None:
    registry = install(f"open({str(tmp_path / 'loaded')!r}, 'w').close()\nTWO = 2", two="TWO")
    assert not (tmp_path / "loaded").exists()
    assert registry["two"] == 2
    assert (tmp_path / "loaded").exists()
