"""What How it works says, in three levels: drawings with one sentence each, short texts, and formulas with sources.

The text of a section is the Markdown file named after its anchor, in the folder named after its level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ui.how_it_works import sources

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Picture:
    """One sentence for everybody above a drawing of assets/explain; `shows` is for those who do not see it."""

    anchor: str
    sentence: str
    drawing: str
    shows: str


@dataclass(frozen=True)
class Section:
    """A heading that can be linked to, and the functions of `ui.how_it_works.figures` that draw beside its text."""

    anchor: str
    title: str
    figures: tuple[str, ...] = ()


PICTURES = (
    Picture(
        "shared",
        "Your images stay on your device. Only a long list of numbers leaves it.",
        "shared",
        "Images on a device, an arrow of numbers, a server.",
    ),
    Picture(
        "holds-images",
        "But these numbers were made from your images, and can be turned back into them.",
        "leak",
        "An image times an error is its gradient; divided by the error it is the image again.",
    ),
    Picture(
        "matching",
        "The server starts from noise and adjusts pixels until their numbers match the shared ones.",
        "matching",
        "Four steps from noise to clear images while the difference falls to nothing.",
    ),
    Picture(
        "wrong-label",
        "It must know what is on each image: one wrong label makes every image worse.",
        "wrong-label",
        "A ship is labelled as a deer; all four images come out worse.",
    ),
    Picture(
        "fusion",
        "Images of one class come back as one blend. Small differences let the attack separate them.",
        "blend",
        "Four frogs come back as the same blurred blend; small differences separate them into four frogs.",
    ),
    Picture(
        "defences",
        "Strong noise hides the images. Ask for it by its name: differential privacy.",
        "defences",
        "The same four images rebuilt under more and more noise, until nothing is left.",
    ),
)

WORDS = (
    Section("holds-images", "Why numbers contain images", ("pixels",)),
    Section("matching", "How the server searches", ("matching",)),
    Section("labels", "How it finds the labels", ("counts",)),
    Section("wrong-label", "One wrong label makes every image worse", ("wrong_label",)),
    Section("fusion", "Images of one class fuse, and can be separated", ("fused",)),
    Section("threat-model", "What the server must know", ("networks",)),
    Section("defences", "What helps", ("noise",)),
)

MATHEMATICS = (
    Section("shared", "What is shared", ("shared",)),
    Section("matching", "Gradient matching", ("larger",)),
    Section("labels", "Label counts", ("training",)),
    Section("wrong-label", "One wrong label", ("wrong_labels",)),
    Section("fusion", "Fusion"),
    Section("separation", "Feature separation", ("separated",)),
    Section("simplex", "Larger batches", ("simplex",)),
    Section("certificate", "Certified counts", ("certificate",)),
    Section("pixels", "Exact pixels"),
    Section("sources", "Sources"),
)

LEVELS: dict[str, Sequence[Picture | Section]] = {
    "picture": PICTURES,
    "words": WORDS,
    "mathematics": MATHEMATICS,
}


def text_of(level: str, section: str) -> str:
    """The Markdown text of a section."""
    return sources.table() if section == "sources" else (FOLDER / level / f"{section}.md").read_text()


def level_of(section: str) -> str:
    """The first level, from words on, that has a section: where a link to it should lead.

    >>> level_of("fusion"), level_of("certificate")
    ('words', 'mathematics')
    """
    return next(level for level in ("words", "mathematics", "picture") if section in anchors(level))


def anchors(level: str) -> list[str]:
    """The sections of a level, in their order."""
    return [section.anchor for section in LEVELS[level]]


def link_to(section: str) -> str:
    """The address of a section.

    >>> link_to("fusion")
    'how_it_works?level=words#fusion'
    """
    return f"how_it_works?level={level_of(section)}#{section}"
