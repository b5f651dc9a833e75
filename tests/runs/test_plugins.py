"""Networks and attacks of an installed third-party package: the command line and workers find them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PLUGIN = """
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from deepleak_core.attack.attacks import Attack
from deepleak_core.attack.settings import setting
from deepleak_core.attack.solvers import Iterate
from deepleak_core.federated.networks.network import Network

NETWORK = Network(
    title="Patches",
    summary="One strided convolution.",
    source="a test",
    body=lambda shape: nn.Sequential(nn.Conv2d(shape[0], 16, 8, stride=8), nn.ELU(), nn.Flatten()),
    features=nn.ELU(),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    iterations: int = setting(2, "iterations at most", least=1, most=100)
    brightness: float = setting(0.25, "value of every pixel", least=0, most=1)


def grey(case, believed, settings, *, seed=0, stop=lambda: False) -> Iterator[Iterate]:
    pixels = torch.full((1, len(believed), *case.image_shape), settings.brightness, device=case.device)
    inputs = case.model.normalise(pixels)
    for step in range(settings.iterations + 1):
        yield Iterate(step, inputs, 1.0, torch.tensor([1.0 - step / 100]), 1.0, step / settings.iterations)


ATTACK = Attack(
    title="Grey", summary="Grey images.", source="a test", label_strategy="idlg", reconstruct=grey, settings=Settings()
)
"""

ENGINE = """
import sys, time
from deepleak_core.events import Prepared, Snapshot
from deepleak_core.runs.engine import Engine
from deepleak_core.runs.store import Store
from deepleak_core.scenario import Scenario

if __name__ == "__main__":
    engine = Engine(Store(sys.argv[1]))
    run_id = engine.submit(Scenario.from_json(sys.argv[2]))
    while engine.store.run(run_id).under_way:
        time.sleep(0.1)
    record, shown = engine.store.run(run_id), engine.store.latest(run_id, Snapshot)
    engine.close()
    print(record.status, record.message)
    print(engine.store.latest(run_id, Prepared).model_title, float(shown.images.min()), float(shown.images.max()))
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A process environment in which a package with a network and an attack is installed, in a folder of its own."""
    site = tmp_path / "site"
    metadata = site / "leaky_plugin-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "leaky_plugin.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[deepleak.models]\npatches = leaky_plugin:NETWORK\nbroken = leaky_plugin:MISSING\n"
        "[deepleak.attacks]\ngrey = leaky_plugin:ATTACK\n"
    )
    path = os.pathsep.join([str(ROOT), str(site)])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "DEEPLEAK_THREADS": "1", "COLUMNS": "200"}


def python(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_workers_find_networks_and_attacks_of_other_packages(environment: dict[str, str], tmp_path: Path) -> None:
    environment.pop("DEEPLEAK_SCHEDULER", None)
    script = tmp_path / "engine.py"
    script.write_text(ENGINE)
    scenario = {"model": "patches", "attack": "grey", "batch_size": 2, "setting": ["brightness=1"]}
    ended = python(environment, str(script), f"sqlite:///{tmp_path}/runs.sqlite", json.dumps(scenario))
    assert ended.returncode == 0, ended.stderr
    status, shown = ended.stdout.splitlines()
    assert status.strip() == "finished"
    assert shown == "Patches 1.0 1.0"


@pytest.mark.slow
def test_the_command_line_knows_networks_and_attacks_of_other_packages(environment: dict[str, str]) -> None:
    ended = python(environment, "-m", "deepleak_core", "list")
    assert ended.returncode == 0, ended.stderr
    assert all(word in ended.stdout for word in ("patches", "brightness", "grey: 0.25"))
    assert "broken" not in ended.stdout
    assert "broken" in ended.stderr, "a broken plug-in is named, and left out"
    assert ended.stderr.count("\n") == 1
    options = ("attack", "--model", "patches", "--attack", "grey", "--batch-size", "2")
    ended = python(environment, "-m", "deepleak_core", *options, "--setting", "brightness=0")
    assert ended.returncode == 0, ended.stderr
    assert "Target model: Patches" in ended.stdout
    for wrong in ("brightness=2", "colour=1"):
        ended = python(environment, "-m", "deepleak_core", *options, "--setting", wrong)
        assert ended.returncode == 2
        assert wrong.partition("=")[0] in ended.stderr
