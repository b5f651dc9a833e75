"""Curves measured before: which sets there are, and which one is most like the scenario."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.scenario import Scenario
from ui.label_inference import curves

SCORES = {name: {"exact_rate": 0.5} for name in STRATEGIES}


def cell(**values: Any) -> dict[str, Any]:
    common = {"model": "lenet", "stage": "untrained", "mode": "fedsgd", "classes": 10, "batch_size": 4}
    common |= {"dataset": "cifar10-samples", "image_size": 32, "head_bias": True, "machine": "one core of a toaster"}
    return common | {"composition": "random", "repeats": 20, "strategies": SCORES} | values


def test_a_benchmark_that_is_missing_or_unreadable_has_no_cells(tmp_path: Path) -> None:
    assert curves.benchmark(tmp_path / "no.json") == []
    file = tmp_path / "label_accuracy.json"
    for content in ("{", '{"cells": []}'):
        file.write_text(content)
        assert curves.benchmark(file) == []
    file.write_text(json.dumps({"cells": [cell()]}))
    assert curves.benchmark(file) == [cell()]


def test_a_set_differs_in_one_setting_and_the_most_similar_comes_first() -> None:
    cells = [
        cell(batch_size=16, model="lenet64-elu"),
        cell(batch_size=8),
        cell(batch_size=4, model="lenet64-elu"),
        cell(batch_size=4, model="lenet64-elu", stage="late"),
        cell(batch_size=4, model="lenet64-elu", stage="early"),
        cell(batch_size=4, model="lenet64-elu", mode="fedavg"),
    ]
    sets = curves.sets_of(cells, Scenario(composition="random"), "batch_size")
    assert [[c["batch_size"] for c in own] for own in sets] == [[4, 16], [4], [4], [8], [4]]
    assert sets[-1][0]["mode"] == "fedavg", "the mode matters most"
    others = [cell(batch_size=4), cell(batch_size=8, head_bias=False), cell(batch_size=8, dataset="images")]
    sets = curves.sets_of(others, Scenario(composition="random"), "batch_size")
    assert [len(own) for own in sets] == [1, 1, 1], "a set of unlike cells"
    for order in (cells, cells[::-1]):
        over_stages = curves.sets_of(order, Scenario(composition="random"), "stage")
        assert ["untrained", "early", "late"] in [[c["stage"] for c in own] for own in over_stages]
