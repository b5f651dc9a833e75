"""The figures of the page How it works, from runs of this code on the bundled images.

    python -m benchmarks.explain [figure ...]

Each figure is one function: it runs what it shows, writes pictures to assets/explain/ and returns the numbers that its
caption quotes, which are kept in assets/explain/figures.json. Figures that are not named are left as they are. Every
figure is one example, on the weights and starting point of seed 0, not a statistic.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.spatial import ConvexHull, HalfspaceIntersection
from torch import Tensor, nn

from benchmarks.machine import describe_machine
from deepleak_core.attack.presets import PRESETS
from deepleak_core.attack.run import reconstruct
from deepleak_core.data import datasets
from deepleak_core.data.batches import load_batch
from deepleak_core.events import (
    FeaturesSeparated,
    Finished,
    LabelsInferred,
    LastLayerRead,
    Snapshot,
    UpdateShared,
    to_message,
)
from deepleak_core.features.factors import Factors, random_starts
from deepleak_core.features.ica import independent_images
from deepleak_core.features.joint import implied_labels, solve_together
from deepleak_core.features.last_layer import LastLayer
from deepleak_core.features.simplex import largest_simplices
from deepleak_core.federated import checkpoints, models
from deepleak_core.federated.case import target_model
from deepleak_core.federated.client import ClientUpdate, share
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.labels.evidence import labels_of
from deepleak_core.runs.run import run
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario
from deepleak_core.scoring import metrics
from deepleak_core.studies.label_accuracy import Study, label_scores, label_trials

FOLDER = Path(__file__).parent.parent / "assets" / "explain"
GAP = 2  # transparent pixels between the images of a sheet
DISTINCT, FROGS, MIXED = (0, 1, 3, 4), (4, 5, 7, 19), (4, 5, 0, 1)
THREE = (4, 5, 1)  # what three images show is a plane
MOMENTS = (0, 10, 40, 100, 400)  # iterations at which an attack is pictured
NOISE = (0.0, 1e-2, 1e-1, 1.0, 10.0)  # standard deviation over the root mean square of the update's entries
BATCHES, LOCAL_STEPS = (1, 2, 4, 8, 16), (1, 5, 20, 50)
SMALL = [name for name in models.MODELS if name != "resnet18"]  # it takes many minutes on two cores
NETWORKS = tuple((name, stage) for name in SMALL for stage in checkpoints.stages(name, "cifar10"))


def sheet(name: str, images: np.ndarray) -> str:
    """Write (B, H, W, 3) uint8 images as one PNG, side by side in a square; its file name."""
    count, height, width, _ = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    canvas = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 4), np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        canvas[top : top + height, left : left + width] = np.dstack([image, np.full((height, width), 255, np.uint8)])
    Image.fromarray(canvas).save(FOLDER / f"{name}.png", optimize=True)
    return f"{name}.png"


def private(scenario: Scenario) -> np.ndarray:
    """(B, H, W, 3) uint8."""
    return metrics.to_8bit(load_batch(scenario).images).permute(0, 2, 3, 1).numpy()


def attacked(scenario: Scenario) -> tuple[list[Snapshot], Finished, dict[type, Any]]:
    """The snapshots of a run, its end, and the last event of every other kind."""
    snapshots, others = [], {}
    for event in run(scenario):
        if isinstance(event, Snapshot):
            snapshots.append(event)
        others[type(event)] = event
    return snapshots, others[Finished], others


def outcome(scenario: Scenario) -> dict[str, Any]:
    """The figures a caption needs of one run."""
    snapshots, end, _ = attacked(scenario)
    return {
        "mean_psnr": snapshots[-1].mean_psnr,
        "residual": end.residual,
        "iterations": end.step,
        "noise_psnr": end.noise_psnr,
    }


# ------------------------------------------------------------------------------------------------- the figures


def shared() -> dict[str, Any]:
    """What the client keeps, and what the server receives of it."""
    scenario = Scenario(indices=DISTINCT, max_iterations=1)
    update = attacked(scenario)[2][UpdateShared]
    return {"picture": sheet("private", private(scenario)), "update": to_message(update)}


def pixels() -> dict[str, Any]:
    """A network of one linear layer on the pixels: a row of its gradient over its bias's is an image, or a mean."""
    torch.manual_seed(0)
    network = TargetModel(nn.Flatten(), nn.Linear(3 * 32 * 32, 10), *datasets.DATASETS["cifar10-samples"].statistics)
    pictures, quality, names = {}, {}, {}
    for name, indices in (("one", DISTINCT[:1]), ("distinct", DISTINCT), ("same", FROGS)):
        batch = load_batch(Scenario(indices=indices))
        update = share(network, batch.images, batch.labels).tensors
        label = int(batch.labels[0])
        row = update["head.weight"][label] / update["head.bias"][label]
        image = network.denormalise(row.view(1, 3, 32, 32))
        pictures[name] = sheet(f"pixels-{name}", metrics.to_8bit(image).permute(0, 2, 3, 1).numpy())
        quality[name] = float(metrics.psnr(image, batch.images[:1])[0])
        names[name] = batch.class_names[label]
    kept = sheet("pixels-private", private(Scenario(indices=DISTINCT[:1])))
    return {"private": kept, "pictures": pictures, "psnr": quality, "labels": names}


def matching() -> dict[str, Any]:
    """One search at five moments."""
    snapshots, end, _ = attacked(Scenario(indices=DISTINCT))
    moments = []
    for wanted in MOMENTS:
        found = min(snapshots, key=lambda s: abs(s.step - wanted))
        moments.append(
            {
                "picture": sheet(f"matching-{wanted}", found.images),
                "step": found.step,
                "mean_psnr": found.mean_psnr,
                "residual": found.residual,
            }
        )
    return {"moments": moments, "noise_psnr": end.noise_psnr}


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
    """The same update attacked with none to all of its labels changed."""
    cases = []
    for wrong in range(len(DISTINCT) + 1):
        snapshots, end, others = attacked(Scenario(indices=DISTINCT, wrong_labels=wrong, repair_labels=False))
        names = datasets.names_of_classes(Scenario())
        cases.append(
            {
                "wrong": wrong,
                "mean_psnr": snapshots[-1].mean_psnr,
                "psnr": snapshots[-1].psnr,
                "residual": end.residual,
                "believed": [names[label] for label in others[LabelsInferred].order],
            }
        )
        if wrong <= 1:
            cases[-1]["picture"] = sheet(f"labels-{wrong}-wrong", snapshots[-1].images)
    return {"cases": cases, "noise_psnr": end.noise_psnr}


def fusion() -> dict[str, Any]:
    """Four images of one class: searched, their mean, and taken apart."""
    scenario = Scenario(indices=FROGS)
    searched = attacked(scenario)[0][-1]
    exact, end, others = attacked(scenario.changed(attack="exact"))
    truth = load_batch(scenario).images
    mean = truth.mean(0)
    rebuilt = torch.tensor(searched.images).permute(0, 3, 1, 2) / 255
    features: FeaturesSeparated = others[FeaturesSeparated]
    return {
        "label": datasets.names_of_classes(scenario)[others[LabelsInferred].order[0]],
        "private": sheet("fusion-private", private(scenario)),
        "searched": sheet("fusion-searched", searched.images),
        "mean": sheet("fusion-mean", metrics.to_8bit(mean).permute(1, 2, 0).numpy()[None]),
        "exact": sheet("fusion-exact", exact[-1].images),
        "searched_psnr": searched.mean_psnr,
        "searched_residual": searched.residual,
        "psnr_to_mean": float(metrics.psnr(rebuilt, mean.expand_as(truth)).mean()),
        "exact_psnr": exact[-1].mean_psnr,
        "exact_pixels": all(end.pixel_exact),
        "features": to_message(replace(features, seconds=0.0)),
        "class_names": datasets.names_of_classes(scenario),
    }


def corners() -> dict[str, Any]:
    """Three images in the plane that holds all that features can be, with its walls, and how they are found in it."""
    networks = {}
    for name in ("lenet64-relu", "lenet64-elu"):
        scenario = Scenario(indices=THREE, model=name, stage="late")
        model, batch = target_model(scenario), load_batch(scenario)
        gradient = share(model, batch.images, batch.labels).tensors
        layer = LastLayer.of(model, gradient)
        factors = Factors.of(layer, len(THREE))
        assert factors.heights is not None and factors.ones is not None
        independent = independent_images(factors)
        found = next(largest_simplices(factors))[0] if independent is None else independent
        with torch.no_grad():
            features = model.features(batch.images).double()
        true = torch.cat([features, torch.ones(len(THREE), 1)], 1) @ torch.cat([factors.basis, factors.ones[None]])
        # The plane of all m whose last feature is 1, seen from its nearest point to the origin.
        nearest = factors.ones / factors.ones.square().sum()
        plane = torch.linalg.svd(factors.ones[None])[2][1:].T
        walls = torch.cat([-factors.heights @ plane, -(factors.heights @ nearest)[:, None]], 1)
        walls = walls[walls.norm(dim=1) > 1e-6 * walls.norm(dim=1).max()]  # others belong to features that none has
        inside = (true.mean(0) - nearest) @ plane
        polygon = HalfspaceIntersection(walls.numpy(), inside.numpy()).intersections
        polygon = polygon[ConvexHull(polygon).vertices]
        networks[name] = {
            "floor": model.floor,
            "walls": len(walls),
            "polygon": polygon.tolist(),
            "images": ((true - nearest) @ plane).tolist(),
            "found": ((found - nearest) @ plane).tolist(),
            "labels_read": implied_labels(factors, found[None])[0].argmax(1).sort().values.tolist(),
            "labels": batch.labels.sort().values.tolist(),
        }
    return {"networks": networks, "class_names": datasets.names_of_classes(scenario)}


def proof() -> dict[str, Any]:
    """The residual of the separated features' equations under the right label counts and under all next to them."""
    stages = {}
    for stage in ("untrained", "late"):
        scenario = Scenario(indices=MIXED, stage=stage)
        model, batch = target_model(scenario), load_batch(scenario)
        gradient = share(model, batch.images, batch.labels).tensors
        layer = LastLayer.of(model, gradient)
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
    """One search on every network at every stage that ships; true labels, so that only the images differ."""
    cells = []
    for model, stage in NETWORKS:
        found = outcome(Scenario(indices=DISTINCT, model=model, stage=stage, label_strategy="true", max_iterations=200))
        cells.append({"model": models.MODELS[model].title, "stage": stage, **found})
        print(f"  {model} {stage}: {found['mean_psnr']:.1f} dB", flush=True)
    return {"cells": cells, "attack": PRESETS["general-deep-leakage"].title}


def batches() -> dict[str, Any]:
    """The same search on larger batches of different images, and of CIFAR-100 where ten classes do not suffice."""
    cells = []
    for size in BATCHES:
        found = outcome(Scenario(dataset="cifar100-samples", batch_size=size, label_strategy="true"))
        cells.append({"batch_size": size, **found})
    return {"cells": cells}


def local_steps() -> dict[str, Any]:
    """FedAvg: more local steps between the weights before and after, the update read as one gradient."""
    cells = []
    for steps in LOCAL_STEPS:
        scenario = Scenario(indices=DISTINCT, mode="fedavg", local_epochs=steps, label_strategy="true")
        cells.append({"steps": steps, **outcome(scenario)})
    return {"cells": cells, "rate": scenario.local_lr}


def noise() -> dict[str, Any]:
    """Gaussian noise added to every number of the gradient, and the same search on what is left."""
    scenario = Scenario(indices=DISTINCT, label_strategy="true")
    model, batch = target_model(scenario), load_batch(scenario)
    gradient = share(model, batch.images, batch.labels).tensors
    numbers = torch.cat([tensor.flatten() for tensor in gradient.values()])
    scale = float(numbers.square().mean().sqrt())
    cells = []
    for level in NOISE:
        generator = torch.Generator().manual_seed(0)
        noisy = {n: t + level * scale * torch.randn(t.shape, generator=generator) for n, t in gradient.items()}
        update = ClientUpdate(tensors=noisy, batch_size=len(DISTINCT))
        believed = batch.labels.sort().values.tolist()
        preset = PRESETS[scenario.attack].for_scenario(scenario)
        *_, last = reconstruct(model, update, believed, preset, scenario)
        rebuilt = model.denormalise(last.inputs[0]).clamp(0, 1)
        rebuilt = rebuilt[metrics.match(rebuilt, batch.images)]
        picture = sheet(f"noise-{level:g}", metrics.to_8bit(rebuilt).permute(0, 2, 3, 1).numpy())
        cells.append(
            {"level": level, "picture": picture, "mean_psnr": float(metrics.psnr(rebuilt, batch.images).mean())}
        )
    return {"cells": cells}


FIGURES: dict[str, Callable[[], dict[str, Any]]] = {
    figure.__name__: figure
    for figure in (
        shared, pixels, matching, counts, training, wrong_label, fusion, corners, proof, networks, batches,
        local_steps, noise,
    )
}  # fmt: skip


def brief(value: Any) -> Any:
    """Numbers in four digits, which is more than any caption quotes."""
    if isinstance(value, dict):
        return {name: brief(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [brief(entry) for entry in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
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
