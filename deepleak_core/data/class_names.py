"""Class names in the order of their indices, and the class that a name means."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torchvision.models import ResNet18_Weights

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_CLASSES = tuple(_CIFAR100.split())  # torchvision knows CIFAR's class names only after a download
IMAGENET_CLASSES = tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def class_index(name: str, class_names: Sequence[str]) -> int | None:
    """The class a name means: a class name in any spelling, or a number at its start.

    >>> class_index("Sweet-Pepper", ("apple", "sweet_pepper")), class_index("001_n0144_tench", ("a", "b"))
    (1, 1)
    """

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()

    plain_names = [plain(known) for known in class_names]
    if plain(name) in plain_names:
        return plain_names.index(plain(name))
    number = re.match(r"\d+", name)
    if number and int(number[0]) < len(class_names):
        return int(number[0])
    return None
