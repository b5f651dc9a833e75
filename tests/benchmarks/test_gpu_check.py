"""The measurements of a GPU: the script itself, tried on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.gpu_check import QUICK, Cell, Figures
from deepleak_core.attack import graphs
from deepleak_core.runs.checks import check
from deepleak_core.runs.recording import load
from deepleak_core.scenario import Scenario

SMALL = Scenario(indices=(0, 1), model="lenet", max_iterations=3, device="cpu")


def test_every_measurement_runs_without_a_gpu(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    gpu_check.main(["--device", "cpu", "--quick", "--result", str(file)])
    found = json.loads(file.read_text())
    assert [cell["cell"] for cell in found["cells"]] == list(QUICK)
    assert not [cell["error"] for cell in found["cells"] if "error" in cell]
    for cell in found["cells"]:
        assert cell["peak_mb"] > 0
        assert cell["iterations"] > 0
        assert len(gpu_check.row(cell)) == len(gpu_check.HEAD)
    (equal,) = [cell for cell in found["cells"] if "difference" in cell]
    assert equal["difference"] == 0
    assert not equal["captured"]


def test_a_cell_that_fails_leaves_its_error_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(scenario: Scenario, seconds: float) -> Figures:
        raise RuntimeError("no kernel image is available")

    cells = {"bad": Cell(fail, {}), "unknown": Cell(fail, {}), **dict(list(QUICK.items())[:1])}
    monkeypatch.setattr(gpu_check, "QUICK", cells)
    file = tmp_path / "gpu.json"
    gpu_check.main(["--device", "cpu", "--quick", "--result", str(file)])
    bad, _, good = json.loads(file.read_text())["cells"]
    assert "no kernel image" in bad["error"]
    assert "no kernel image" in " ".join(map(str, gpu_check.row(bad)))
    assert good["iterations"] > 0


def test_a_cell_that_overruns_is_ended() -> None:
    endless = SMALL.changed(max_iterations=10**6)
    assert "not finished" in gpu_check.apart(0.5, gpu_check.attack, endless, 1e6, None)["error"]
    assert gpu_check.apart(0, gpu_check.attack, endless, 1e6, None)["error"]


def test_runs_are_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    gpu_check.record(SMALL, 5, folder=str(folder), name="gpu-small", title="Two images on a GPU")
    (run,) = load(folder / "gpu-small.zip").runs
    assert run.finished.step == 3
    assert run.scenario.indices == (0, 1)


def test_every_cell_is_a_scenario_and_the_whole_fits_its_time() -> None:
    options = gpu_check.parse(["--breaching", "folder", "--recordings", "folder"])
    cells = gpu_check.cells_of(options)
    assert {cell.measure for cell in cells.values()} >= {gpu_check.attack, gpu_check.beside_breaching}
    for cell in cells.values():
        check(Scenario(**cell.scenario))
    assert sum(cell.seconds for cell in cells.values()) < 60 * options.minutes / 2


def test_graphs_are_switched_off_for_a_block_only() -> None:
    before = dict(graphs.GRAPHS)
    with gpu_check.without_graphs():
        assert graphs.GRAPHS.keys() == before.keys()
        assert not set(graphs.GRAPHS.values()) & set(before.values())
    assert before == graphs.GRAPHS


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("values", [{}, {"attack": "gradinversion", "model": "resnet20", "stage": "late"}])
def test_a_gpu_replays_what_it_computes(values: dict[str, str]) -> None:
    scenario = Scenario(indices=(0, 4), device="cuda", max_iterations=20, **values)
    equal = gpu_check.equality(scenario, 0)
    assert equal["captured"]
    assert equal["difference"] < 1e-3
