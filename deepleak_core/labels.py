"""Label inference: how often each class is in the batch, read from the last layer's part of the update.

For cross-entropy the gradient of the last layer's bias is mean_k(p_k - y_k): probabilities minus one-hot
labels. So K times its negative is the label counts, up to K mean(p), which the strategies estimate or ignore.

To add a strategy, write a function from `Knowledge` to `Evidence` and add one line to `STRATEGIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from deepleak_core.client import ClientUpdate, Weights, weights_of
from deepleak_core.models import TargetModel
from deepleak_core.scenario import UnsupportedScenario

NOISE_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What label inference may use. The last layer's gradient: `weight` (C, D), `bias` (C,) or None."""

    model: TargetModel
    update: ClientUpdate
    weight: Tensor
    bias: Tensor | None
    image_size: int
    generator: torch.Generator

    @property
    def batch_size(self) -> int:
        return self.update.batch_size

    @property
    def row_sums(self) -> Tensor:
        """(C,): each class's row of the weight gradient summed, mean_k((p_k - y_k) sum(f_k))."""
        return self.weight.sum(1)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a strategy found: `evidence` (C,) it looked at, `real_counts` (C,), and integer `counts` (C,).

    `proven` is for strategies that can tell a right answer from a guess: no other counts explain the update.
    """

    evidence: Tensor
    real_counts: Tensor
    counts: Tensor
    proven: bool = False


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """One line of the registry."""

    title: str
    summary: str
    source: str
    infer: Callable[[Knowledge], Evidence]


def infer(model: TargetModel, update: ClientUpdate, *, strategy: str, image_size: int, seed: int = 0) -> Evidence:
    """Label counts by a named strategy. Raises `UnsupportedScenario` naming the known ones."""
    if strategy not in STRATEGIES:
        raise UnsupportedScenario([f"label_strategy was {strategy!r}; accepted are {', '.join(STRATEGIES)}, true."])
    gradient = update.gradient(model)
    knowledge = Knowledge(
        model=model,
        update=update,
        weight=gradient["head.weight"].double(),
        bias=gradient["head.bias"].double() if "head.bias" in gradient else None,
        image_size=image_size,
        generator=torch.Generator().manual_seed(seed),
    )
    return STRATEGIES[strategy].infer(knowledge)


def given(labels: Tensor, classes: int) -> Evidence:
    """The labels handed over, in the shape a strategy would answer."""
    counts = torch.bincount(labels.cpu(), minlength=classes)
    return Evidence(evidence=counts.double(), real_counts=counts.double(), counts=counts)


def order(counts: Tensor) -> list[int]:
    """One label per image, classes ascending; which image has which does not matter to a mean gradient.

    >>> order(torch.tensor([0, 2, 1]))
    [1, 1, 2]
    """
    return torch.repeat_interleave(torch.arange(len(counts)), counts.cpu()).tolist()


def falsify(labels: Sequence[int], wrong: int, classes: int, *, seed: int = 0) -> tuple[list[int], tuple[int, ...]]:
    """Replace `wrong` of the labels by classes that are not in the batch while there are any.

    Returns the labels, sorted, and the places of the wrong ones among them.

    >>> falsify([0, 1], 1, 3)[0] in ([1, 2], [0, 2])
    True
    """
    generator = torch.Generator().manual_seed(seed)
    changed = list(labels)
    places = torch.randperm(len(labels), generator=generator)[:wrong].tolist()
    for place in sorted(places):
        absent = sorted(set(range(classes)) - set(changed) - set(labels)) or sorted(
            set(range(classes)) - {labels[place]}
        )
        changed[place] = absent[int(torch.randint(len(absent), (1,), generator=generator))]
    by_class = sorted(range(len(changed)), key=lambda place: changed[place])
    return [changed[place] for place in by_class], tuple(i for i, place in enumerate(by_class) if place in places)


def round_counts(real_counts: Tensor, total: int) -> Tensor:
    """Integers that sum to `total`: take the largest remaining estimate `total` times (Geng et al.).

    >>> round_counts(torch.tensor([1.6, 0.7, -0.3]), 2).tolist()
    [1, 1, 0]
    """
    # Everything that is surely taken is taken at once: the rule never goes below a common level.
    counts = (real_counts - 1).floor().clamp_min(0).long()
    while int(counts.sum()) > total:
        counts[(real_counts - counts).masked_fill(counts == 0, torch.inf).argmin()] -= 1
    remaining = real_counts - counts
    for _ in range(total - int(counts.sum())):
        top = remaining.argmax()
        counts[top] += 1
        remaining[top] -= 1
    return counts


# ------------------------------------------------------------------------------------------- the strategies


def zero_shot(knowledge: Knowledge) -> Evidence:
    """Counts with duplicates (Geng et al. 2021): K mean(p) - K grad_b, with p estimated by feeding noise.

    Without a bias, the paper puts grad_W.sum(1) / O in its place, where O is the noise's mean feature sum. Here
    it is grad_W o / |o|^2 with the noise's mean features o: the same where features are alike and positive, and
    still good where they take both signs and the sum cancels, as after ELU.
    For FedAvg, p and o are averaged over the weights before and after local training.
    """
    moments = [noise_moments(knowledge, weights_of(knowledge.model))]
    if knowledge.update.local is not None:
        moments.append(noise_moments(knowledge, knowledge.update.tensors))
    probabilities = torch.stack([p for p, _ in moments]).mean(0)
    features = torch.stack([o for _, o in moments]).mean(0)
    bias = knowledge.bias if knowledge.bias is not None else knowledge.weight @ features / features.square().sum()
    real = knowledge.batch_size * (probabilities - bias)
    return Evidence(evidence=bias, real_counts=real, counts=round_counts(real, knowledge.batch_size))


def noise_moments(knowledge: Knowledge, weights: Weights) -> tuple[Tensor, Tensor]:
    """Mean class probabilities (C,) and mean features (D,) over Gaussian noise images, at given weights."""
    model, size = knowledge.model, knowledge.image_size
    images = max(8, NOISE_IMAGES * 32**2 // size**2)
    noise = torch.randn(images, 3, size, size, generator=knowledge.generator)
    captured: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    with torch.no_grad():
        logits = functional_call(model, weights, (model.denormalise(noise.to(model.mean)),))
    hook.remove()
    return logits.double().softmax(1).mean(0), captured[0].double().mean(0)


def idlg(knowledge: Knowledge) -> Evidence:
    """The sign rule (Zhao et al. 2020): a class whose gradient is negative is present.

    Made for one image; for more, classes come in the order of their evidence, and images left over are put
    to the strongest class.
    """
    evidence = knowledge.bias if knowledge.bias is not None else knowledge.row_sums
    ranked = evidence.argsort()[: knowledge.batch_size]
    present = ranked[evidence[ranked] < 0]
    counts = torch.zeros(len(evidence), dtype=torch.long, device=evidence.device)
    counts[present] = 1
    counts[ranked[0]] += knowledge.batch_size - len(present)
    return Evidence(evidence=evidence, real_counts=counts.double(), counts=counts)


def gradinversion(knowledge: Knowledge) -> Evidence:
    """Column minima (Yin et al. 2021): the K classes with the smallest entry in the weight gradient.

    Assumes that no label repeats; with more images than classes it starts over at the first.
    """
    evidence = knowledge.weight.min(1).values
    places = torch.arange(knowledge.batch_size, device=evidence.device) % len(evidence)
    counts = torch.bincount(evidence.argsort()[places], minlength=len(evidence))
    return Evidence(evidence=evidence, real_counts=counts.double(), counts=counts)


STRATEGIES: dict[str, Strategy] = {
    "zero-shot": Strategy(
        title="Zero-shot restoration",
        summary="Feeds noise to learn what the model predicts anyway; the rest of the gradient is label counts.",
        source="Geng et al. 2021, arXiv 2110.09074",
        infer=zero_shot,
    ),
    "idlg": Strategy(
        title="iDLG",
        summary="A negative gradient betrays the class; made for a single image.",
        source="Zhao et al. 2020, arXiv 2001.02610",
        infer=idlg,
    ),
    "gradinversion": Strategy(
        title="GradInversion",
        summary="The smallest entries of the last layer's gradient; believes that no label repeats.",
        source="Yin et al. 2021, arXiv 2104.07586",
        infer=gradinversion,
    ),
}
