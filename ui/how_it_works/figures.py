"""The figures of How it works, each with a caption that quotes the run it comes from.

Numbers and pictures are read from assets/explain, where `python -m benchmarks.explain` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
from markupsafe import Markup

from deepleak_core.events import FeaturesSeparated, UpdateShared, from_message
from deepleak_core.federated.models import MODELS
from deepleak_core.labels.strategies import STRATEGIES
from ui import charts, pictures, pieces, server_view

FOLDER = Path(__file__).parents[2] / "assets" / "explain"
EXACT = 59.0  # PSNR in dB above which every 8-bit value equals the private one


@st.cache_resource(show_spinner=False)
def measured() -> dict[str, Any]:
    """Every figure's numbers by its name, and the `machine` they come from."""
    numbers: dict[str, Any] = json.loads((FOLDER / "figures.json").read_text())
    return numbers


def machine() -> str:
    """Where and how the figures were measured, in a sentence."""
    of = measured()["machine"]
    return (
        f"Measured on {of['words']}, {of['date']}, on the images that come with DeepLeak, seed 0. Unless stated "
        "otherwise, a figure is one example, not a statistic. `python -m benchmarks.explain` makes them all."
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
        st.html(server_view.update(update))
    _caption(f"The update has {sum(update.sizes) / values:.0f} times as many numbers as the images have pixel values.")


def pixels() -> None:
    """A row of the gradient as a picture: of one image, of different ones, of one class."""
    of = measured()["pixels"]
    files, psnr, labels = of["pictures"], of["psnr"], of["labels"]
    st.html(
        _sheets(
            {
                "private": of["private"],
                f"alone: {_quality(psnr['one'])}": files["one"],
                f"of four: {_quality(psnr['distinct'])}": files["distinct"],
                f"four {labels['same']}s": files["same"],
            }
        )
    )
    _caption(
        f"A network of one linear layer. The row “{labels['one']}” of its weight gradient over its bias gradient, "
        f"drawn as a picture: no search, one division. It holds the single image, or one of four of different classes, "
        f"slightly mixed with the others. Four {labels['same']}s share one row: a mixture."
    )


def matching() -> None:
    """One attack at several moments."""
    of = measured()["matching"]
    moments = of["moments"]
    st.html(_sheets({f"{m['step']} · {m['mean_psnr']:.0f} dB": m["picture"] for m in moments}))
    first, last = moments[0], moments[-1]
    _caption(
        f"Iteration and mean PSNR: from {first['mean_psnr']:.0f} dB, the noise that it starts from, to "
        f"{last['mean_psnr']:.0f} dB. The residual falls from {first['residual']:.1f} to {last['residual']:.1g}."
    )


# ------------------------------------------------------------------------------------------------------- labels


def counts() -> None:
    """Estimated counts of an untrained and of a trained network beside the truth."""
    of = measured()["counts"]
    series = {"truth": of["truth"]} | {f"read from: {name}": s["estimates"] for name, s in of["stages"].items()}
    charts.groups(series, of["class_names"], title="Label counts per class", key="counts")
    found = {name: sum(map(min, s["counts"], of["truth"])) for name, s in of["stages"].items()}
    total = sum(of["truth"])
    correct = ", ".join(f"{right} of {total} {name}" for name, right in found.items())
    _caption(f"Zero-shot restoration of {total} images with repeated labels. Correct labels: {correct}.")


def training() -> None:
    """How often each strategy has the whole batch right, by training stage."""
    of = measured()["training"]
    (size, shown), (larger, others) = of["rates"].items()
    stages = list(shown)
    lines = {STRATEGIES[s].title: [(stage, shown[stage][s]) for stage in stages] for s in shown[stages[0]]}
    charts.accuracy(lines, stages, over="training stage", title="batches with all labels correct", key="training")
    best = max(others[stages[-1]].values())
    _caption(
        f"Whole batches right of {of['repeats']} random draws of {size} images, {of['model']}. With {larger} images, "
        f"at the {stages[-1]} stage, the best strategy gets {100 * best:.0f} % of the batches right."
    )


# ------------------------------------------------------------------------------------------------- the findings


def wrong_label() -> None:
    """The same update attacked with correct labels and with one wrong label."""
    cases = measured()["wrong_label"]["cases"]
    shown = [case for case in cases if "picture" in case]
    st.html(_sheets({f"{_wrong(case['wrong'])}: {case['mean_psnr']:.0f} dB": case["picture"] for case in shown}))
    right, wrong = cases[0], cases[1]
    _caption(
        f"One wrong label of {len(right['psnr'])}: the best image has {max(wrong['psnr']):.0f} dB; with correct labels "
        f"the worst has {min(right['psnr']):.0f} dB."
    )


def wrong_labels() -> None:
    """The quality and the residual by the number of wrong labels."""
    of = measured()["wrong_label"]
    cases = of["cases"]
    charts.bars(
        {f"{case['wrong']} wrong": case["mean_psnr"] for case in cases},
        title="Mean PSNR in dB",
        baseline=("noise", of["noise_psnr"]),
        key="wrong",
    )
    _caption(
        f"The residual gives a wrong label away: {cases[1]['residual']:.2g} instead of {cases[0]['residual']:.1g} with "
        "correct labels."
    )


def fused() -> None:
    """Four images of one class, their mean, what gradient matching returns, and what the exact attack does."""
    of = measured()["fusion"]
    st.html(
        _sheets(
            {
                "private": of["private"],
                f"matched: {of['searched_psnr']:.0f} dB": of["searched"],
                "their mean": of["mean"],
                f"separated: {_quality(of['exact_psnr'])}": of["exact"],
            }
        )
    )
    closer = "closer to their mean" if of["psnr_to_mean"] > of["searched_psnr"] else "no closer to their mean"
    every = "every pixel is exact" if of["exact_pixels"] else "not every pixel is exact"
    _caption(
        f"Four images of one class ({of['label']}). Gradient matching returns pictures that are {closer} "
        f"({of['psnr_to_mean']:.0f} dB) than to the single images ({of['searched_psnr']:.0f} dB), yet its residual is "
        f"only {of['searched_residual']:.1g}. Separated, no label given: {every}."
    )


# ------------------------------------------------------------------------------------------ beyond the paper


def separated() -> None:
    """Similarity of the features of the same images before and after separation."""
    of = measured()["fusion"]
    features = from_message(of["features"])
    assert isinstance(features, FeaturesSeparated)
    st.html(server_view.separated(features, of["class_names"]))
    last, noise = features.singular_values[-2:]
    _caption(
        f"Features recovered to {100 * max(features.errors):.1g} %. With rows scaled to unit length, the smallest "
        f"singular value of an image is {last:.1g}; the next one, which is rounding, is {noise:.0e}. The rank is the "
        f"number of images, {len(features.labels)}."
    )


def simplex() -> None:
    """Three images in the plane of all possible feature vectors."""
    of = measured()["corners"]
    for column, (name, network) in zip(st.columns(len(of["networks"])), of["networks"].items(), strict=True):
        with column:
            charts.plane(
                {"possible features": network["polygon"], "images": network["images"], "found": network["found"]},
                title=MODELS[name].title,
                key=f"simplex-{name}",
            )
    first, last = (list(of["networks"].values())[place] for place in (0, -1))
    labels = ", ".join(of["class_names"][label] for label in first["labels"])
    right = all(network["labels"] == network["labels_read"] for network in of["networks"].values())
    _caption(
        f"A batch of three ({labels}), trained networks. The outlined region satisfies all activation bounds "
        f"({first['bounds']:,} and {last['bounds']:,}). After ReLU the attack takes the vertices of the largest "
        "triangle in it, after ELU the three most independent vectors. "
        + ("All labels read from them are correct." if right else "Not all labels read from them are correct.")
    )


def certificate() -> None:
    """The residual of the true label counts against that of all neighbouring ones."""
    of = measured()["proof"]
    charts.ranked(
        {name: (stage["right"], stage["wrong"]) for name, stage in of["stages"].items()},
        title="Squared residual under true and wrong label counts",
        axis="true counts first, then every wrong one",
        key="certificate",
    )
    gap = min(min(stage["wrong"]) / stage["right"] for stage in of["stages"].values())
    wrong = len(next(iter(of["stages"].values()))["wrong"])
    _caption(
        f"The batch {', '.join(of['labels'])}. All {wrong} label counts that differ from the true ones in one image "
        f"leave a squared residual at least 10{_power(gap)} times as large, untrained and trained."
    )


# ---------------------------------------------------------------------------------------- what leaks less


def networks() -> None:
    """One attack on every network."""
    of = measured()["networks"]
    cells = sorted(of["cells"], key=lambda cell: cell["mean_psnr"], reverse=True)
    charts.bars(
        {f"{cell['model']}, {cell['stage']}": cell["mean_psnr"] for cell in cells},
        title="Mean PSNR in dB",
        baseline=("noise", cells[0]["noise_psnr"]),
        key="networks",
        horizontal=True,
    )
    _caption(
        f"{of['attack']} on the same four images with true labels, at most {cells[0]['iterations']} iterations. "
        "A low bar means that this attack with these settings recovered little. Other attacks may recover more."
    )


def larger() -> None:
    """Larger batches, and more local steps."""
    of = measured()
    floor = of["matching"]["noise_psnr"]
    left, right = st.columns(2)
    with left:
        cells = of["batches"]["cells"]
        charts.bars(
            {f"{cell['batch_size']}": cell["mean_psnr"] for cell in cells},
            title="Images in the batch: PSNR, dB",
            baseline=("noise", cells[-1]["noise_psnr"]),
            key="batches",
        )
    with right:
        cells = of["local_steps"]["cells"]
        charts.bars(
            {f"{cell['steps']}": cell["mean_psnr"] for cell in cells},
            title=f"Local steps at rate {of['local_steps']['rate']:g}: PSNR, dB",
            baseline=("noise", floor),
            key="local-steps",
        )
    most, steps = of["batches"]["cells"][-1], of["local_steps"]["cells"][-1]
    _caption(
        "Different images, true labels, General Deep Leakage, which reads an update as one gradient: "
        f"{most['mean_psnr']:.0f} dB with {most['batch_size']} images, {steps['mean_psnr']:.0f} dB after "
        f"{steps['steps']} local steps."
    )


def noise() -> None:
    """Noise added to the gradient before it is shared."""
    cells = measured()["noise"]["cells"]
    st.html(_sheets({f"{100 * cell['level']:g} % · {cell['mean_psnr']:.0f} dB": cell["picture"] for cell in cells}))
    _caption(
        "Gaussian noise on every number of the gradient, in percent of their root mean square, and what the same "
        "attack rebuilds. The cost in accuracy is not measured here."
    )


# --------------------------------------------------------------------------------------------------- the pieces


def _sheets(files: Mapping[str, str]) -> Markup:
    """Pictures of assets/explain side by side by their captions."""
    return pictures.sheets({words: (FOLDER / name).read_bytes() for words, name in files.items()})


def _caption(words: str) -> None:
    st.html(pieces.caption(words))


def _quality(psnr: float) -> str:
    """A PSNR in words.

    >>> _quality(120.0), _quality(19.6)
    ('exact', '20 dB')
    """
    return "exact" if psnr >= EXACT else f"{psnr:.0f} dB"


def _wrong(count: int) -> str:
    """A number of wrong labels in words.

    >>> _wrong(0), _wrong(1), _wrong(2)
    ('correct labels', 'one wrong', '2 wrong')
    """
    return {0: "correct labels", 1: "one wrong"}.get(count, f"{count} wrong")


def _power(ratio: float) -> str:
    """The power of ten in a ratio, in superscript digits.

    >>> _power(3.2e11)
    '¹¹'
    """
    return str(len(str(int(ratio))) - 1).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
