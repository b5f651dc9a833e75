"""Updates that no attack can use are refused before it starts, and the sentence names the setting to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepleak_core import Scenario, observe, run
from deepleak_core.errors import DeepLeakError, UnusableUpdate


@pytest.mark.parametrize(
    "local",
    [
        {"local_epochs": 5, "local_lr": 0.3},
        {"local_epochs": 5, "local_lr": 1.0},
        {"local_epochs": 5, "local_lr": 10.0},
        {"local_lr": 1e-9},
        {"local_lr": 1e-30},
    ],
    ids=str,
)
def test_local_training_that_diverges_or_changes_nothing(local: dict[str, Any]) -> None:
    scenario = Scenario(indices=(0, 1, 3, 4), mode="fedavg", **local)
    with pytest.raises(UnusableUpdate, match="--local-lr"):
        next(run(scenario))


@pytest.mark.parametrize("local_lr", [1e-6, 1e-3, 0.1])
def test_ordinary_local_training_is_attacked(local_lr: float) -> None:
    case, _ = observe(Scenario(indices=(0, 1), mode="fedavg", local_lr=local_lr))
    assert case.update.local_steps == 1


def test_a_single_class_has_no_gradient(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "cat" / f"{i}.png")
    with pytest.raises(DeepLeakError, match="class"):
        list(run(Scenario(dataset="folder", images=str(tmp_path), indices=(0, 1), max_iterations=2)))
