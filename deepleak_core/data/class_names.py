"""Class names in the order of their indices, and the classes that a name can mean."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache

from deepleak_core.text import escape, listed, shorten, split_list

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
MNIST_CLASSES = tuple("0123456789")
FASHION_MNIST_CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"
)  # fmt: skip


def _without_case(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _without_separators(text: str) -> str:
    """Letters, digits and symbols remain in any script; only spaces and `_-.,'` between words are equal."""
    return re.sub(r"[\s_\-.,']+", " ", _without_case(text)).strip()


SPELLINGS: tuple[Callable[[str], str], ...] = (
    str,
    lambda text: unicodedata.normalize("NFC", text),
    _without_case,
    _without_separators,
)  # from strict to loose


@lru_cache(maxsize=16)
def _index(class_names: tuple[str, ...]) -> tuple[dict[str, tuple[int, ...]], ...]:
    """For each spelling, the classes by their names in it."""
    tables = []
    for spelled in SPELLINGS:
        table: defaultdict[str, list[int]] = defaultdict(list)
        for label, name in enumerate(class_names):
            table[spelled(name)].append(label)
        tables.append({name: tuple(labels) for name, labels in table.items() if name})
    return tuple(tables)


def classes_named(name: str, class_names: Sequence[str]) -> tuple[int, ...]:
    """Every class that a name can mean: none, one, or several where it is ambiguous.

    The strictest spelling that fits decides: the exact name, then the name whatever its case, then whatever separates
    its words. A name that fits none is a class by the number at its start. Where class names have numbers at
    their start themselves, such as "0" to "9", that number must be the name's.

    >>> classes_named("Sweet-Pepper", ("apple", "sweet_pepper")), classes_named("001_n0144_tench", ("a", "b"))
    ((1,), (1,))
    >>> classes_named("cat", ("Cat", "cat")), classes_named("CAT", ("Cat", "cat"))
    ((1,), (0, 1))
    """
    for spelled, table in zip(SPELLINGS, _index(tuple(class_names)), strict=True):
        if found := table.get(spelled(name)):
            return found
    number = _leading_number(name)
    if number is None or number >= len(class_names):
        return ()
    numbered = any(_leading_number(known) is not None for known in class_names)
    return () if numbered and _leading_number(class_names[number]) != number else (number,)


def _leading_number(name: str) -> int | None:
    match = re.match(r"[0-9]{1,9}(?![0-9])", name)
    return int(match[0]) if match else None


def class_index(name: str, class_names: Sequence[str]) -> int | None:
    """The class that a name means, None where that is no class or several."""
    found = classes_named(name, class_names)
    return found[0] if len(found) == 1 else None


def unclear(setting: str, name: str, class_names: Sequence[str]) -> str:
    """A sentence on a name for which `class_index` is None, given as part of a setting."""
    found = classes_named(name, class_names)
    if found:
        meant = listed([f"{label} ({class_names[label]})" for label in found])
        return f"{setting} named {shorten(repr(name))}, which can mean the classes {meant}; write the name exactly."
    return (
        f"{setting} named {shorten(repr(name))}, which is no class here; accepted are {listed(class_names)} "
        "or their numbers."
    )


def unclear_in_list(setting: str, name: str, class_names: Sequence[str]) -> str:
    r"""The sentence of `unclear` for a name from a list that is separated by commas; says how to write a comma in it.

    >>> unclear_in_list("labels", "tench", ("shark", "tench, Tinca tinca")).partition("numbers. ")[2]
    'A comma inside a name is written with a backslash: tench\\, Tinca tinca.'
    """
    sentence = unclear(setting, name, class_names)
    whole = next((known for known in class_names if "," in known and name in split_list(known)), None)
    if whole is None:
        return sentence
    return f"{sentence} A comma inside a name is written with a backslash: {escape(whole)}."
