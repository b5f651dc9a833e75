"""Attacks of two revisions are measured by the same scenarios."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import solvers

ONE_IMAGE = {"indices": (0,), "attack": "exact", "device": "cpu"}


def run(reached: float | None) -> dict[str, object]:
    return {"reached": {"30": reached, "59": reached}, "worst_psnr": 60.0, "seconds": 1.0, "certified": True}


def test_a_row_compares_medians_before_and_now() -> None:
    row = solvers.row({"cell": "a", "runs": {"before": [run(4.0), run(6.0)], "now": [run(1.0), run(1.5)]}})
    assert row[0] == "a"
    assert row[5] == "4.0"
    assert row[-1] == "2 of 2"


def test_a_row_without_an_earlier_revision_compares_nothing() -> None:
    row = solvers.row({"cell": "a", "runs": {"now": [run(1.0)]}})
    assert [row[1], row[3], row[5]] == [None, None, None]


@pytest.mark.slow
@pytest.mark.skipif(not (solvers.ROOT / ".git").exists(), reason="no git history")
def test_a_revision_runs_from_a_folder_of_its_own() -> None:
    with solvers.extracted("HEAD") as folder, solvers.Version(folder) as version:
        assert Path(version.levels(ONE_IMAGE)["package"]).is_relative_to(folder)
        found = solvers.figures(version.levels(ONE_IMAGE))
    assert found["reached"]["59"] <= found["seconds"]
    assert found["worst_psnr"] > 59


def test_an_unknown_revision_is_refused() -> None:
    with pytest.raises(SystemExit, match="no-such-revision"), solvers.extracted("no-such-revision"):
        pass
