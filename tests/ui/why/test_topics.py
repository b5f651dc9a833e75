"""Every reason that "Why?" can give, and which one fits an outcome."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from deepleak_core.events import FinalScore, Finished, Outcome
from deepleak_core.scenario import Scenario
from tests.helpers import drawn
from ui import drawings
from ui.why import TOPICS, topic_of


def draw(name: str) -> None:
    from ui.why import why

    why(name)


@pytest.mark.parametrize("name", TOPICS)
def test_every_topic_has_a_sentence_a_drawing_what_helps_and_a_formula(name: str) -> None:
    topic = TOPICS[name]
    page = drawn(draw, name)
    html = "\n".join(piece.value for piece in page.html)
    assert f'alt="{topic.shows}"' in html
    assert "data:image/svg+xml" in html
    assert f'#{topic.section}"' in html
    assert topic.sentence.endswith(".")
    assert topic.helps in unescape(html)
    assert page.expander[0].markdown[0].value.count("$$") >= 2


@pytest.mark.parametrize("file", sorted(drawings.FOLDER.glob("*.svg")), ids=lambda file: file.stem)
def test_drawings_are_whole_and_need_no_other_file(file: Path) -> None:
    ElementTree.fromstring(file.read_text())
    linked = re.findall(r'href="([^"]+)"', file.read_text())
    assert all((drawings.FOLDER / name).is_file() for name in linked)
    assert "data:image/svg+xml" in drawings.drawing(file.stem, "words")


def finished(*, fused: tuple[bool, ...], exact: bool) -> Finished:
    images = len(fused) or 2
    outcome: Outcome = "recovered" if exact else "not recovered"
    score = FinalScore(
        places=tuple(range(images)), psnr=(120.0 if exact else 12.0,) * images, ssim=(1.0,) * images,
        max_error_8bit=(0 if exact else 90,) * images, pixel_exact=(exact,) * images, outcomes=(outcome,) * images,
        fused=fused, fusion=sum(fused) / len(fused) if fused else None, noise_psnr=8.0, grey_psnr=13.0, time_to={},
    )  # fmt: skip
    return Finished(reason="converged", sentence="", step=1, seconds=1.0, residual=0.0, score=score)


@pytest.mark.parametrize(
    ("settings", "fused", "exact", "topic"),
    [
        ({}, (), False, "leak"),
        ({"mode": "fedavg"}, (), False, "fedavg"),
        ({"stage": "late"}, (), False, "trained"),
        ({"attack": "gradinversion"}, (), False, "gradinversion"),
        ({"mislabel": ("cat>dog",)}, (True, True), False, "wrong-label"),
        ({}, (True, True), False, "fusion"),
        ({}, (False, False), True, "separation"),
    ],
)
def test_the_topic_follows_the_outcome(
    settings: dict[str, Any], fused: tuple[bool, ...], exact: bool, topic: str
) -> None:
    assert topic_of(Scenario(**settings), finished(fused=fused, exact=exact)) == topic


def test_before_the_end_the_topic_follows_the_scenario() -> None:
    assert topic_of(Scenario(composition="pair")) == topic_of(Scenario(labels=("cat", "cat"))) == "fusion"
    assert topic_of(Scenario(labels=("cat", "ship"))) == "leak"
