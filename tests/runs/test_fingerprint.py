"""Fingerprints are equal where the answer is, and differ where anything that decides it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepleak_core.runs import fingerprint as module
from deepleak_core.runs.fingerprint import fingerprint
from deepleak_core.scenario import Scenario


def test_the_spelling_of_a_scenario_does_not_count() -> None:
    assert fingerprint(Scenario(), "cpu") == fingerprint(Scenario(composition="distinct", batch_size=4), "cpu")
    assert fingerprint(Scenario(indices=(0, 1)), "cpu") == fingerprint(Scenario(indices=(0, 1), batch_size=2), "cpu")
    assert fingerprint(Scenario.from_query(Scenario(seed=3).to_query()), "cpu") == fingerprint(Scenario(seed=3), "cpu")


def test_only_the_kind_of_the_device_counts() -> None:
    assert fingerprint(Scenario(device="cuda:1"), "cpu") == fingerprint(Scenario(device="cuda"), "cpu")
    assert fingerprint(Scenario(device="cuda"), "cpu") == fingerprint(Scenario(), "cuda")
    assert fingerprint(Scenario(), "cuda") != fingerprint(Scenario(), "cpu")


@pytest.mark.parametrize("change", [{"seed": 1}, {"wrong_labels": 1}, {"max_seconds": 5}, {"attack": "exact"}])
def test_whatever_decides_the_answer_counts(change: dict[str, object]) -> None:
    assert fingerprint(Scenario(), "cpu") != fingerprint(Scenario().changed(**change), "cpu")


def test_another_version_is_another_question(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(Scenario(), "cpu")
    monkeypatch.setattr(module, "VERSION", "999")
    assert fingerprint(Scenario(), "cpu") != before


def test_images_that_changed_are_another_question(tmp_path: Path) -> None:
    scenario = Scenario(dataset="folder", images=str(tmp_path))
    assert fingerprint(scenario, "cpu"), "the run says that there are none"
    (tmp_path / "cat").mkdir()
    seen = {fingerprint(scenario, "cpu")}
    for content in ("one", "three"):
        (tmp_path / "cat" / "a.png").write_text(content)
        seen.add(fingerprint(scenario, "cpu"))
    assert len(seen) == 3


def test_a_checkpoint_that_was_trained_again_is_another_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPLEAK_DATA", str(tmp_path))
    late, untrained = Scenario(stage="late"), Scenario()
    before = fingerprint(late, "cpu"), fingerprint(untrained, "cpu")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "lenet64-elu--cifar10--late.safetensors").write_text("weights")
    assert fingerprint(late, "cpu") != before[0]
    assert fingerprint(untrained, "cpu") == before[1]
