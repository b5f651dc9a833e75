"""Make the figures of the page How it works from runs on the bundled images.

    python -m benchmarks.explain [figure ...]

Each figure is one function: it runs what it shows, writes pictures to assets/explain/ and returns the numbers of its
caption, which are kept in assets/explain/figures.json. Figures that are not named are left as they are. Every figure is
one example with the weights and starting point of seed 0, not a statistic.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.spatial import ConvexHull, HalfspaceIntersection
from torch import Tensor, nn

from benchmarks import outcomes
from benchmarks.machine import describe_machine
from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.attack.run import reconstruct
from deepleak_core.data import datasets
from deepleak_core.data.batches import load_batch
from deepleak_core.events import (
    FeaturesSeparated,
    Images,
    LabelsInferred,
    LastLayerRead,
    Snapshot,
    UpdateShared,
    in_private_order,
    to_message,
)
from deepleak_core.features.factors import Factors, random_starts
from deepleak_core.features.ica import independent_images
from deepleak_core.features.joint import implied_labels, solve_together
from deepleak_core.features.last_layer import LastLayer
from deepleak_core.features.simplex import largest_simplices
from deepleak_core.federated import checkpoints, models
from deepleak_core.federated.case import observe
from deepleak_core.federated.client import share
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.labels.evidence import labels_of
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario
from deepleak_core.scoring import metrics
from deepleak_core.studies.label_accuracy import Study, label_scores, label_trials
from deepleak_core.studies.wrong_labels import wrong_label_of

FOLDER = Path(__file__).parent.parent / "assets" / "explain"
GAP = 2  # transparent pixels between the images of a sheet
DISTINCT, FROGS, MIXED = (0, 1, 3, 4), (4, 5, 7, 19), (4, 5, 0, 1)
THREE = (4, 5, 1)  # the features of three images span a plane
MOMENTS = (0, 40, 100, 400)  # iterations at which an attack is pictured
NOISE = (0.0, 1e-1, 1.0, 10.0)  # standard deviation over the root mean square of the update's entries
BATCHES, LOCAL_STEPS = (1, 2, 4, 8, 16), (1, 5, 20, 50)
SMALL = [name for name in models.MODELS if name != "resnet18"]  # which takes many minutes on two cores
NETWORKS = tuple((name, stage) for name in SMALL for stage in checkpoints.stages(name, "cifar10"))


def sheet(name: str, images: Sequence[Images] | Tensor) -> str:
    """Write images (3, H, W) in [0, 1] as one PNG, side by side in a square; its file name."""
    pixels = [(np.clip(np.asarray(image), 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0) for image in images]
    height, width, _ = pixels[0].shape
    columns = math.ceil(math.sqrt(len(pixels)))
    rows = math.ceil(len(pixels) / columns)
    canvas = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 4), np.uint8)
    for i, image in enumerate(pixels):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        canvas[top : top + height, left : left + width] = np.dstack([image, np.full((height, width), 255, np.uint8)])
    Image.fromarray(canvas).save(FOLDER / f"{name}.png", optimize=True)
    return f"{name}.png"


def rebuilt(snapshot: Snapshot) -> list[Images]:
    """The images of a snapshot in the order of the private batch."""
    return list(in_private_order(list(snapshot.images), snapshot.score))


def outcome(scenario: Scenario) -> dict[str, Any]:
    """The numbers that a caption needs of one run."""
    found = outcomes.attack(scenario)
    return {
        "mean_psnr": found.score.mean_psnr,
        "residual": found.finished.residual,
        "iterations": found.finished.step,
        "noise_psnr": found.score.noise_psnr,
    }


# ------------------------------------------------------------------------------------------------- the figures


def shared() -> dict[str, Any]:
    """The private images, and what the server receives."""
    scenario = Scenario(indices=DISTINCT, max_iterations=1)
    update = outcomes.attack(scenario).last(UpdateShared)
    kept = replace(update, sample=())  # not drawn here
    return {"picture": sheet("private", load_batch(scenario).images), "update": to_message(kept)}


def pixels() -> dict[str, Any]:
    """One linear layer on the pixels: a row of its weight gradient over the bias gradient is an image, or a mean."""
    torch.manual_seed(0)
    network = TargetModel(nn.Flatten(), nn.Linear(3 * 32 * 32, 10), *datasets.DATASETS["cifar10-samples"].statistics)
    pictures, quality, names = {}, {}, {}
    for name, indices in (("one", DISTINCT[:1]), ("distinct", DISTINCT), ("same", FROGS)):
        batch = load_batch(Scenario(indices=indices))
        update = share(network, batch.images, batch.labels).tensors
        label = int(batch.labels[0])
        row = update["head.weight"][label] / update["head.bias"][label]
        image = network.denormalise(row.view(1, 3, 32, 32))
        pictures[name] = sheet(f"pixels-{name}", image)
        quality[name] = float(metrics.psnr(image, batch.images[:1])[0])
        names[name] = batch.class_names[label]
    kept = sheet("pixels-private", load_batch(Scenario(indices=DISTINCT[:1])).images)
    return {"private": kept, "pictures": pictures, "psnr": quality, "labels": names}


def matching() -> dict[str, Any]:
    """One attack at five moments."""
    run = outcomes.attack(Scenario(indices=DISTINCT))
    moments = []
    for wanted in MOMENTS:
        found = min(run.snapshots, key=lambda s: abs(s.step - wanted))
        moments.append(
            {
                "picture": sheet(f"matching-{wanted}", rebuilt(found)),
                "step": found.step,
                "mean_psnr": outcomes.score_of(found).mean_psnr,
                "residual": found.residual,
            }
        )
    return {"moments": moments, "noise_psnr": run.score.noise_psnr}


def counts() -> dict[str, Any]:
    """Estimated counts of one batch with repeats, read from an untrained and from a trained network."""
    scenario = Scenario(composition="random", batch_size=8, model="lenet64-relu")
    stages = {}
    for stage in ("untrained", "late"):
        study = Study(scenario=scenario.changed(stage=stage))
        read = next(event for event in study.run() if isinstance(event, LastLayerRead))
        stages[stage] = {"gradient": read.gradient, "estimates": read.real_counts, "counts": read.counts}
    return {"class_names": datasets.names_of_classes(scenario), "truth": read.true_counts, "stages": stages}


def training() -> dict[str, Any]:
    """How often each strategy has the whole batch right, by batch size and training stage."""
    scenario, repeats = Scenario(composition="random", model="lenet64-relu"), 10
    rates: dict[str, Any] = {}
    for size in (4, 8):
        rates[str(size)] = {}
        for stage in checkpoints.stages(scenario.model, "cifar10"):
            trials = list(label_trials(scenario.changed(batch_size=size, stage=stage), repeats=repeats))
            scores = label_scores(trials)
            rates[str(size)][stage] = {name: score.exact_rate for name, score in scores.items()}
    return {"rates": rates, "repeats": repeats, "model": models.MODELS[scenario.model].title}


def wrong_label() -> dict[str, Any]:
    """The same update attacked with none to all of its labels changed; one as on the page One wrong label."""
    cases = []
    names, right = datasets.names_of_classes(Scenario()), Scenario(indices=DISTINCT, repair_labels=False)
    shown = wrong_label_of(Scenario(indices=DISTINCT))
    for wrong in range(len(DISTINCT) + 1):
        changed = right.changed(mislabel=(shown,)) if wrong == 1 else right.changed(wrong_labels=wrong)
        run = outcomes.attack(changed)
        cases.append(
            {
                "wrong": wrong,
                "mean_psnr": run.score.mean_psnr,
                "psnr": run.score.psnr,
                "residual": run.finished.residual,
                "believed": [names[label] for label in run.last(LabelsInferred).order],
            }
        )
        if wrong <= 1:
            cases[-1]["picture"] = sheet(f"labels-{wrong}-wrong", rebuilt(run.snapshots[-1]))
    return {"cases": cases, "noise_psnr": run.score.noise_psnr}


def fusion() -> dict[str, Any]:
    """Four images of one class: by gradient matching, their mean, and by the exact attack."""
    scenario = Scenario(indices=FROGS)
    searched = outcomes.attack(scenario)
    exact = outcomes.attack(scenario.changed(attack="exact"))
    truth = load_batch(scenario).images
    names = datasets.names_of_classes(scenario)
    return {
        "label": names[exact.last(LabelsInferred).order[0]],
        "private": sheet("fusion-private", truth),
        "searched": sheet("fusion-searched", rebuilt(searched.snapshots[-1])),
        "mean": sheet("fusion-mean", truth.mean(0, keepdim=True)),
        "exact": sheet("fusion-exact", rebuilt(exact.snapshots[-1])),
        "searched_psnr": searched.score.mean_psnr,
        "searched_residual": searched.finished.residual,
        "psnr_to_mean": float(np.mean(searched.score.psnr_to_mean)),
        "exact_psnr": exact.score.mean_psnr,
        "exact_pixels": all(exact.score.pixel_exact),
        "features": to_message(replace(exact.last(FeaturesSeparated), seconds=0.0)),
        "class_names": names,
    }


def corners() -> dict[str, Any]:
    """The features of three images in their plane, the bounds of the activation in it, and the vertices found."""
    networks = {}
    for name in ("lenet64-relu", "lenet64-elu"):
        scenario = Scenario(indices=THREE, model=name, stage="late")
        case, batch = observe(scenario)
        model, layer = case.model, LastLayer.of(case.model, case.gradient)
        factors = Factors.of(layer, len(THREE))
        assert factors.heights is not None
        assert factors.ones is not None
        independent = independent_images(factors)
        found = next(largest_simplices(factors))[0] if independent is None else independent
        with torch.no_grad():
            features = model.features(batch.images).double()
        true = torch.cat([features, torch.ones(len(THREE), 1)], 1) @ torch.cat([factors.basis, factors.ones[None]])
        # The plane of all m whose last feature is 1, seen from its nearest point to the origin.
        nearest = factors.ones / factors.ones.square().sum()
        plane = torch.linalg.svd(factors.ones[None])[2][1:].T
        bounds = torch.cat([-factors.heights @ plane, -(factors.heights @ nearest)[:, None]], 1)
        bounds = bounds[bounds.norm(dim=1) > 1e-6 * bounds.norm(dim=1).max()]  # others belong to features that none has
        inside = (true.mean(0) - nearest) @ plane
        polygon = HalfspaceIntersection(bounds.numpy(), inside.numpy()).intersections
        polygon = polygon[ConvexHull(polygon).vertices]
        networks[name] = {
            "floor": model.floor,
            "bounds": len(bounds),
            "polygon": polygon.tolist(),
            "images": ((true - nearest) @ plane).tolist(),
            "found": ((found - nearest) @ plane).tolist(),
            "labels_read": implied_labels(factors, found[None])[0].argmax(1).sort().values.tolist(),
            "labels": batch.labels.sort().values.tolist(),
        }
    return {"networks": networks, "class_names": datasets.names_of_classes(scenario)}


def proof() -> dict[str, Any]:
    """The residual of the equations of separated features under the right label counts and all that differ by one."""
    stages = {}
    for stage in ("untrained", "late"):
        scenario = Scenario(indices=MIXED, stage=stage)
        case, batch = observe(scenario)
        layer = LastLayer.of(case.model, case.gradient)
        factors = Factors.of(layer, len(MIXED))
        right = torch.bincount(batch.labels, minlength=10)
        wrong = [right - row + other for row in _units(right) for other in torch.eye(10).long() if (row - other).any()]
        stages[stage] = {"right": _residual(factors, right), "wrong": sorted(_residual(factors, c) for c in wrong)}
    names = datasets.names_of_classes(scenario)
    return {"labels": [names[label] for label in labels_of(right)], "stages": stages}


def _units(counts: Tensor) -> list[Tensor]:
    """The one-hot vector of each class that is there."""
    return [row for row, count in zip(torch.eye(len(counts)).long(), counts, strict=True) if count]


def _residual(factors: Factors, assumed: Tensor) -> float:
    labels = torch.tensor(labels_of(assumed)).expand(64, -1)
    starts = random_starts(factors, labels, torch.Generator().manual_seed(0))
    return float(solve_together(factors, starts, labels, iterations=200)[1].min())


def networks() -> dict[str, Any]:
    """The same attack on every network at every bundled stage, with true labels."""
    cells = []
    for model, stage in NETWORKS:
        found = outcome(Scenario(indices=DISTINCT, model=model, stage=stage, label_strategy="true", max_iterations=200))
        cells.append({"model": models.MODELS[model].title, "stage": stage, **found})
        print(f"  {model} {stage}: {found['mean_psnr']:.1f} dB", flush=True)
    return {"cells": cells, "attack": ATTACKS["general-deep-leakage"].title}


def batches() -> dict[str, Any]:
    """The same attack on larger batches of CIFAR-100 images."""
    cells = []
    for size in BATCHES:
        found = outcome(Scenario(dataset="cifar100-samples", batch_size=size, label_strategy="true"))
        cells.append({"batch_size": size, **found})
    return {"cells": cells}


def local_steps() -> dict[str, Any]:
    """FedAvg with more local steps, the update read as one gradient."""
    cells = []
    for steps in LOCAL_STEPS:
        scenario = Scenario(indices=DISTINCT, mode="fedavg", local_epochs=steps, label_strategy="true")
        cells.append({"steps": steps, **outcome(scenario)})
    return {"cells": cells, "rate": scenario.local_lr}


def noise() -> dict[str, Any]:
    """Gaussian noise added to every entry of the gradient, and the same attack on the result."""
    scenario = Scenario(indices=DISTINCT)
    case, batch = observe(scenario)
    entries = torch.cat([tensor.flatten() for tensor in case.gradient.values()])
    scale = float(entries.square().mean().sqrt())
    cells = []
    for level in NOISE:
        generator = torch.Generator().manual_seed(0)
        noisy = {n: t + level * scale * torch.randn(t.shape, generator=generator) for n, t in case.gradient.items()}
        noised = replace(case, update=replace(case.update, tensors=noisy))
        run = outcomes.Outcome(tuple(reconstruct(noised, scenario.attack, labels=batch.labels.tolist())))
        found = torch.as_tensor(run.snapshots[-1].images)
        found = found[metrics.match(found, batch.images)]
        psnr = float(metrics.psnr(found, batch.images).mean())
        cells.append({"level": level, "picture": sheet(f"noise-{level:g}", found), "mean_psnr": psnr})
    return {"cells": cells}


FIGURES: dict[str, Callable[[], dict[str, Any]]] = {
    figure.__name__: figure
    for figure in (
        shared, pixels, matching, counts, training, wrong_label, fusion, corners, proof, networks, batches,
        local_steps, noise,
    )
}  # fmt: skip


def brief(value: Any) -> Any:
    """Numbers rounded to four digits, more than any caption shows."""
    if isinstance(value, dict):
        return {name: brief(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [brief(entry) for entry in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    """Make the figures that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("figures", nargs="*", metavar="figure", help=", ".join(FIGURES))
    wanted = parser.parse_args().figures or list(FIGURES)
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "figures.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    torch.set_num_threads(cpu_threads())
    for name in wanted:
        print(name, flush=True)
        known[name] = brief(FIGURES[name]())
        machine = describe_machine()
        ordered = {figure: known[figure] for figure in FIGURES if figure in known}
        file.write_text(json.dumps({"machine": machine, **ordered}, indent=1) + "\n")


if __name__ == "__main__":
    main()
