"""The titles of the controls, by the scenario's field that each sets, and messages in these instead of names of fields.

>>> print(in_titles("max_iterations was 7; local_order applies to mode 'fedavg' only."))
"Iterations at most" was 7; "Order of mini-batches" applies to FedAvg only.
>>> print(in_titles("images was 'my local_lr'; take a folder."))
"Images from" was 'my local_lr'; take a folder.
"""

from __future__ import annotations

import re

TITLES = {
    "dataset": "Data set",
    "images": "Images from",
    "image_size": "Image size",
    "batch_size": "How many",
    "composition": "Private images",
    "mode": "Federated learning",
    "model": "Network",
    "stage": "Training stage",
    "head_bias": "Bias in the last layer",
    "batchnorm": "BatchNorm statistics",
    "local_epochs": "Local epochs",
    "local_batch_size": "Images in one local step",
    "local_lr": "Local learning rate",
    "local_momentum": "Local momentum",
    "local_order": "Order of mini-batches",
    "attack": "Attack",
    "fedavg": "Attack reads the update as",
    "label_strategy": "Label inference",
    "wrong_labels": "Wrong labels: how many",
    "mislabel": "Wrong labels: which",
    "repair_labels": "Detect and correct wrong labels",
    "learning_rate": "Learning rate",
    "max_seconds": "Seconds at most",
    "max_iterations": "Iterations at most",
    "seed": "Seed",
    "device": "Device",
}
FEDAVG = "mode 'fedavg'"
# A name of several words can only be that of a field; others are names only as the subject of a sentence. What a
# message quotes, and parts of paths and assignments, are left as they are.
_LONG = "|".join(name for name in TITLES if "_" in name)
_SHORT = "|".join(name for name in TITLES if "_" not in name)
_NAMES = re.compile(
    rf"{FEDAVG}|'[^']*'|\"[^\"]*\"|(?<![\w./\\-])(?:{_LONG})(?![\w/\\=-]|\.\w)|^(?:{_SHORT})(?= (?:was|were|applies)\b)"
)


def in_titles(sentence: str) -> str:
    """A message with the titles of controls in place of the fields' names, and FedAvg in place of its mode."""
    return _NAMES.sub(_instead, sentence)


def _instead(found: re.Match[str]) -> str:
    words = found[0]
    if words == FEDAVG:
        return "FedAvg"
    return f'"{TITLES[words]}"' if words in TITLES else words
