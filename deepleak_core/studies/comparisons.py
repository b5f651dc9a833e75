"""The findings as comparisons: which scenarios to run side by side, and what came out, in a sentence of their figures.

>>> base = Scenario(indices=(0, 1, 3, 4))
>>> [scenario.indices for scenario in (same_label(base, 2), same_label(base, 4))]
[(0, 1, 4, 5), (4, 5, 7, 19)]
>>> worst_swap(base)
'ship>deer'
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from deepleak_core.data import datasets
from deepleak_core.data.batches import load_batch, pick
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.events import (
    LABELS_CHANGED,
    FinalScore,
    Finished,
    GroundTruthKnown,
    LabelsInferred,
    Stage,
    from_png,
    png,
)
from deepleak_core.federated.case import target_model
from deepleak_core.labels.wrong_labels import swap_text
from deepleak_core.scenario import Scenario
from deepleak_core.text import percent

COMPARED = ("gradinversion", "general-deep-leakage")


# ------------------------------------------------------------------------------------------------ one wrong label


def wrong_label(scenario: Scenario, swap: str | None = None) -> tuple[Scenario, Scenario]:
    """The attack as it is and the same with one label wrong: `swap` such as "cat>dog", or any by the seed."""
    return scenario, scenario.changed(mislabel=(swap,)) if swap else scenario.changed(wrong_labels=1)


def worst_swap(scenario: Scenario) -> str:
    """The one wrong label that the last layer feels most, as "cat>dog".

    A wrong label shifts the last layer's gradient by the feature vector of its image: so it is the image with the
    longest one, among those whose label does not repeat while there are any; it is taken for the absent class that
    the network finds least likely for it. Which class it is matters little, which image matters much.
    """
    batch, model = load_batch(scenario), target_model(scenario)
    model.eval()
    with torch.no_grad():
        features = model.body(model.normalise(batch.images))
        logits = model.head(features)
    counts = torch.bincount(batch.labels, minlength=len(batch.class_names))
    alone = counts[batch.labels] == 1
    weight = features.norm(dim=1).masked_fill(~alone if alone.any() else torch.zeros_like(alone), -1.0)
    image = int(weight.argmax())
    others = counts == 0 if (counts == 0).any() else torch.arange(len(counts)) != batch.labels[image]
    taken_for = int(logits[image].masked_fill(~others, torch.inf).argmin())
    return swap_text(batch.class_names[batch.labels[image]], batch.class_names[taken_for])


def wrong_label_sweep(scenario: Scenario) -> list[Scenario]:
    """The same attack with 0, 1, 2, ... and all labels wrong, which ones by the scenario's seed."""
    return [scenario.changed(wrong_labels=wrong, mislabel=None) for wrong in range(scenario.batch_size + 1)]


def what_it_cost(right: Finished, wrong: Finished) -> str:
    """What one wrong label did to a batch."""
    before, after = mean_psnr(right), mean_psnr(wrong)
    lost = [a - b for a, b in zip(psnr_of(right), psnr_of(wrong), strict=True)]
    spoilt = sum(value >= 3 for value in lost)
    which = "every image" if spoilt == len(lost) else f"{spoilt} of {len(lost)} images"
    return (
        f"One wrong label cost the batch {before - after:.0f} dB, {before:.0f} to {after:.0f}, and spoilt {which}. "
        f"It gives itself away: {percent(wrong.residual)} of the update stays unexplained "
        f"instead of {percent(right.residual)}."
    )


def what_the_sweep_says(ends: Sequence[Finished]) -> str:
    """How quality falls with the number of wrong labels."""
    means = ", ".join(f"{mean_psnr(end):.0f}" for end in ends)
    noise = _score(ends[0]).noise_psnr
    return f"Mean PSNR with 0 to {len(ends) - 1} wrong labels: {means} dB; noise would score {noise:.0f} dB."


def what_was_repaired(wrong: Finished, repaired: Finished, told: Sequence[Stage]) -> str:
    """What noticing a wrong label is worth, and what was changed as far as the attack's stages have `told`."""
    before, after = mean_psnr(wrong), mean_psnr(repaired)
    if after < before + 3:
        left = f"{percent(repaired.residual)} of the update stays unexplained"
        return f"Told to look out for wrong labels the attack gives {after:.0f} dB, {before:.0f} without; {left}."
    changed = next((stage.sentence.partition(":")[0] for stage in told if stage.name == LABELS_CHANGED), "wrong labels")
    return f"The attacker noticed and mended it, {changed}: {after:.0f} dB instead of {before:.0f}."


# --------------------------------------------------------------------------------------------------------- fusion


def same_label(scenario: Scenario, share: int) -> Scenario:
    """A batch of the same size in which `share` images have one label and every other has its own.

    The shared class is the one with most images in the data set, one of the batch where there is a choice.
    Its images come last, so that the new batch has the same one. Raises `UnsupportedScenario` where the data set has
    too few images.
    """
    label, mates, others = _groups(scenario)
    wanted = scenario.batch_size - share
    if share > len(mates) or wanted > len(others):
        raise UnsupportedScenario(
            [
                f"{share} of {scenario.batch_size} images were to share a label and the others to have their own; "
                f"{scenario.images or scenario.dataset} has {len(mates)} of class "
                f"{datasets.names_of_classes(scenario)[label]} and {len(others)} other classes; make the batch smaller."
            ]
        )
    chosen = (*others[:wanted], *mates[:share])
    return scenario.changed(indices=chosen, labels=None, composition=None, batch_size=len(chosen))


def shares(scenario: Scenario) -> range:
    """How many images of a batch of this size can share a label: 1 up to all of them, or as many as there are."""
    _, mates, others = _groups(scenario)
    return range(max(1, scenario.batch_size - len(others)), min(scenario.batch_size, len(mates)) + 1)


def _groups(scenario: Scenario) -> tuple[int, list[int], list[int]]:
    """The class to share, its images, and one image of every other class; those of the batch come first."""
    labels = datasets.items(scenario).labels
    batch = list(pick(scenario, labels))
    ordered = batch + sorted(set(range(len(labels))) - set(batch))
    size = Counter(labels)
    label = max([*size, *(labels[i] for i in batch)][::-1], key=lambda label: size[label])
    others: dict[int, int] = {}
    for i in ordered:
        others.setdefault(labels[i], i)
    del others[label]
    return label, [i for i in ordered if labels[i] == label], list(others.values())


def distinct_and_same(scenario: Scenario, share: int) -> tuple[Scenario, Scenario]:
    """Two batches of one size, one with all labels different. Raises what `same_label` does."""
    return same_label(scenario, 1), same_label(scenario, share)


def sharing(scenario: Scenario) -> int:
    """How many images of the batch share the label that most of them share."""
    return max(Counter(load_batch(scenario).labels.tolist()).values())


def mean_pictures(truth: GroundTruthKnown, class_names: Sequence[str]) -> list[tuple[bytes, str, int]]:
    """For each class that repeats in the batch: the mean of its private images as PNG, its name, its images."""
    images = np.stack([from_png(picture) for picture in truth.pictures])
    classes = np.array(truth.labels)
    return [
        (png(images[classes == label].mean(0)), class_names[label], count)
        for label, count in sorted(Counter(truth.labels).items())
        if count > 1
    ]


def what_fused(distinct: Finished, same: Finished) -> str:
    """The effect of a shared label on a batch."""
    clear = sum(verdict != "not recovered" for verdict in _score(distinct).outcomes)
    sentence = (
        f"All different: {clear} of {len(psnr_of(distinct))} images are recognisable, {mean_psnr(distinct):.0f} dB."
    )
    score = _score(same)
    if score.fusion is None:
        return sentence
    return (
        f"{sentence} Same label: {mean_psnr(same):.0f} dB, and {score.fusion:.0%} of the results that share a label "
        "are closer to the average of their class than to any one of its images."
    )


def separated(scenario: Scenario) -> Scenario:
    """The same update for the exact attack, with settings of its own."""
    own = dict.fromkeys(("learning_rate", "total_variation", "restarts", "max_iterations", "label_strategy", "fedavg"))
    return scenario.changed(attack="exact", feature_term=False, **own)


def what_was_separated(fused: Finished, apart: Finished) -> str:
    """What feature separation made of a fused batch."""
    return (
        f"The same update, separated in {apart.seconds:.1f} s: {mean_psnr(apart):.0f} dB on average instead of "
        f"{mean_psnr(fused):.0f}, every image at least {min(psnr_of(apart)):.0f} dB."
    )


# -------------------------------------------------------------------------------------------------- GradInversion


def compared(scenario: Scenario) -> tuple[Scenario, ...]:
    """The same update attacked by GradInversion and by General Deep Leakage, each with settings of its own."""
    own = dict.fromkeys(("label_strategy", "learning_rate", "total_variation", "restarts"))
    return tuple(scenario.changed(attack=name, **own) for name in COMPARED)


def over_label_distributions(scenario: Scenario) -> list[Scenario]:
    """Both attacks on batches of this size from all different to all the same, one pair after the other."""
    return [one for share in shares(scenario) for one in compared(same_label(scenario, share))]


def what_the_distributions_say(ends: Sequence[Finished]) -> str:
    """How both attacks do from all different to all the same."""
    theirs, ours = (", ".join(f"{mean_psnr(end):.0f}" for end in ends[i::2]) for i in range(2))
    return f"The more images share a label: GradInversion {theirs} dB, General Deep Leakage {ours} dB."


def labels_right(inferred: LabelsInferred) -> int:
    """How many of the batch's labels were found, each as often as it is there."""
    if inferred.score is None:
        return 0
    return sum(map(min, inferred.counts, inferred.score.true_counts))


def what_differs(theirs: tuple[LabelsInferred, Finished], ours: tuple[LabelsInferred, Finished]) -> str:
    """GradInversion's labels and images against those of General Deep Leakage, on the same update."""
    total = len(psnr_of(ours[1]))
    found = [labels_right(inferred) for inferred, _ in (theirs, ours)]
    psnr = [mean_psnr(end) for _, end in (theirs, ours)]
    return (
        f"GradInversion found {found[0]} of {total} labels and rebuilt the images at {psnr[0]:.0f} dB; "
        f"General Deep Leakage found {found[1]} of {total}, {psnr[1]:.0f} dB."
    )


def psnr_of(end: Finished) -> tuple[float, ...]:
    """PSNR of each image in dB."""
    return _score(end).psnr


def mean_psnr(end: Finished) -> float:
    """Mean PSNR of a run in dB."""
    return _score(end).mean_psnr


def _score(end: Finished) -> FinalScore:
    assert end.score is not None, "comparisons are made of scenarios, whose ground truth is known"
    return end.score
