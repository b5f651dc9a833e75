"""Snapshots of a running attack, whose images are copied to the host while the device goes on computing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from deepleak_core.attack.solvers import Iterate
from deepleak_core.events import Snapshot
from deepleak_core.federated.case import Case


class HostCopy:
    """A tensor on its way to the host, which nobody may write before it has arrived.

    From a CUDA device it is copied into pinned memory on a stream of its own; a tensor of the CPU is there at once.

    >>> copy = HostCopy(torch.ones(2))
    >>> copy.arrived, copy.wait()
    (True, tensor([1., 1.]))
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._tensor = self._copy = tensor  # the original is kept until it has been copied
        if tensor.is_cuda:
            stream = torch.cuda.Stream(tensor.device)  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream(tensor.device))
            self._copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            with torch.cuda.stream(stream):
                self._copy.copy_(tensor, non_blocking=True)
                self._event = stream.record_event()

    @property
    def arrived(self) -> bool:
        """Whether all of it is there."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def wait(self) -> Tensor:
        """The tensor on the host, once all of it is there."""
        if self._event is not None:
            self._event.synchronize()
        return self._copy


class Snapshots:
    """Snapshots in the order in which they were taken, to be had once their images are on the host."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._coming: deque[tuple[HostCopy, partial[Snapshot]]] = deque()

    def take(self, iterate: Iterate, seconds: float, progress: float) -> None:
        """Take one of the restart with the smallest residual."""
        images = self._case.model.denormalise(iterate.inputs[iterate.best]).clamp(0, 1).float()
        snapshot = partial(
            Snapshot,
            step=iterate.step,
            seconds=seconds,
            loss=iterate.loss,
            residual=iterate.residual,
            labels=iterate.labels,
            progress=progress,
        )
        self._coming.append((HostCopy(images), snapshot))

    def arrived(self) -> Iterator[Snapshot]:
        """Those whose images are there."""
        while self._coming and self._coming[0][0].arrived:
            copy, snapshot = self._coming.popleft()
            yield snapshot(images=np.array(copy.wait().nan_to_num().numpy()))

    def all(self) -> Iterator[Snapshot]:
        """All of them; waits for their images."""
        for copy, _ in self._coming:
            copy.wait()
        yield from self.arrived()
