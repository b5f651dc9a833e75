"""The figures of How it works, each with a caption that quotes the run it comes from.

Numbers and pictures lie in assets/explain, where `python -m benchmarks.explain` put them: nothing is computed here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from deepleak_core.events import FeaturesSeparated, UpdateShared, from_message
from deepleak_core.federated.models import MODELS
from deepleak_core.labels.strategies import STRATEGIES
from ui import charts, figure_charts, markup

FOLDER = Path(__file__).parent.parent / "assets" / "explain"
EXACT = 59.0  # dB from which every 8-bit value is the private one


@st.cache_resource(show_spinner=False)
def measured() -> dict[str, Any]:
    """Every figure's numbers by its name, and the `machine` they come from."""
    numbers: dict[str, Any] = json.loads((FOLDER / "figures.json").read_text())
    return numbers


def machine() -> str:
    """Where and how all of it was measured, in a sentence."""
    of = measured()["machine"]
    return (
        f"Measured on {of['words']}, {of['date']}, on the images that come with DeepLeak, seed 0: unless it says "
        "otherwise, a figure is one example, no statistic. `python -m benchmarks.explain` makes them all."
    )


# --------------------------------------------------------------------------------------- why a gradient leaks


def shared() -> None:
    """The private batch beside the update."""
    of = measured()["shared"]
    update = from_message(of["update"])
    assert isinstance(update, UpdateShared)
    values = update.batch_size * 3 * 32 * 32
    left, right = st.columns([2, 3])
    with left:
        st.html(_sheets({f"kept: {values:,} pixel values": of["picture"]}))
    with right:
        st.html(markup.update(update))
    _caption(f"The update has {sum(update.sizes) / values:.0f} times as many numbers as the images have pixel values.")


def pixels() -> None:
    """A row of the gradient as a picture: of one image, of different ones, of one class."""
    of = measured()["pixels"]
    pictures, psnr, labels = of["pictures"], of["psnr"], of["labels"]
    st.html(
        _sheets(
            {
                "private": of["private"],
                f"alone: {_quality(psnr['one'])}": pictures["one"],
                f"of four: {_quality(psnr['distinct'])}": pictures["distinct"],
                f"four {labels['same']}s": pictures["same"],
            }
        )
    )
    _caption(
        f"A network of one linear layer. The row “{labels['one']}” of its weight gradient over its bias gradient, "
        f"drawn as a picture: no search, one division. It holds the one image, or one of four with different labels, "
        f"faintly mixed with the others. Four {labels['same']}s share one row: a mixture."
    )


def matching() -> None:
    """One search at five moments."""
    of = measured()["matching"]
    moments = of["moments"]
    st.html(_sheets({f"{m['step']} · {m['mean_psnr']:.0f} dB": m["picture"] for m in moments}))
    last = moments[-1]
    _caption(
        f"Iteration and mean PSNR. From noise ({of['noise_psnr']:.0f} dB) to "
        f"{last['mean_psnr']:.0f} dB; the residual falls from {moments[0]['residual']:.1f} to {last['residual']:.1g}."
    )


# ------------------------------------------------------------------------------------------------------- labels


def counts() -> None:
    """Estimated counts of an untrained and of a trained network beside the truth."""
    of = measured()["counts"]
    series = {"truth": of["truth"]} | {f"read from: {name}": s["estimates"] for name, s in of["stages"].items()}
    figure_charts.groups(series, of["class_names"], alt="Label counts per class: truth and estimates", key="counts")
    found = {name: sum(map(min, s["counts"], of["truth"])) for name, s in of["stages"].items()}
    total = sum(of["truth"])
    told = ", ".join(f"{right} of {total} {name}" for name, right in found.items())
    _caption(f"Zero-shot restoration of {total} images with repeating labels. Labels right: {told}.")


def training() -> None:
    """How often each strategy has the whole batch right, by training stage."""
    of = measured()["training"]
    (size, shown), (larger, others) = of["rates"].items()
    stages = list(shown)
    lines = {STRATEGIES[s].title: [(stage, shown[stage][s]) for stage in stages] for s in shown[stages[0]]}
    charts.accuracy(lines, stages, over="training stage", title="batches with every label right", key="training")
    best = max(others[stages[-1]].values())
    _caption(
        f"Whole batches right of {of['repeats']} random draws of {size} images, {of['model']}. With {larger} images, "
        f"at the {stages[-1]} stage, the best strategy has {100 * best:.0f} % of the batches right."
    )


# ------------------------------------------------------------------------------------------------- the findings


def wrong_label() -> None:
    """The same update searched with right labels and with wrong ones."""
    of = measured()["wrong_label"]
    cases = of["cases"]
    st.html(
        _sheets(
            {
                f"{_wrong(case['wrong'])}: {case['mean_psnr']:.0f} dB": case["picture"]
                for case in cases
                if "picture" in case
            }
        )
    )
    figure_charts.bars(
        {f"{case['wrong']} wrong": case["mean_psnr"] for case in cases},
        title="Mean PSNR in dB",
        floor=("noise", of["noise_psnr"]),
        alt="Mean PSNR by number of wrong labels",
        key="wrong",
    )
    right, wrong = cases[0], cases[1]
    _caption(
        f"One wrong label of {len(right['psnr'])}: the best of all images has {max(wrong['psnr']):.0f} dB, with right "
        f"labels the worst has {min(right['psnr']):.0f} dB. The residual tells on it: {wrong['residual']:.2g} instead "
        f"of {right['residual']:.1g}."
    )


def fused() -> None:
    """Four images of one class after a search, beside their mean."""
    of = measured()["fusion"]
    st.html(
        _sheets(
            {
                "private": of["private"],
                f"searched: {of['searched_psnr']:.0f} dB": of["searched"],
                "their mean": of["mean"],
            }
        )
    )
    closer = "closer to their mean" if of["psnr_to_mean"] > of["searched_psnr"] else "no closer to their mean"
    _caption(
        f"Four images of one class ({of['label']}). What the search returns is {closer} "
        f"({of['psnr_to_mean']:.0f} dB) than to the single images ({of['searched_psnr']:.0f} dB), yet its residual is "
        f"only {of['searched_residual']:.1g}."
    )


# ------------------------------------------------------------------------------------------ beyond the paper


def separated() -> None:
    """How alike the features of the same images are before and after separation."""
    of = measured()["fusion"]
    features = from_message(of["features"])
    assert isinstance(features, FeaturesSeparated)
    st.html(markup.separated(features, of["class_names"]))
    last, noise = features.singular_values[-2:]
    _caption(
        f"Features recovered to {100 * max(features.errors):.1g} %. With each row in units of its own length, the "
        f"smallest singular value that belongs to an image is {last:.1g}, the next, which is rounding, {noise:.0e}: "
        f"so the rank tells that there are {len(features.labels)} images."
    )


def corners() -> None:
    """Three images in the plane of all that features can be."""
    of = measured()["corners"]
    for column, (name, network) in zip(st.columns(len(of["networks"])), of["networks"].items(), strict=True):
        with column:
            figure_charts.plane(
                {"what can be": network["polygon"], "images": network["images"], "found": network["found"]},
                title=MODELS[name].title,
                alt=f"The polygon of all that features can be, {MODELS[name].title}, with three images in its corners",
                key=f"corners-{name}",
            )
    first, last = (list(of["networks"].values())[place] for place in (0, -1))
    labels = ", ".join(of["class_names"][label] for label in first["labels"])
    right = all(network["labels"] == network["labels_read"] for network in of["networks"].values())
    _caption(
        f"A batch of three ({labels}), trained networks. The outline is where {first['walls']:,} and "
        f"{last['walls']:,} walls leave room; found is the largest triangle in it after ReLU, the most independent "
        "three after ELU. "
        + ("Labels read off the corners: all right." if right else "Not all labels read off the corners are right.")
    )


def proof() -> None:
    """The residual of the right label counts against all next to them."""
    of = measured()["proof"]
    figure_charts.points(
        {name: (stage["right"], stage["wrong"]) for name, stage in of["stages"].items()},
        alt="Residual under the right label counts and under wrong ones, logarithmic",
        key="proof",
    )
    gap = min(min(stage["wrong"]) / stage["right"] for stage in of["stages"].values())
    wrong = len(next(iter(of["stages"].values()))["wrong"])
    _caption(
        f"The batch {', '.join(of['labels'])}. All {wrong} label counts that differ from the right ones in one image "
        f"leave a squared residual at least 10{_power(gap)} times as large, untrained and trained."
    )


def exact() -> None:
    """The same four images, taken apart."""
    of = measured()["fusion"]
    st.html(
        _sheets(
            {
                f"searched: {of['searched_psnr']:.0f} dB": of["searched"],
                f"taken apart: {of['exact_psnr']:.0f} dB": of["exact"],
            }
        )
    )
    every = "every pixel of every image is exact" if of["exact_pixels"] else "not every pixel is exact"
    _caption(f"The same update, no label given: {every}.")


# ---------------------------------------------------------------------------------------- what leaks less


def networks() -> None:
    """One search on every network."""
    of = measured()["networks"]
    cells = sorted(of["cells"], key=lambda cell: cell["mean_psnr"], reverse=True)
    figure_charts.bars(
        {f"{cell['model']}, {cell['stage']}": cell["mean_psnr"] for cell in cells},
        title="Mean PSNR in dB",
        floor=("noise", cells[0]["noise_psnr"]),
        alt="Mean PSNR of the same attack by network and training stage",
        key="networks",
        lying=True,
    )
    _caption(
        f"{of['attack']} on the same four images with true labels, at most {cells[0]['iterations']} iterations. "
        "A low bar means that this attack with these settings got little, not that nothing leaks."
    )


def larger() -> None:
    """Larger batches, and more local steps."""
    of = measured()
    floor = of["matching"]["noise_psnr"]
    left, right = st.columns(2)
    with left:
        cells = of["batches"]["cells"]
        figure_charts.bars(
            {f"{cell['batch_size']}": cell["mean_psnr"] for cell in cells},
            title="Images in the batch: PSNR in dB",
            floor=("noise", cells[-1]["noise_psnr"]),
            alt="Mean PSNR by batch size",
            key="batches",
        )
    with right:
        cells = of["local_steps"]["cells"]
        figure_charts.bars(
            {f"{cell['steps']}": cell["mean_psnr"] for cell in cells},
            title=f"Local steps at rate {of['local_steps']['rate']:g}: PSNR in dB",
            floor=("noise", floor),
            alt="Mean PSNR by number of local steps",
            key="local-steps",
        )
    most, steps = of["batches"]["cells"][-1], of["local_steps"]["cells"][-1]
    _caption(
        f"Different images, true labels, General Deep Leakage, which reads an update as one gradient. Of "
        f"{most['batch_size']} images {most['mean_psnr']:.0f} dB come back, after {steps['steps']} local steps "
        f"{steps['mean_psnr']:.0f} dB."
    )


def noise() -> None:
    """Noise added to the gradient before it is shared."""
    cells = measured()["noise"]["cells"]
    st.html(_sheets({f"{100 * cell['level']:g} % · {cell['mean_psnr']:.0f} dB": cell["picture"] for cell in cells}))
    _caption(
        "Gaussian noise on every number of the gradient, in percent of their root mean square, and what the same "
        "search rebuilds. What the noise costs in accuracy is not measured here."
    )


# --------------------------------------------------------------------------------------------------- the pieces


def _sheets(pictures: Mapping[str, str]) -> str:
    """Pictures of assets/explain side by side by their captions."""
    return markup.sheets({words: (FOLDER / name).read_bytes() for words, name in pictures.items()})


def _caption(words: str) -> None:
    st.html(markup.caption(words))


def _quality(psnr: float) -> str:
    """
    >>> _quality(120.0), _quality(19.6)
    ('exact', '20 dB')
    """
    return "exact" if psnr >= EXACT else f"{psnr:.0f} dB"


def _wrong(count: int) -> str:
    """
    >>> _wrong(0), _wrong(1), _wrong(2)
    ('right labels', 'one wrong', '2 wrong')
    """
    return {0: "right labels", 1: "one wrong"}.get(count, f"{count} wrong")


def _power(ratio: float) -> str:
    """The power of ten in a ratio, in superscript digits.

    >>> _power(3.2e11)
    '¹¹'
    """
    return str(len(str(int(ratio))) - 1).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
