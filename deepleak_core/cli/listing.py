"""The command `list`: what every registry holds, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from deepleak_core.attack.attacks import ATTACKS, described
from deepleak_core.attack.objectives import DISTANCES
from deepleak_core.attack.priors import PRIORS
from deepleak_core.attack.settings import limits_of
from deepleak_core.attack.solvers import SOLVERS
from deepleak_core.cli.output import show_table
from deepleak_core.cli.status import DONE
from deepleak_core.data.datasets import DATASETS
from deepleak_core.federated import checkpoints
from deepleak_core.federated.models import MODELS
from deepleak_core.labels.strategies import STRATEGIES


def show() -> int:
    """Print one table for each registry; returns the exit status."""
    vocabularies = sorted({dataset.vocabulary for dataset in DATASETS.values()})
    show_table(
        "Data sets (--dataset)",
        ("name", "classes", "offline", "what it is"),
        [
            (name, str(len(d.class_names) or "its folders"), "yes" if d.bundled else "", d.summary)
            for name, d in DATASETS.items()
        ],
    )
    show_table(
        "Target models (--model, --stage)",
        ("name", "stages", "what it is", "source"),
        [(name, _stages(name, vocabularies), m.summary, m.source) for name, m in MODELS.items()],
    )
    show_table(
        "Attacks (--attack)",
        ("name", "labels by", "what it does", "source"),
        [(name, a.label_strategy, a.summary, a.source) for name, a in ATTACKS.items()],
    )
    show_table(
        "Settings of attacks (--setting NAME=VALUE, --prior NAME=WEIGHT)",
        ("name", "what it is", "defaults"),
        _settings(),
    )
    show_table(
        "Image priors (--prior)",
        ("name", "what it favours", "source"),
        [(name, p.summary, p.source) for name, p in PRIORS.items()],
    )
    show_table(
        "Distances between updates (--setting distance=NAME)",
        ("name", "what it is"),
        [(name, (distance.__doc__ or "").partition("\n")[0]) for name, distance in DISTANCES.items()],
    )
    show_table(
        "Solvers (--setting solver=NAME)",
        ("name", "what it is", "source"),
        [(name, s.title, s.source) for name, s in SOLVERS.items()],
    )
    show_table(
        "Label strategies (--label-strategy)",
        ("name", "what it does", "source"),
        [(name, s.summary, s.source) for name, s in STRATEGIES.items()]
        + [("true", "No inference: the attack is given the true labels.", "")],
    )
    return DONE


def _settings() -> list[tuple[str, str, str]]:
    """Every setting that an attack has: name, what it is and accepts, and its default for each attack."""
    defaults: dict[tuple[str, str], list[str]] = {}
    for title, attack in ATTACKS.items():
        limits = limits_of(attack.settings)
        words = {name: f"{entry.help}; accepted {entry.accepted}" for name, entry in limits.items()}
        for name, value in described(attack).items():
            row = defaults.setdefault((name, words.get(name, "weight of an image prior")), [])
            row.append(f"{title}: {value}")
    return [(name, words, "\n".join(values)) for (name, words), values in sorted(defaults.items())]


def _stages(model: str, vocabularies: Sequence[str]) -> str:
    """Every training stage of a model, a line each, with the classes and the training behind it."""
    lines = ["untrained"]
    for vocabulary in vocabularies:
        for stage, checkpoint in checkpoints.stages(model, vocabulary).items():
            lines += [f"{checkpoints.note(stage, checkpoint)} ({vocabulary})"] if checkpoint else []
    return "\n".join(lines)
