"""Measurements start: their modules import what exists, and their examples are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import benchmarks

MODULES = sorted(path.stem for path in Path(benchmarks.__path__[0]).glob("*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_can_be_imported_and_its_examples_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"benchmarks.{name}")).failed == 0
