"""Comparisons: scenarios to run side by side, and their outcome in one sentence of figures.

Sentences are made of the scores of finished runs. Where one has none, because the private batch is not known, they say
how much of the updates is not matched.

>>> worst_swap(Scenario(indices=(0, 1, 3, 4)))
'ship>deer'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from deepleak_core.data.batches import load_batch
from deepleak_core.events import (
    LABELS_CHANGED,
    FinalScore,
    Finished,
    LabelsInferred,
    Stage,
)
from deepleak_core.federated.case import target_model
from deepleak_core.scenario import Scenario
from deepleak_core.studies.fusion import same_label, shares
from deepleak_core.text import percent, split_list, swap_text

COMPARED = ("gradinversion", "general-deep-leakage")


# ------------------------------------------------------------------------------------------------ one wrong label


def wrong_label(scenario: Scenario, swap: str | None = None) -> tuple[Scenario, Scenario]:
    """The attack as it is and the same with one label wrong: `swap` such as "cat>dog", or any by the seed."""
    return scenario, scenario.changed(mislabel=(swap,)) if swap else scenario.changed(wrong_labels=1)


def worst_swap(scenario: Scenario) -> str:
    """The wrong label that changes the last layer's gradient most, as "cat>dog".

    A wrong label shifts that gradient by the feature vector of its image. So the image is the one with the longest
    vector, among those whose label does not repeat where there are any. It is given the absent class that the network
    finds least likely for it; the choice of the class has little effect, that of the image much.
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


def what_it_cost(right: Finished, wrong: Finished, swap: str | None = None) -> str:
    """The effect of one wrong label on a batch: whether it makes all images worse, and how many are still recognisable.

    `swap` is the wrong label, such as "ship>deer".
    """
    if right.score is None or wrong.score is None:
        return (
            f"The residual shows the error: {percent(wrong.residual)} of the update is not matched, against "
            f"{percent(right.residual)} with the right labels."
        )
    before, after = _recognisable(right.score), _recognisable(wrong.score)
    total = len(right.score.outcomes)
    label = f"One wrong label ({' as '.join(split_list(swap, '>'))})" if swap else "One wrong label"
    seen = f"{after} of {total} images recognisable, {before} of {total} with all labels correct"
    if all(now < then for then, now in zip(right.score.psnr, wrong.score.psnr, strict=True)):
        lost = right.score.mean_psnr - wrong.score.mean_psnr
        return f"{label} makes every image worse, by {lost:.0f} dB on average: {seen}."
    return f"{label}: {seen}."


def _recognisable(score: FinalScore) -> int:
    """How many images are recognisable or recovered."""
    return sum(outcome != "not recovered" for outcome in score.outcomes)


def what_the_sweep_says(ends: Sequence[Finished]) -> str:
    """How quality falls with the number of wrong labels, from none on."""
    scores = [end.score for end in ends if end.score is not None]
    if not ends:
        return ""
    if len(scores) < len(ends):
        return f"Not matched with 0 to {len(ends) - 1} wrong labels: {_residuals(ends)} of the update."
    means = ", ".join(f"{score.mean_psnr:.0f}" for score in scores)
    return (
        f"Mean PSNR with 0 to {len(ends) - 1} wrong labels: {means} dB; a flat grey image would "
        f"score {scores[0].grey_psnr:.0f} dB."
    )


def what_was_repaired(wrong: Finished, repaired: Finished, stages: Sequence[Stage]) -> str:
    """The effect of label repair, and what was changed according to the `stages` of the attack so far."""
    left = f"{percent(repaired.residual)} of the update is not matched"
    without = f"{percent(wrong.residual)} without"
    if wrong.score is None or repaired.score is None:
        return f"With label repair {left}, {without}."
    before, after, total = _recognisable(wrong.score), _recognisable(repaired.score), len(wrong.score.outcomes)
    seen = f"{after} of {total} images recognisable, {before} of {total} before"
    sentences = (stage.sentence for stage in stages if stage.name == LABELS_CHANGED)
    changed = next((sentence.partition(":")[0] for sentence in sentences), "")
    if not changed:
        return f"The attacker checked its labels and kept them: {seen}; {left}."
    return f"The attacker checked its labels ({changed}): {seen}."


# -------------------------------------------------------------------------------------------------- GradInversion


def compared(scenario: Scenario) -> tuple[Scenario, ...]:
    """The same update attacked by GradInversion and by General Deep Leakage, each with its default settings."""
    own = dict.fromkeys(("label_strategy", "learning_rate", "total_variation", "restarts", "prior", "setting"))
    return tuple(scenario.changed(attack=name, **own) for name in COMPARED)


def over_label_distributions(scenario: Scenario) -> list[Scenario]:
    """Both attacks on batches of this size from all different to all the same, one pair after the other.

    The images that share a label are of the same class throughout.
    """
    offered = shares(scenario)
    return [one for share in offered for one in compared(same_label(scenario, share, up_to=offered[-1]))]


def what_the_distributions_say(ends: Sequence[Finished]) -> str:
    """The quality of both attacks on batches from all different to all the same."""
    pair = (ends[0::2], ends[1::2])
    if not ends:
        return ""
    if any(end.score is None for end in ends):
        theirs, ours = map(_residuals, pair)
        return f"Not matched as more images share a label: GradInversion {theirs}, General Deep Leakage {ours}."
    theirs, ours = (", ".join(f"{end.score.mean_psnr:.0f}" for end in side if end.score) for side in pair)
    return f"Mean PSNR as more images share a label: GradInversion {theirs} dB, General Deep Leakage {ours} dB."


def labels_right(inferred: LabelsInferred) -> int:
    """Number of the batch's labels that were found, counted with multiplicity; 0 where they are not known."""
    if inferred.score is None:
        return 0
    return sum(map(min, inferred.counts, inferred.score.true_counts))


def what_differs(theirs: tuple[LabelsInferred, Finished], ours: tuple[LabelsInferred, Finished]) -> str:
    """Labels and images of GradInversion and of General Deep Leakage from the same update."""
    scores = [end.score for _, end in (theirs, ours)]
    if scores[0] is None or scores[1] is None:
        return _not_matched({"GradInversion": theirs[1], "General Deep Leakage": ours[1]})
    total = len(scores[1].psnr)
    found = [labels_right(inferred) for inferred, _ in (theirs, ours)]
    return (
        f"GradInversion found {found[0]} of {total} labels and reached {scores[0].mean_psnr:.0f} dB; "
        f"General Deep Leakage found {found[1]} of {total} and reached {scores[1].mean_psnr:.0f} dB."
    )


# ------------------------------------------------------------------------------------------- without ground truth


def _not_matched(ends: Mapping[str, Finished]) -> str:
    parts = ", ".join(f"{name} {percent(end.residual)}" for name, end in ends.items())
    return f"No ground truth; part of the update that is not matched: {parts}."


def _residuals(ends: Sequence[Finished]) -> str:
    return ", ".join(percent(end.residual) for end in ends)
