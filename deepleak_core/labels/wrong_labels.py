"""Change inferred labels on purpose, a number of them at random or by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from deepleak_core.data.class_names import class_index, unclear_in_list
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.text import listed, printable, shorten, split_list


def falsify(labels: Sequence[int], wrong: int, classes: int, *, seed: int = 0) -> tuple[list[int], tuple[int, ...]]:
    """Replace `wrong` of the labels by other classes, which are not in the batch as long as there are any.

    No class both loses and gains a label, so that all replaced labels are wrong. Where every class of the data set
    loses one, the rarest class of the batch gains them all: then as few as possible are right again.

    Args:
        labels: labels of a batch.
        wrong: how many to replace.
        classes: how many classes there are.
        seed: which labels are replaced, and by what.

    Returns:
        The labels in ascending order, and the positions of the wrong ones among them. Raises `UnsupportedScenario`
        where there is only one class.

    >>> falsify([0, 1], 1, 3)[0] in ([1, 2], [0, 2])
    True
    >>> falsify([0, 1, 1], 3, 2)
    ([0, 0, 0], (1, 2))
    """
    import torch  # here: sentences about wrong labels are read before PyTorch is loaded

    if wrong and classes < 2:
        raise UnsupportedScenario(["wrong_labels needs at least two classes, there is one; add a second class."])
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
    """Pairs of class names, such as "cat>dog" (`text.swap_text`), as pairs of class indices.

    Raises `UnsupportedScenario` where a name is no class, or where a class is on both sides: its pairs could cancel
    each other.

    >>> swaps(["cat>dog"], ("bird", "cat", "dog"))
    [(1, 2)]
    """
    pairs, problems = [], []
    for text in mislabel:
        names = split_list(text, ">")
        pairs.append([class_index(name, class_names) for name in names])
        problems += [
            unclear_in_list("mislabel", name, class_names)
            for name, found in zip(names, pairs[-1], strict=True)
            if found is None
        ]
    both = {before for before, _ in pairs} & {after for _, after in pairs}
    if both and not problems:
        problems.append("mislabel has a class on both sides; accepted are pairs of two different classes.")
    if problems:
        raise UnsupportedScenario(problems)
    return [(before, after) for before, after in pairs if before is not None and after is not None]


def swap(
    labels: Sequence[int], pairs: Sequence[tuple[int, int]], class_names: Sequence[str], *, there: str = "the batch has"
) -> tuple[list[int], tuple[int, ...]]:
    """Replace one label of each pair's first class by its second class; returns what `falsify` does.

    Raises `UnsupportedScenario` where no label of the first class is left; `there` says whose labels they are.

    >>> swap([0, 1, 1], [(1, 2)], ("bird", "cat", "dog"))
    ([0, 1, 2], (2,))
    """
    changed = list(labels)
    for before, after in pairs:
        if before not in changed:
            further = "further " if before in labels else ""
            accepted = listed([class_names[label] for label in sorted(set(labels))])
            raise UnsupportedScenario(
                [
                    f"mislabel replaces a label {shorten(class_names[before])}, but {there} no {further}such label; "
                    f"accepted are: {accepted}."
                ]
            )
        changed[changed.index(before)] = after
    return _sorted_with_wrong(labels, changed)


def instead_of(before: Sequence[int], after: Sequence[int], class_names: Sequence[str]) -> str:
    """The labels that were gained, and those that were lost.

    >>> instead_of([0, 1, 1], [0, 1, 2], ("bird", "cat", "dog"))
    'dog instead of cat'
    """
    gained, lost = Counter(after) - Counter(before), Counter(before) - Counter(after)
    new, old = (", ".join(printable(class_names[i]) for i in sorted(some.elements())) for some in (gained, lost))
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
            return swap(labels, swaps(self.swaps, class_names), class_names, there="the attacker has inferred")
        return falsify(labels, self.count, len(class_names), seed=seed)
