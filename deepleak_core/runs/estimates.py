"""What an attack can solve for, and how long it would take on this machine's CPU, before it is started.

One iteration of gradient matching differentiates a client round twice. That is measured on a grey image at small sizes
and scaled: the body by pixels and images, the last layer by its weights, which are read once for the whole batch. Where
the exact attack solves for the images, its time is counted in the same unit. An estimate is right to a factor of two or
three; it leaves out label inference and what other programs take of the machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn
from torch.nn.functional import softmax

from deepleak_core.attack.attacks import settings_of
from deepleak_core.attack.bounds import Bound, most_images
from deepleak_core.data import datasets
from deepleak_core.federated.case import local_training_of
from deepleak_core.federated.models import network_of
from deepleak_core.federated.networks.network import Network
from deepleak_core.federated.target_model import TargetModel, feature_dimension
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario

SIZES = (64, 96, 160)  # pixels at which a body is measured; what is larger is scaled from the last two
MEASURED_SECONDS = 0.1  # of repetitions at each size; the fastest one counts
HEAD_WEIGHTS = 2_000_000  # of the last layer that is measured
HEAD_CLASSES = 1000
OVERHEAD = 1.5  # seconds of an iteration over those of its differentiation: priors, optimiser, snapshots; as measured
EXACT_ITERATIONS = 25  # iterations on one image that solving for it takes as long as; by benchmarks/limits.py


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of one iteration: `body` for one image by its size, `head` for each weight of the last layer.

    `fixed` of the body's seconds do not depend on the image: the gradient of the weights is compared in any case.
    """

    body: Mapping[int, float]
    fixed: float
    head: float

    def seconds(self, images: int, size: int, head_weights: int) -> float:
        """Seconds of one iteration on a batch of images of `size` pixels."""
        base = next((measured for measured in self.body if measured >= size), SIZES[-1])
        each = (self.body[base] - self.fixed) * (size / base) ** 2
        return self.fixed + images * each + head_weights * self.head


@dataclass(frozen=True)
class Estimate:
    """About `seconds` for the whole attack, counted as so many `iterations` of gradient matching."""

    seconds: float
    iterations: int


def calibrate(model: str, channels: int) -> Cost:
    """Measure a network on this machine's CPU, once in a process; takes about a second for the deepest ones.

    Sets the number of PyTorch's threads to that of a worker.
    """
    return _calibrated(network_of(model), channels)


@lru_cache(maxsize=32)
def _calibrated(network: Network, channels: int) -> Cost:
    torch.set_num_threads(cpu_threads())
    body = {size: _fastest(_body_iteration(network, (channels, size, size))) for size in SIZES}
    middle, last = SIZES[-2:]
    per_pixel = (body[last] - body[middle]) / (last**2 - middle**2)
    fixed = min(max(0.0, body[middle] - per_pixel * middle**2), *body.values())
    return Cost(body=body, fixed=fixed, head=_fastest(_head_iteration()) / HEAD_WEIGHTS)


def _fastest(iteration: Callable[[], object]) -> float:
    """Seconds of the fastest repetition."""
    spent, fastest = 0.0, math.inf
    while spent < MEASURED_SECONDS:
        start = time.thread_time()  # time that other programs take does not count
        iteration()
        seconds = time.thread_time() - start
        spent, fastest = spent + seconds, min(fastest, seconds)
    return fastest


def _body_iteration(network: Network, shape: tuple[int, int, int]) -> Callable[[], object]:
    """The gradient, in the image, of the squared gradient of all weights below the last layer."""
    with torch.random.fork_rng(devices=[]):
        body = network.body(shape).eval()
    signal = torch.full((1, feature_dimension(body, shape)), 1e-2)

    def iteration() -> object:
        image = torch.full((1, *shape), 0.5, requires_grad=True)
        gradients = torch.autograd.grad((body(image) * signal).tanh().sum(), list(body.parameters()), create_graph=True)
        return torch.autograd.grad(torch.stack([g.square().sum() for g in gradients]).sum(), image)

    return iteration


def _head_iteration() -> Callable[[], object]:
    """The same for a last layer that is compared in factors (`attack.factored`): signals and features of one image."""
    weights = torch.full((HEAD_CLASSES, HEAD_WEIGHTS // HEAD_CLASSES), 1e-2)

    def iteration() -> object:
        features = torch.full((1, weights.shape[1]), 0.5, requires_grad=True)
        signals = softmax(features @ weights.T, 1)
        return torch.autograd.grad(signals.square().sum() + (signals @ weights).square().sum(), features)

    return iteration


def estimate(scenario: Scenario, cost: Cost) -> Estimate:
    """Seconds that the attack of a scenario takes without a limit of time. Raises `UnsupportedScenario`."""
    settings, local = settings_of(scenario), local_training_of(scenario)
    bound, size, head_weights = bound_of(scenario), scenario.image_size, _on_meta(scenario).head.weight.numel()
    if bound is not None and bound.images is not None and scenario.batch_size <= bound.images:
        iterations = EXACT_ITERATIONS * scenario.batch_size
        return Estimate((cost.seconds(1, size, head_weights) - cost.fixed) * iterations, iterations)
    iterations = scenario.max_iterations or int(getattr(settings, "iterations", 1))
    each = OVERHEAD * cost.seconds(scenario.batch_size * getattr(settings, "restarts", 1), size, head_weights)
    if local is not None and getattr(settings, "fedavg", "averaged") == "simulated":
        each *= len(local.slices(scenario.batch_size))
    return Estimate(each * iterations, iterations)


def bound_of(scenario: Scenario) -> Bound | None:
    """The largest batch that the exact attack can solve for; None for other attacks and for weights after training.

    Raises `UnsupportedScenario` and `DatasetUnavailable`.
    """
    return _bound_of_network(scenario) if scenario.attack == "exact" and scenario.mode == "fedsgd" else None


def is_solvable(scenario: Scenario) -> bool:
    """Whether the exact attack can solve this network for images of this size at all, whatever attack is chosen.

    Raises `UnsupportedScenario` and `DatasetUnavailable`.
    """
    return bool(_bound_of_network(scenario).images)


def _bound_of_network(scenario: Scenario) -> Bound:
    channels = datasets.dataset_of(scenario).channels
    return _bound(_on_meta(scenario), (channels, scenario.image_size, scenario.image_size))


@lru_cache(maxsize=128)
def _bound(model: TargetModel, image_shape: tuple[int, int, int]) -> Bound:
    return most_images(model, image_shape)


def _on_meta(scenario: Scenario) -> TargetModel:
    """The network of a scenario without values, for its shapes."""
    channels, classes = datasets.dataset_of(scenario).channels, len(datasets.names_of_classes(scenario))
    shape = (channels, scenario.image_size, scenario.image_size)
    return _without_values(network_of(scenario.model), shape, classes, scenario.head_bias)


@lru_cache(maxsize=128)
def _without_values(network: Network, shape: tuple[int, int, int], classes: int, bias: bool) -> TargetModel:
    with torch.device("meta"):
        body = network.body(shape)
        head = nn.Linear(feature_dimension(body, shape), classes, bias=bias)
        return TargetModel(body, head, (0.0,) * shape[0], (1.0,) * shape[0])
