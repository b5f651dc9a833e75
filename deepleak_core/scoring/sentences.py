"""The outcome of a run in words, by one rule.

Each reconstruction is `recovered`, `recognisable` or `not recovered`, by its PSNR and SSIM together and its distance
from the best flat image. One figure would not do: coloured noise and a flat square in the mean colour can have a fair
PSNR, and a blurred picture a fair SSIM.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from deepleak_core.events import FinalScore, Finished, LabelsInferred, LabelsRevised, Outcome
from deepleak_core.labels.wrong_labels import instead_of

RECOVERED_DB, RECOVERED_SSIM = 30.0, 0.9  # PSNR and SSIM from which a reconstruction shows the image in photo quality
ABOVE_FLAT_DB, RECOGNISABLE_SSIM = 3.0, 0.5  # PSNR above the best flat image, and SSIM, from which it is recognisable
IN_WORDS = dict(enumerate(["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], 2))

CERTIFIED = ", certified without the originals."  # the end of a sentence on exact copies


def outcome(psnr: float, ssim: float, flat_psnr: float, pixel_exact: bool = False, blend: bool = False) -> Outcome:
    """The verdict on one reconstruction, from its PSNR and SSIM and the PSNR in dB of the best flat image.

    An exact copy is recovered, of a flat image as well. A blend of several images makes none of them recognisable.

    >>> outcome(45.0, 0.99, 15.0), outcome(22.8, 0.27, 15.0), outcome(19.0, 0.7, 15.0)
    ('recovered', 'not recovered', 'recognisable')
    """
    if pixel_exact or (psnr >= RECOVERED_DB and ssim >= RECOVERED_SSIM and psnr >= flat_psnr + ABOVE_FLAT_DB):
        return "recovered"
    if psnr >= flat_psnr + ABOVE_FLAT_DB and ssim >= RECOGNISABLE_SSIM and not blend:
        return "recognisable"
    return "not recovered"


def is_blend(psnr_to_mean: float, ssim_to_mean: float, flat_psnr: float, nearest_psnr: float) -> bool:
    """Whether a reconstruction shows the mean of its class: recognisable by the same rule, and closer than any image.

    `psnr_to_mean` and `ssim_to_mean` are those to the mean image of the class, `flat_psnr` is the PSNR in dB of the
    best flat image to it, and `nearest_psnr` that of the reconstruction to the private image closest to it.

    >>> is_blend(35.0, 0.96, 18.0, 18.0), is_blend(18.0, 0.4, 20.5, 15.0), is_blend(27.0, 0.9, 18.0, 40.0)
    (True, False, False)
    """
    return psnr_to_mean > nearest_psnr and outcome(psnr_to_mean, ssim_to_mean, flat_psnr) != "not recovered"


def what_leaked(
    finished: Finished,
    score: FinalScore,
    inferred: LabelsInferred,
    revised: LabelsRevised | None,
    mode: str,
    labels: Sequence[int],
    class_names: Sequence[str],
) -> str:
    """The outcome of a run in a few sentences, from its figures; `labels` are the true ones."""
    sentence = _images(score, "gradient" if mode == "fedsgd" else "weights")
    if all(score.pixel_exact):
        return sentence.removesuffix(".") + CERTIFIED if finished.certified else sentence
    remark = _remark(finished, score, inferred, labels, class_names)
    if revised is not None:
        right = revised.score is not None and revised.score.exact
        remark += f" The attack corrected its own labels{'' if right else ', but not to the true ones'}."
    return sentence + remark


def _images(score: FinalScore, source: str) -> str:
    total, mean = len(score.outcomes), score.mean_psnr
    count = Counter(score.outcomes)
    exact = sum(score.pixel_exact)
    if all(score.pixel_exact):
        images = f"all {total} private images" if total > 1 else "the private image"
        return f"Every pixel of {images} was recovered from the shared {source} alone: an exact copy."
    if count["recovered"] == total:
        images = f"All {total} private images were" if total > 1 else "The private image was"
        return f"{images} recovered at photo quality from the shared {source} alone ({mean:.0f} dB on average)."
    seen = count["recovered"] + count["recognisable"]
    if seen:
        if total == 1:
            return (
                f"The private image is recognisable, rebuilt from the shared {source} alone ({mean:.0f} dB; a flat "
                f"grey image would score {score.grey_psnr:.0f})."
            )
        images = f"All {total}" if seen == total else f"{seen} of the {total}"
        are = "is" if seen == 1 else "are"
        if count["recovered"] == seen:
            quality = "recovered at photo quality" if exact < seen else "recovered exactly"
            return f"{images} private images {are} {quality} from the shared {source} alone ({mean:.0f} dB on average)."
        photo = f", {count['recovered']} of them at photo quality" if count["recovered"] else ""
        return (
            f"{images} private images {are} recognisable, rebuilt from the shared {source} alone{photo} "
            f"({mean:.0f} dB on average; a flat grey image would score {score.grey_psnr:.0f})."
        )
    images = f"None of the {total} private images was" if total > 1 else "The private image was not"
    return (
        f"{images} recovered ({mean:.0f} dB on average; random noise would score {score.noise_psnr:.0f} dB, a flat "
        f"grey image {score.grey_psnr:.0f})."
    )


def _remark(
    finished: Finished,
    score: FinalScore,
    inferred: LabelsInferred,
    labels: Sequence[int],
    class_names: Sequence[str],
) -> str:
    """What explains the outcome: wrong labels, or labels that are shared."""
    total, wrong = len(score.outcomes), len(inferred.falsified)
    if wrong:
        swapped = instead_of(inferred.found, inferred.order, class_names)
        were = "was" if wrong == 1 else "were"
        return f" {wrong} of the {total} labels that the attack used {were} wrong: {swapped}."
    if inferred.score is not None and not inferred.score.exact:
        return " Not every label was inferred correctly."
    if any(score.fused):
        return f" {what_blended(score, labels, class_names)}"
    if finished.reason == "seconds" and "not recovered" in score.outcomes:
        return " The time limit ended the attack."
    return ""


def what_blended(score: FinalScore, labels: Sequence[int], class_names: Sequence[str] = ()) -> str:
    """For each class whose images came back as their blend, how close it is to their mean and to any single image.

    `labels` are the true ones; without `class_names` classes are not named. Empty where nothing is blended.
    """
    fused = [label for label, blend in zip(labels, score.fused, strict=False) if blend]
    names = {label: f" of class {class_names[label]}" if class_names else "" for label in fused}
    return " ".join(_blend(score, labels, label, names[label]) for label in sorted(names))


def _blend(score: FinalScore, labels: Sequence[int], label: int, name: str) -> str:
    total = sum(one == label for one in labels)
    places = [i for i, blend in enumerate(score.fused) if blend and labels[i] == label]
    figures = score.psnr_to_mean, score.nearest_psnr or score.psnr
    to_mean, nearest = ([values[i] for i in places] for values in figures)
    images = f"{len(places)}" if len(places) == total else f"{len(places)} of {total}"
    return (
        f"{images} images{name} came back as one blend of {_all(total)}: {fmean(to_mean):.0f} dB to their "
        f"mean, {max(nearest):.0f} dB to the nearest single image."
    )


def _all(count: int) -> str:
    return "both" if count == 2 else f"all {IN_WORDS.get(count, count)}"
