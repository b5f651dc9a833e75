"""Replay an iteration as one CUDA graph, where the device and the iteration allow it.

An iteration of gradient matching launches hundreds of kernels that are each shorter than their launch. A CUDA graph
launches them all at once. It repeats the same kernels on the same memory, so what it replays must be a `Step`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

from deepleak_core.events import Stage
from deepleak_core.text import shorten

WARM_UP = 3  # iterations before a capture, in which libraries load kernels and choose algorithms
LOOK_EVERY = 5  # iterations of a device with graphs between two looks at the outcome, each of which waits for it

Step = Callable[[], None]
"""A function of tensors that stay where they are: it reads and writes them in place, its operations do not depend on
their values, it draws no random numbers on the host, and it copies nothing between host and device."""


class Graph(Protocol):
    """A step that is captured once and then replayed."""

    def warm_up(self, step: Step) -> None:
        """Run a step as it will be captured."""
        ...

    def capture(self, step: Step) -> None:
        """Capture a step without running it. Raises where it cannot be captured."""
        ...

    def replay(self) -> None:
        """Run what was captured."""
        ...


class CudaGraph:
    """A graph of a CUDA device; see https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph = torch.cuda.CUDAGraph()

    def warm_up(self, step: Step) -> None:
        """Run a step on the stream of the capture, to which autograd then ties what it keeps."""
        with self._on_own_stream():
            step()

    def capture(self, step: Step) -> None:
        """Capture a step. Other threads may use the device meanwhile."""
        # The outer context restores the caller's stream also where PyTorch cannot end a capture that has failed.
        with (
            self._on_own_stream(),
            torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            step()

    def replay(self) -> None:
        """Run what was captured, on the caller's stream."""
        self._graph.replay()

    @contextmanager
    def _on_own_stream(self) -> Iterator[None]:
        callers = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(callers)
        with torch.cuda.stream(self._stream):
            yield
        callers.wait_stream(self._stream)


# Where a capture cannot be ended, PyTorch's allocator goes on asking its graph which memory belongs to it.
_FAILED: list[Graph] = []

GRAPHS: dict[str, Callable[[torch.device], Graph]] = {"cuda": CudaGraph}  # by type of device


class Replayed:
    """Runs a step on each call: as a graph where the device has graphs and the step can be captured, else as it is."""

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step = step
        self._graph = GRAPHS[device.type](device) if device.type in GRAPHS else None
        self._warm_ups = WARM_UP
        self.every = LOOK_EVERY if self._graph else 1
        self.refused: str | None = None  # why there is no graph, None where there is one or nobody expects it

    def __call__(self) -> None:
        """Run the step once."""
        if self._graph is not None and self._warm_ups == 0:
            self._capture(self._graph)
        self._warm_ups -= 1
        if self._graph is None:
            self._step()
        elif self._warm_ups >= 0:
            self._graph.warm_up(self._step)
        else:
            self._graph.replay()

    def _capture(self, graph: Graph) -> None:
        try:
            graph.capture(self._step)
        except Exception as error:  # whatever it was: the step has just run as it is
            first = error.__context__ if isinstance(error.__context__, RuntimeError) else error
            self._graph, self.refused = None, shorten(str(first).partition("\n")[0])
            _FAILED.append(graph)


def no_graph(reason: str) -> Stage:
    """Tells that an attack goes on without a graph, and why."""
    return Stage(name="No CUDA graph", sentence=f"No CUDA graph, so the GPU waits between kernels: {reason}.")
