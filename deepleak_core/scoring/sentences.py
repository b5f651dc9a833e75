"""The outcome of a run in words, by one rule.

Each reconstruction is `recovered`, `recognisable` or `not recovered`, by its PSNR and SSIM together and its distance
from the best flat image. One figure would not do: coloured noise and a flat square in the mean colour can have a fair
PSNR, and a blurred picture a fair SSIM.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from deepleak_core.events import FinalScore, Finished, LabelsInferred, LabelsRevised, Outcome
from deepleak_core.labels.wrong_labels import instead_of

RECOVERED_DB, RECOVERED_SSIM = 30.0, 0.9  # PSNR and SSIM from which a reconstruction shows the image in photo quality
ABOVE_FLAT_DB, RECOGNISABLE_SSIM = 3.0, 0.5  # PSNR above the best flat image, and SSIM, from which it is recognisable
BLEND_DB = 15.0  # PSNR to the mean of a class from which a reconstruction shows it; uniform noise scores 8 to 10


def outcome(psnr: float, ssim: float, flat_psnr: float, pixel_exact: bool = False) -> Outcome:
    """The verdict on one reconstruction, from its PSNR and SSIM and the PSNR in dB of the best flat image.

    An exact copy is recovered, of a flat image as well.

    >>> outcome(45.0, 0.99, 15.0), outcome(22.8, 0.27, 15.0), outcome(19.0, 0.7, 15.0)
    ('recovered', 'not recovered', 'recognisable')
    """
    if pixel_exact or (psnr >= RECOVERED_DB and ssim >= RECOVERED_SSIM and psnr >= flat_psnr + ABOVE_FLAT_DB):
        return "recovered"
    if psnr >= flat_psnr + ABOVE_FLAT_DB and ssim >= RECOGNISABLE_SSIM:
        return "recognisable"
    return "not recovered"


def is_blend(psnr_to_mean: float, nearest_psnr: float) -> bool:
    """Whether a reconstruction shows the blend of its class, from its PSNR in dB to the mean and to the nearest image.

    >>> is_blend(17.0, 14.0), is_blend(9.5, 9.0), is_blend(17.0, 25.0)
    (True, False, False)
    """
    return psnr_to_mean >= BLEND_DB and psnr_to_mean > nearest_psnr


def what_leaked(
    finished: Finished,
    score: FinalScore,
    inferred: LabelsInferred,
    revised: LabelsRevised | None,
    mode: str,
    class_names: Sequence[str],
) -> str:
    """The outcome of a run in one or two sentences, from its figures."""
    sentence = _images(score, "gradient" if mode == "fedsgd" else "weights")
    if all(score.pixel_exact):
        return sentence
    remark = _remark(finished, score, inferred, class_names)
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
            return f"The private image is recognisable, rebuilt from the shared {source} alone ({mean:.0f} dB)."
        images = f"All {total}" if seen == total else f"{seen} of the {total}"
        are = "is" if seen == 1 else "are"
        if count["recovered"] == seen:
            quality = "recovered at photo quality" if exact < seen else "recovered exactly"
            return f"{images} private images {are} {quality} from the shared {source} alone ({mean:.0f} dB on average)."
        photo = f", {count['recovered']} of them at photo quality" if count["recovered"] else ""
        return (
            f"{images} private images {are} recognisable, rebuilt from the shared {source} alone{photo} "
            f"({mean:.0f} dB on average)."
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
    if fused := sum(score.fused):
        return f" {fused} of them {'is' if fused == 1 else 'are'} the blend of images that share a label."
    if finished.reason == "seconds" and "not recovered" in score.outcomes:
        return " The time limit ended the attack."
    return ""
