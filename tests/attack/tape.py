"""A graph for the CPU: it records the operations of a step and repeats them on the same tensors, without the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

READ_ON_THE_HOST = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2"}


class Tape:
    """Records like a CUDA graph does: it refuses what reads values on the host, and recording changes no tensor."""

    def __init__(self, device: torch.device) -> None:
        self.replays = 0
        self.warm_ups = 0
        self._operations: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def warm_up(self, step: Callable[[], None]) -> None:
        self.warm_ups += 1
        step()

    def capture(self, step: Callable[[], None]) -> None:
        recorder = Recorder()
        try:
            with recorder:
                step()
        finally:
            with torch.no_grad():
                for tensor, before in recorder.written.values():
                    tensor.copy_(before)
        self._operations = recorder.operations

    def replay(self) -> None:
        self.replays += 1
        values: dict[int, Tensor] = {}  # of what was computed, by the tensor that it was recorded as

        def now(tensor: Tensor) -> Tensor:
            return values.get(id(tensor), tensor)

        with torch.no_grad():
            for operation, args, kwargs, recorded in self._operations:
                given = tree_map_only(Tensor, now, (args, kwargs))
                computed = tensors_in(operation(*given[0], **given[1]))
                values |= {id(old): new for old, new in zip(recorded, computed, strict=True)}


class Recorder(TorchDispatchMode):
    """Every operation with its arguments and results, and what the tensors were before that it wrote to."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.written: dict[int, tuple[Tensor, Tensor]] = {}
        self._own: set[int] = set()  # memory that was allocated while recording

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in READ_ON_THE_HOST:
            raise RuntimeError(f"{func._schema.name} reads a value on the host")
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.is_write and isinstance(value, Tensor):
                place = value.untyped_storage().data_ptr()
                if place not in self._own and place not in self.written:
                    self.written[place] = (value.detach(), value.detach().clone())
        result = func(*args, **(kwargs or {}))
        for tensor in tensors_in(result):
            if not any(tensor is given for given in tensors_in(args)) and not func.is_view:
                self._own.add(tensor.untyped_storage().data_ptr())
        self.operations.append((func, args, kwargs or {}, tensors_in(result)))
        return result


def tensors_in(values: Any) -> list[Tensor]:
    """All tensors in an argument or a result."""
    return [value for value in torch.utils._pytree.tree_leaves(values) if isinstance(value, Tensor)]
