"""Label inference: how often each class is in the batch, read from the last layer's part of the update.

For cross-entropy the gradient of the last layer's bias is mean_k(p_k - y_k): probabilities minus one-hot
labels. So K times its negative is the label counts, up to K mean(p), which the strategies estimate or ignore.

How well mean(p) can be had decides everything: untrained networks predict much the same for every image and for
noise; trained ones do not, and there only `verified` keeps its word, as long as there are fewer images than
classes. To add a strategy, write a function from `Knowledge` to `Evidence` and add one line to `STRATEGIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import interpolate

from deepleak_core.errors import CannotSeparate, UnsupportedScenario
from deepleak_core.features.last_layer import LastLayer
from deepleak_core.federated.client import ClientUpdate, Weights, weights_of
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.labels.certification import round_counts, verify
from deepleak_core.labels.exclusive_features import count_solitary

NOISE_IMAGES = 64
ALIKE = 0.1  # mean total variation of predictions up to which they count as one and the same


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What label inference may use. The last layer's gradient: `weight` (C, D), `bias` (C,) or None."""

    model: TargetModel
    update: ClientUpdate
    weight: Tensor
    bias: Tensor | None
    image_size: int
    seed: int
    stop: Callable[[], bool] = lambda: False

    @classmethod
    def of(
        cls,
        model: TargetModel,
        update: ClientUpdate,
        *,
        image_size: int,
        seed: int,
        stop: Callable[[], bool] = lambda: False,
    ) -> Knowledge:
        """What an update tells of the last layer; `seed` is all that is random about inference.

        `stop` is asked while a strategy searches; once it says yes, the best answer so far is given.
        """
        gradient = update.gradient(model)
        return cls(
            model=model,
            update=update,
            weight=gradient["head.weight"].double(),
            bias=gradient["head.bias"].double() if "head.bias" in gradient else None,
            image_size=image_size,
            seed=seed,
            stop=stop,
        )

    @property
    def batch_size(self) -> int:
        return self.update.batch_size

    @property
    def last_layer(self) -> LastLayer:
        """The layer as the server sent it, and its gradient."""
        return LastLayer.of(self.model, self.update.gradient(self.model))

    @property
    def row_sums(self) -> Tensor:
        """(C,): each class's row of the weight gradient summed, mean_k((p_k - y_k) sum(f_k))."""
        return self.weight.sum(1)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a strategy found: `evidence` (C,) it looked at, `real_counts` (C,), and integer `counts` (C,).

    `proven` is for strategies that can tell a right answer from a guess: no other counts explain the update.
    `confidence` (C,) in [0, 1] is how sure a strategy is of each class's count, None where it cannot tell.
    `note` says in a few words how the answer came about, where there is more than one way.
    """

    evidence: Tensor
    real_counts: Tensor
    counts: Tensor
    proven: bool = False
    confidence: Tensor | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """One line of the registry."""

    title: str
    summary: str
    source: str
    infer: Callable[[Knowledge], Evidence]


def infer(
    model: TargetModel,
    update: ClientUpdate,
    *,
    strategy: str,
    image_size: int,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Evidence:
    """Label counts by a named strategy. Raises `UnsupportedScenario` naming the known ones."""
    if strategy not in STRATEGIES:
        raise UnsupportedScenario([f"label_strategy was {strategy!r}; accepted are {', '.join(STRATEGIES)}, true."])
    knowledge = Knowledge.of(model, update, image_size=image_size, seed=seed, stop=stop)
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


# ------------------------------------------------------------------------------------------- the strategies


def zero_shot(knowledge: Knowledge) -> Evidence:
    """Counts with duplicates (Geng et al. 2021): K mean(p) - K grad_b, with p estimated by feeding noise.

    Without a bias, the paper puts grad_W.sum(1) / O in its place, where O is the noise's mean feature sum. Here
    it is grad_W o / |o|^2 with the noise's mean features o: the same where features are alike and positive, and
    still good where they take both signs and the sum cancels, as after ELU.
    For FedAvg, p and o are averaged over the weights before and after local training.
    """
    probabilities, features = noise_predictions(knowledge)
    bias = bias_gradient(knowledge, features)
    real = knowledge.batch_size * (probabilities - bias)
    return Evidence(evidence=bias, real_counts=real, counts=round_counts(real, knowledge.batch_size))


def noise_predictions(knowledge: Knowledge) -> tuple[Tensor, Tensor]:
    """Mean probabilities (C,) and features (D,) over noise; for FedAvg averaged over the weights before and after."""
    moments = [noise_moments(knowledge, weights_of(knowledge.model))]
    if knowledge.update.local is not None:
        moments.append(noise_moments(knowledge, knowledge.update.tensors))
    return torch.stack([p for p, _ in moments]).mean(0), torch.stack([o for _, o in moments]).mean(0)


def bias_gradient(knowledge: Knowledge, features: Tensor | None = None) -> Tensor:
    """The bias's gradient (C,), or what stands for it in a layer without: the weight's along the noise's features."""
    if knowledge.bias is not None:
        return knowledge.bias
    features = noise_predictions(knowledge)[1] if features is None else features
    return knowledge.weight @ features / features.square().sum()


def noise_moments(knowledge: Knowledge, weights: Weights) -> tuple[Tensor, Tensor]:
    """Mean class probabilities (C,) and mean features (D,) over Gaussian noise images, at given weights."""
    model, size = knowledge.model, knowledge.image_size
    generator = torch.Generator().manual_seed(knowledge.seed)
    images = max(8, NOISE_IMAGES * 32**2 // size**2)
    noise = torch.randn(images, 3, size, size, generator=generator)
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


def llg(knowledge: Knowledge) -> Evidence:
    """Labels one after the other (Wainakh et al. 2021), the white-box form with random data.

    One image lowers its class's row sum by an `impact`, all others raise it by an `offset`; noise tells both.
    Every class with a negative sum is there once; then, offsets taken off, the lowest sum is, until all images have
    a label.
    """
    probabilities, features = noise_predictions(knowledge)
    classes, images = len(probabilities), knowledge.batch_size
    total = features.sum()
    impact = ((probabilities - 1) * total).mean() * (1 + 1 / classes) / images
    impact = -impact.abs().clamp_min(1e-12)
    evidence = knowledge.row_sums * (1 if total >= 0 else -1)
    present = evidence.argsort()[:images]
    present = present[evidence[present] < 0]
    counts = torch.zeros(classes, dtype=torch.long, device=evidence.device)
    counts[present] = 1
    remaining = evidence - impact * counts - (probabilities * total).abs()
    real = counts + remaining / impact
    real = real + (images - real.sum()) / classes
    added = round_counts((remaining / impact).double(), images - len(present))
    return Evidence(evidence=evidence, real_counts=real, counts=counts + added)


def ilrg(knowledge: Knowledge) -> Evidence:
    """Instance-wise label restoration (Ma et al. 2023): a linear system over class-wise embeddings.

    The gradient's row of a class over its bias entry is what an image of that class looks like to the last layer;
    run through it, it tells the class's predictions P_i. Then K mean(p) = P^T counts, so (P^T - I) counts = K grad_b.
    """
    bias, predictions = class_predictions(knowledge)
    classes = len(bias)
    system = torch.cat([predictions.T - torch.eye(classes).to(bias), torch.ones(1, classes).to(bias)])
    known = knowledge.batch_size * torch.cat([bias, torch.ones(1).to(bias)])
    if not (system.isfinite().all() and known.isfinite().all()):  # local training that diverged: no system to solve
        real = torch.full_like(bias, torch.nan)
    else:
        real = torch.linalg.lstsq(system.cpu(), known[:, None].cpu(), driver="gelsd").solution[:, 0].to(bias)
    return Evidence(evidence=bias, real_counts=real, counts=round_counts(real, knowledge.batch_size))


def class_predictions(knowledge: Knowledge) -> tuple[Tensor, Tensor]:
    """The bias's gradient (C,), and what the last layer predicts (C, C) for each class's embedding.

    For FedAvg the last layer stands half-way between the weights before and after.
    """
    bias = bias_gradient(knowledge)
    before, after = weights_of(knowledge.model), knowledge.update.tensors
    weights = before if knowledge.update.local is None else {n: (before[n] + after[n]) / 2 for n in before}
    away = bias.abs().clamp_min(1e-12)
    embeddings = knowledge.weight / torch.where(bias < 0, -away, away)[:, None]
    logits = embeddings @ weights["head.weight"].double().T
    if "head.bias" in weights:
        logits = logits + weights["head.bias"].double()
    return bias, logits.softmax(1)


def balanced(knowledge: Knowledge) -> Evidence:
    """This project's estimate for trained networks: predictions as the truth blurred by evenly spread errors.

    With mean(p) = (1 - e) counts / K + e / C, what the bias tells becomes counts = K / C - K grad_b / e. The share
    e of errors follows from what the last layer predicts for each class's embedding, weighted by its evidence.
    """
    bias, predictions = class_predictions(knowledge)
    classes = len(bias)
    weights = (-bias).clamp_min(0) / (-bias).clamp_min(0).sum().clamp_min(1e-300)
    errors = float((weights * (1 - predictions.diagonal())).sum()) / (1 - 1 / classes)
    real = knowledge.batch_size * (1 / classes - bias / min(1.0, max(0.3, errors)))
    return Evidence(evidence=bias, real_counts=real, counts=round_counts(real, knowledge.batch_size))


def verified(knowledge: Knowledge) -> Evidence:
    """This project's own: counts that are proven by the features that explain the gradient (`verification`).

    Where there are as many images as classes, or local steps in between, nothing can be proven and the best
    estimate is given: by noise while the network predicts the same for all; later by images that have features for
    themselves (`solitary`) and by what the network is known to predict for each class (`validation`).
    """
    alike, images = predicts_alike(knowledge), knowledge.batch_size
    seen = torch.zeros_like(knowledge.row_sums, dtype=torch.long) if alike else solitary(knowledge)
    others = [rule(knowledge).real_counts for rule in (zero_shot, ilrg)]
    estimate = estimated(knowledge, others, seen, alike)
    if knowledge.update.local_steps > 1:
        return estimate
    unsure = not alike and int(seen.sum()) < images
    try:
        verdict = verify(
            knowledge.last_layer,
            images,
            [*others, estimate.real_counts],
            thorough=unsure,
            seed=knowledge.seed,
            stop=knowledge.stop,
        )
    except CannotSeparate:
        return estimate
    if verdict.proven:
        return replace(
            estimate,
            real_counts=verdict.counts.double(),
            counts=verdict.counts,
            proven=True,
            confidence=torch.ones_like(estimate.real_counts),
            note="Proven: features for these labels explain the gradient, for no others.",
        )
    if not alike and (verdict.explained or unsure):
        agreed, sure = verdict.counts == estimate.counts, estimate.confidence
        assert sure is not None, "every estimate says how sure it is"
        return replace(
            estimate,
            counts=verdict.counts,
            confidence=torch.where(agreed, sure, torch.minimum(sure, 1 - sure)),
            note="Estimated: nothing could be proven.",
        )
    return estimate


def estimated(knowledge: Knowledge, others: Sequence[Tensor], seen: Tensor, alike: bool) -> Evidence:
    """The best that can be said without a proof, given images `seen` (C,) and whether the network predicts `alike`.

    `others` are real-valued counts (C,) by other rules, the zero-shot rule's first.
    """
    images, sure = knowledge.batch_size, int(seen.sum())
    if alike:
        real, apart = others[0], torch.stack([*others]).std(0)
        note = "Estimated: the network predicts the same for every image."
    else:
        real, apart = trained_counts(knowledge, others, seen)
        how = "for each class when validated" if knowledge.model.validation else "for the gradient's mean images"
        note = f"Estimated by what the network predicts {how}."
    if sure:
        note = f"{sure} of {images} images counted by features of their own{', the rest estimated' * (sure < images)}."
    counts = seen + round_counts(real - seen, images - sure)
    return Evidence(
        evidence=bias_gradient(knowledge),
        real_counts=real,
        counts=counts,
        confidence=certainty(real, counts, apart),
        note=note,
    )


def trained_counts(knowledge: Knowledge, others: Sequence[Tensor], seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Real-valued counts (C,) for a network whose predictions differ, and how far off they may be (C,).

    By its `validation`, where there is one, else by the `balanced` rule and as far as `others` (C,) differ from it;
    never fewer than were `seen` (C,).
    """
    images = knowledge.batch_size
    if knowledge.model.validation is not None:
        return knowledge.model.validation.counts(bias_gradient(knowledge), images, seen)
    estimates = torch.stack([*others, balanced(knowledge).real_counts])
    seen = torch.zeros_like(estimates[-1]) if seen is None else seen
    sure = float(seen.sum())
    unseen = (estimates[-1] - seen).clamp_min(0)
    real = seen + unseen * (images - sure) / unseen.sum().clamp_min(1e-12)
    return real, estimates.clamp(-1, images + 1).std(0) * (1 - sure / images)


def solitary(knowledge: Knowledge) -> Tensor:
    """(C,): images seen in features that they alone light up.

    None after local training, not even of one step: what faint images leave in weights is lost in their rounding.
    """
    if knowledge.update.local is None:
        with suppress(CannotSeparate):
            return count_solitary(knowledge.last_layer, knowledge.batch_size)
    return torch.zeros(len(knowledge.weight), dtype=torch.long, device=knowledge.weight.device)


def predicts_alike(knowledge: Knowledge) -> bool:
    """Whether the network predicts much the same whatever it sees: noise fed coarse and fine, down to flat colours."""
    size, generator = knowledge.image_size, torch.Generator().manual_seed(knowledge.seed)
    grains = [torch.randn(8, 3, cells, cells, generator=generator) for cells in (1, 2, 4, 8, size)]
    images = torch.cat([interpolate(grain, (size, size), mode="bilinear") for grain in grains])
    model = knowledge.model
    with torch.no_grad():
        predictions = model(model.denormalise(images.to(model.mean))).double().softmax(1)
    return float((predictions - predictions.mean(0)).abs().sum(1).mean()) / 2 < ALIKE


def certainty(real_counts: Tensor, counts: Tensor, spread: Tensor) -> Tensor:
    """How likely each count is what a normal value around the real-valued one, as far apart as `spread`, rounds to."""
    wide = spread.clamp_min(0.05) * 2**0.5
    chance = torch.erf((counts + 0.5 - real_counts) / wide) - torch.erf((counts - 0.5 - real_counts) / wide)
    return (chance / 2).nan_to_num(0.0)  # nothing is sure of a count beside no number


STRATEGIES: dict[str, Strategy] = {
    "verified": Strategy(
        title="Verified",
        summary="Looks for the images' features in the last layer; labels whose features explain it are proven.",
        source="this project; after Geng et al. 2021 and Ma et al. 2023",
        infer=verified,
    ),
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
    "llg": Strategy(
        title="LLG",
        summary="Takes one label's typical impact off the gradient after the other; noise tells the impact.",
        source="Wainakh et al. 2021, arXiv 2105.09369",
        infer=llg,
    ),
    "ilrg": Strategy(
        title="iLRG",
        summary="Class-wise embeddings from the gradient tell what is predicted; a linear system gives counts.",
        source="Ma et al. 2023, ICLR",
        infer=ilrg,
    ),
}
