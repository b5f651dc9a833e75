"""Labels made wrong on purpose, so many of them at random or by name, and what differs between labels in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from deepleak_core.data.class_names import class_index
from deepleak_core.errors import UnsupportedScenario


def falsify(labels: Sequence[int], wrong: int, classes: int, *, seed: int = 0) -> tuple[list[int], tuple[int, ...]]:
    """Replace `wrong` of the labels by classes that are not in the batch while there are any.

    No class that loses a label gains one, so that all of them are wrong; where every class loses one, the rarest
    gains them all, so that not one more than must be is right again. Returns the labels, sorted, and the places of
    the wrong ones among them. Raises `UnsupportedScenario` where there is one class alone.

    >>> falsify([0, 1], 1, 3)[0] in ([1, 2], [0, 2])
    True
    >>> falsify([0, 1, 1], 3, 2)
    ([0, 0, 0], (1, 2))
    """
    if wrong and classes < 2:
        raise UnsupportedScenario(["wrong_labels needs a second class to take an image for; there is one only."])
    generator = torch.Generator().manual_seed(seed)
    changed = list(labels)
    places = torch.randperm(len(labels), generator=generator)[:wrong].tolist()
    gaining = sorted(set(range(classes)) - {labels[place] for place in places})
    gaining = gaining or [min(range(classes), key=labels.count)]
    for place in sorted(places):
        offered = sorted(set(range(classes)) - set(changed) - set(labels)) or gaining
        changed[place] = offered[int(torch.randint(len(offered), (1,), generator=generator))]
    return _sorted_with_wrong(labels, changed)


def swaps(mislabel: Sequence[str], class_names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of class names, "cat>dog", as pairs of classes. Raises `UnsupportedScenario`.

    A class that is on both sides would give back what another pair takes.

    >>> swaps(["cat>dog"], ("bird", "cat", "dog"))
    [(1, 2)]
    """
    pairs, problems = [], []
    for text in mislabel:
        names = [name.strip() for name in text.split(">")]
        pairs.append([class_index(name, class_names) for name in names])
        problems += [
            f"mislabel named {name!r}, which is no class here; accepted are {', '.join(class_names[:10])}"
            f"{' ...' if len(class_names) > 10 else ''}."
            for name, found in zip(names, pairs[-1], strict=True)
            if found is None
        ]
    both = {before for before, _ in pairs} & {after for _, after in pairs}
    if both and not problems:
        problems.append("mislabel has a class on both sides; an image must be taken for one of another class.")
    if problems:
        raise UnsupportedScenario(problems)
    return [(before, after) for before, after in pairs if before is not None and after is not None]


def swap(
    labels: Sequence[int], pairs: Sequence[tuple[int, int]], class_names: Sequence[str]
) -> tuple[list[int], tuple[int, ...]]:
    """Take one image of each pair's first class for one of the second; returns what `falsify` does.

    Raises `UnsupportedScenario` where no image of the first class is left.

    >>> swap([0, 1, 1], [(1, 2)], ("bird", "cat", "dog"))
    ([0, 1, 2], (2,))
    """
    changed = list(labels)
    for before, after in pairs:
        if before not in changed:
            raise UnsupportedScenario(
                [
                    f"mislabel takes an image of class {class_names[before]} for another; "
                    "the attack knows of no further one there."
                ]
            )
        changed[changed.index(before)] = after
    return _sorted_with_wrong(labels, changed)


def instead_of(before: Sequence[int], after: Sequence[int], class_names: Sequence[str]) -> str:
    """The labels that are new, and those that they stand for.

    >>> instead_of([0, 1, 1], [0, 1, 2], ("bird", "cat", "dog"))
    'dog instead of cat'
    """
    gained, lost = Counter(after) - Counter(before), Counter(before) - Counter(after)
    new, old = (", ".join(class_names[label] for label in sorted(some.elements())) for some in (gained, lost))
    return f"{new} instead of {old}"


def _sorted_with_wrong(labels: Sequence[int], changed: Sequence[int]) -> tuple[list[int], tuple[int, ...]]:
    by_class = sorted(range(len(changed)), key=changed.__getitem__)
    wrong = tuple(i for i, place in enumerate(by_class) if changed[place] != labels[place])
    return [changed[place] for place in by_class], wrong


@dataclass(frozen=True, kw_only=True)
class WrongLabels:
    """Labels to falsify: `count` of them at random, or by name in `swaps` such as ("cat>dog",)."""

    count: int = 0
    swaps: tuple[str, ...] = ()

    def applied(
        self, labels: Sequence[int], class_names: Sequence[str], *, seed: int
    ) -> tuple[list[int], tuple[int, ...]]:
        """The labels, sorted, with the wrong ones in place, and the places of those.

        Raises `UnsupportedScenario` where the labels do not allow it.
        """
        if self.swaps:
            return swap(labels, swaps(self.swaps, class_names), class_names)
        return falsify(labels, self.count, len(class_names), seed=seed)
