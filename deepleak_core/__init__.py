"""Gradient leakage in federated learning: simulate a client's round, attack it, score the outcome.

The public interface is what this module exports; nothing else is promised to stay.

>>> from deepleak_core import Scenario, run
>>> *_, finished = run(Scenario(indices=(0, 4), max_iterations=3))
>>> finished.reason
'iterations'

`observe(scenario)` gives what the server sees, a `Case`, and the ground truth; `infer_labels(case)` and
`reconstruct(case)` attack a case; `capture` reads and writes cases as files. Importing this module does not import
PyTorch; the first use of a function does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepleak_core.attack.run import reconstruct
    from deepleak_core.federated import capture
    from deepleak_core.federated.case import observe
    from deepleak_core.labels.strategies import infer_labels
    from deepleak_core.runs.run import run
    from deepleak_core.scenario import Scenario

__all__ = ["Scenario", "capture", "infer_labels", "observe", "reconstruct", "run"]

_MODULES = {
    "Scenario": "deepleak_core.scenario",
    "infer_labels": "deepleak_core.labels.strategies",
    "observe": "deepleak_core.federated.case",
    "reconstruct": "deepleak_core.attack.run",
    "run": "deepleak_core.runs.run",
}


def __getattr__(name: str) -> Any:
    if name == "capture":
        return import_module("deepleak_core.federated.capture")
    if name not in _MODULES:
        raise AttributeError(f"module 'deepleak_core' has no attribute {name!r}; it exports {', '.join(__all__)}.")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
