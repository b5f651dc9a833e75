"""Exit statuses of the command line, and the errors that lead to them."""

from __future__ import annotations

from deepleak_core.errors import DeepLeakError

DONE, FAILED, UNUSABLE = 0, 1, 2


class UnusableOption(DeepLeakError):
    """An option of a command that cannot work: status 2."""


class Failed(DeepLeakError):
    """The work went wrong although its options were fine: status 1."""
