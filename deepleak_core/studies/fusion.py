"""Same-label fusion: batches whose images share a label, and what an attack makes of them, in sentences.

>>> base = Scenario(indices=(0, 1, 3, 4))
>>> [same_label(base, share).indices for share in shares(base)]
[(0, 1, 3, 4), (0, 1, 3, 10), (0, 4, 5, 7), (4, 5, 7, 19)]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from deepleak_core.data import datasets
from deepleak_core.data.batches import load_batch, pick
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.events import Finished, GroundTruthKnown
from deepleak_core.scenario import Scenario
from deepleak_core.scoring.pictures import class_means, psnr
from deepleak_core.scoring.sentences import RECOVERED_DB, what_blended
from deepleak_core.text import percent

# ------------------------------------------------------------------------------------------------------ scenarios


def same_label(scenario: Scenario, share: int, *, up_to: int = 0) -> Scenario:
    """A batch of the same size in which `share` images have one label and every other image a label of its own.

    The shared class is the one with the fewest images that are enough, for `up_to` images too; of several, the one that
    occurs most often in the batch, and then the last one there. Its images come last, so that applying this function to
    the new batch finds the same class. A batch whose labels all differ is left as it is for `share` 1.

    Raises `UnsupportedScenario` where the data set has too few images.
    """
    labels = datasets.items(scenario).labels
    batch, size = pick(scenario, labels), Counter(labels)
    shared = _class_of(size, [labels[i] for i in batch], max(share, up_to))
    if shared is None or scenario.batch_size - share > len(size) - 1:
        raise _too_few(scenario, share, size)
    ordered = [*batch, *sorted(set(range(len(labels))) - set(batch))]
    others: dict[int, int] = {}
    for i in ordered:
        others.setdefault(labels[i], i)
    del others[shared]
    mates = [i for i in ordered if labels[i] == shared]
    chosen = (*list(others.values())[: scenario.batch_size - share], *mates[:share])
    return scenario.changed(indices=chosen, labels=None, composition=None, batch_size=len(chosen))


def _class_of(size: Counter[int], batch: Sequence[int], images: int) -> int | None:
    """The class to share: the smallest with so many images, then the most frequent and the last of the batch's."""
    occurs, last = Counter(batch), {label: place for place, label in enumerate(batch)}
    enough = [label for label in size if size[label] >= images]
    rank = {label: (size[label] if images > 1 else 0, -occurs[label], -last.get(label, -1)) for label in enough}
    return min(enough, key=lambda label: rank[label], default=None)


def _too_few(scenario: Scenario, share: int, size: Counter[int]) -> UnsupportedScenario:
    ((largest, images),) = size.most_common(1)
    return UnsupportedScenario(
        [
            f"{share} of {scenario.batch_size} images were to share a label and the others to have their own; "
            f"{scenario.images or scenario.dataset} has {images} of class "
            f"{datasets.names_of_classes(scenario)[largest]} and {len(size) - 1} other classes; make the batch smaller."
        ]
    )


def shares(scenario: Scenario) -> range:
    """How many images of a batch of this size can share a label: 1 up to all of them, or as many as there are."""
    size = Counter(datasets.items(scenario).labels)
    return range(max(1, scenario.batch_size - len(size) + 1), min(scenario.batch_size, max(size.values())) + 1)


def sharing(scenario: Scenario) -> int:
    """How many images of the batch share the label that most of them share."""
    return max(Counter(load_batch(scenario).labels.tolist()).values())


def independently(scenario: Scenario) -> Scenario:
    """The same attack with a starting point of its own for each image."""
    kept = tuple(pair for pair in scenario.setting or () if pair.partition("=")[0].strip() != "start")
    return scenario.changed(setting=(*kept, "start=independent"))


def separated(scenario: Scenario) -> Scenario:
    """The same update attacked by `exact` with its default settings."""
    own = dict.fromkeys(("learning_rate", "total_variation", "restarts", "max_iterations", "label_strategy", "fedavg"))
    return scenario.changed(attack="exact", feature_term=False, prior=None, setting=None, **own)


# ------------------------------------------------------------------------------------------------------- pictures


def averages_to_mean(rebuilt: Sequence[bytes], truth: GroundTruthKnown) -> dict[int, float]:
    """For each class that repeats: the PSNR in dB of the average of its reconstructions to the mean of its images.

    `rebuilt` are PNG bytes in the order of the private images.
    """
    averages, means = class_means(rebuilt, truth.labels), class_means(truth.pictures, truth.labels)
    return {label: psnr(averages[label][None], mean[None])[0] for label, mean in means.items()}


# ------------------------------------------------------------------------------------------------------ sentences


def what_fused(end: Finished, truth: GroundTruthKnown | None, class_names: Sequence[str]) -> str:
    """What came back of the images that share a label, and of the others."""
    if end.score is None or truth is None:
        return f"No ground truth: {percent(end.residual)} of the update is not matched."
    score, labels = end.score, truth.labels
    alone, shared = _places(labels)
    if not shared:
        clear = sum(outcome != "not recovered" for outcome in score.outcomes)
        return f"Every image has its own label: {clear} of {len(labels)} came back, {score.mean_psnr:.0f} dB."
    several = len({labels[place] for place in shared}) > 1
    sentence = what_blended(score, labels, class_names if several else ()) or (
        f"{len(shared)} images share a label and came back neither one by one nor as a clear blend: "
        f"{_mean(score.psnr_to_mean, shared):.0f} dB to their mean, "
        f"{_mean(score.nearest_psnr or score.psnr, shared):.0f} dB to the nearest single image."
    )
    others = "other" if len(alone) == 1 else f"other {len(alone)}"
    return f"{sentence} The {others}: {_mean(score.psnr, alone):.0f} dB." if alone else sentence


def what_averaging_shows(end: Finished, rebuilt: Sequence[bytes], truth: GroundTruthKnown | None) -> str:
    """How close results from independent starting points are to the mean of their class, one by one and averaged.

    `rebuilt` are the last pictures as PNG bytes, in the order of the private images.
    """
    shared = _places(truth.labels)[1] if truth else []
    if end.score is None or truth is None or not shared:
        return f"Started apart, {percent(end.residual)} of the update is not matched."
    average = fmean(averages_to_mean(rebuilt, truth).values())
    blend = f"they are the same blend: {average:.0f} dB" if average >= RECOVERED_DB else f"{average:.0f} dB"
    return (
        f"Started apart, each of the {len(shared)} is {_mean(end.score.psnr_to_mean, shared):.0f} dB from their mean; "
        f"averaged, {blend}."
    )


def what_was_separated(fused: Finished, exact: Finished) -> str:
    """The effect of feature separation on a fused batch."""
    if fused.score is None or exact.score is None:
        left = f"{percent(exact.residual)} of the update is not matched, {percent(fused.residual)} before"
        return f"No ground truth; with separated features {left}."
    total = len(exact.score.psnr)
    if all(exact.score.pixel_exact):
        every = f"all {total} images came back, each" if total > 1 else "the image came back,"
        return f"The same update, separated: {every} exact in every pixel, after {exact.seconds:.1f} s."
    return (
        f"The same update, separated: {exact.score.mean_psnr:.0f} dB on average instead of "
        f"{fused.score.mean_psnr:.0f} dB, every image at least {min(exact.score.psnr):.0f} dB, after "
        f"{exact.seconds:.1f} s."
    )


def _places(labels: Sequence[int]) -> tuple[list[int], list[int]]:
    """The places of the images whose label is their own, and of those that share one."""
    counts = Counter(labels)
    alone = [place for place, label in enumerate(labels) if counts[label] == 1]
    return alone, [place for place, label in enumerate(labels) if counts[label] > 1]


def _mean(values: Sequence[float], places: Sequence[int]) -> float:
    return fmean(values[place] for place in places)
