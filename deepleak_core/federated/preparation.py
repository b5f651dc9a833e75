"""What a scenario needs from the network before it can run: its data set, and weights that others trained."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from deepleak_core.data import datasets
from deepleak_core.errors import WeightsUnavailable
from deepleak_core.events import Downloading
from deepleak_core.federated import checkpoints
from deepleak_core.federated.case import checkpoint_of, target_model
from deepleak_core.federated.pretrained import STAGE, download, pretrained
from deepleak_core.scenario import Scenario


def prepare(scenario: Scenario) -> Iterator[Downloading]:
    """Download what is not there yet, with progress. Raises `DatasetUnavailable` or `WeightsUnavailable`."""
    yield from datasets.prepare(scenario)
    weights = pretrained(scenario.model, datasets.dataset_of(scenario).vocabulary)
    checkpoint = checkpoint_of(scenario)
    if weights is None or checkpoint is None or scenario.stage != STAGE or checkpoints.defect(checkpoint) is None:
        return
    tensors = yield from download(scenario.model, weights)
    with torch.device("meta"):
        model = target_model(scenario.changed(stage="untrained", head_bias=True))
    uncounted = {name: torch.zeros((), dtype=torch.int64) for name in model.state_dict() if name.endswith("_tracked")}
    try:
        model.load_state_dict(uncounted | tensors, assign=True)
    except RuntimeError as error:
        raise WeightsUnavailable(
            f"The pretrained weights of {scenario.model} do not fit the network "
            f"({' '.join(str(error).split())[:200]}); take stage untrained."
        ) from error
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=checkpoint.parent) as own:
        partial = Path(own) / checkpoint.name
        checkpoints.save(model, partial, epochs=weights.epochs, accuracy=weights.accuracy)
        partial.replace(checkpoint)
