"""Every typed error of the project. Each message is one sentence: what was given, what is accepted, what to do.

`DeepLeakError` is the base class. The app shows it, the command line prints it; neither ever shows a traceback for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class DeepLeakError(Exception):
    """Base of every refusal: one sentence that says what was given, what is accepted, what to do."""


class UnsupportedScenario(DeepLeakError, ValueError):
    """A scenario that cannot run as it is; `problems` lists every reason, one sentence each."""

    def __init__(self, problems: Sequence[str]):
        self.problems = tuple(problems)
        super().__init__(" ".join(self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)


class DatasetUnavailable(DeepLeakError):
    """A data set that cannot be had: a download that failed, a folder that does not exist, an unreadable file."""


class WeightsUnavailable(DeepLeakError):
    """Pretrained weights that cannot be had: a download that failed, or a file that is not what was promised."""


class OutOfMemory(DeepLeakError):
    """The device has too little memory for this scenario."""


class UnusableUpdate(DeepLeakError):
    """A client update that no attack can use: not finite, without any change, or not of this network."""


class CannotSeparate(DeepLeakError):
    """The update does not hold the features of single images in its last layer, for any labels."""


class NotSeparated(DeepLeakError):
    """No features explain the gradient with these label counts. `misfit` is that of the best features found."""

    def __init__(self, message: str, misfit: float):
        self.misfit = misfit
        super().__init__(message)

    def __reduce__(self) -> tuple[type[NotSeparated], tuple[str, float]]:
        return type(self), (str(self), self.misfit)


class TrainingDiverged(DeepLeakError):
    """The training loss is not finite any more."""


class StoreUnavailable(DeepLeakError):
    """The run database cannot be opened or read."""


class NotAllowed(DeepLeakError):
    """A run that somebody else has started, and that only they may stop."""


class RunRejected(DeepLeakError):
    """A run that is not accepted because too many runs are waiting."""


class OtherVersion(DeepLeakError):
    """A cluster whose scheduler has another version of this package, or none."""


class UnusableRecording(DeepLeakError):
    """A file that is no recording, or one of another version; or a run of which there is nothing to record."""
