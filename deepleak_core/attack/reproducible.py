"""Compute events under fixed PyTorch settings, independent of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

Parameters = ParamSpec("Parameters")
Item = TypeVar("Item")


def reproducible(generator: Callable[Parameters, Iterator[Item]]) -> Callable[Parameters, Iterator[Item]]:
    """A generator function whose items are computed with gradients enabled and by deterministic kernels.

    The settings hold while the next item is computed and are restored while the caller handles it.

    >>> @reproducible
    ... def graded() -> Iterator[bool]:
    ...     yield torch.is_grad_enabled()
    >>> with torch.no_grad():
    ...     [*graded(), torch.is_grad_enabled()]
    [True, False]
    """

    @wraps(generator)
    def items(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Iterator[Item]:
        going = generator(*args, **kwargs)
        while True:
            with (
                torch.inference_mode(False),
                torch.enable_grad(),
                torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            ):
                try:
                    item = next(going)
                except StopIteration:
                    return
            yield item

    return items
