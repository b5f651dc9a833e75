"""Fingerprints of runs: equal where a finished run answers the same question.

Everything that decides the outcome of a run goes into its fingerprint: the scenario as it is executed, within the
limits of a server, the version of the package, the kind of device, and the state of files that lie outside the package
and may change (own images, checkpoints that were trained here). Of a scenario, the device as it was written does not
count, only the kind it leads to.

>>> from deepleak_core.scenario import Scenario
>>> fingerprint(Scenario(device="cpu"), "cuda") == fingerprint(Scenario(), "cpu")
True
>>> fingerprint(Scenario(seed=1), "cpu") == fingerprint(Scenario(), "cpu")
False
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from deepleak_core.scenario import Scenario
from deepleak_core.version import VERSION


def fingerprint(scenario: Scenario, device: str) -> str:
    """The fingerprint of a run, 64 hexadecimal digits; `device` is the kind that `device="auto"` leads to."""
    kind = device if scenario.device == "auto" else scenario.device.partition(":")[0]
    values = scenario.to_values()
    values.pop("device", None)
    parts = (VERSION, kind, values, *_files(scenario))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _files(scenario: Scenario) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of change of every file that the run may read and that is not part of the package."""
    if scenario.images:
        yield from _states(Path(scenario.images), "*/*")
    if scenario.stage != "untrained":
        from deepleak_core.federated.checkpoints import checkpoint_name, own_folder  # imports PyTorch

        yield from _states(own_folder(), checkpoint_name(scenario.model, "*", scenario.stage))


def _states(folder: Path, pattern: str) -> Iterator[tuple[str, int, int]]:
    try:
        for path in sorted(folder.glob(pattern)):
            state = path.stat()
            yield str(path), state.st_size, state.st_mtime_ns
    except (OSError, ValueError):  # the run itself says what is wrong with the folder
        return
