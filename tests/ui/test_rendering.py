"""Templates escape every value, whichever piece of a page it goes into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from markupsafe import Markup

from deepleak_core.events import FeaturesSeparated, Stage, UpdateShared
from tests.ui.samples import PNG, answered, inferred, read
from ui import pictures, pieces, server_view
from ui.label_inference import chips, tables
from ui.rendering import FOLDER

HOSTILE = "<img src=x onerror=alert(1)>\"'"
SHARED = UpdateShared(mode="fedsgd", batch_size=1, local_steps=0, layers=(HOSTILE,), sizes=(3,), norms=(1.0,), bytes=12)
FEATURES = FeaturesSeparated(
    labels=(0, 1), before=(1.0, 0.5, 0.5, 1.0), after=(1.0, 0.0, 0.0, 1.0), errors=(0.0, 0.0), singular_values=(1.0,),
    misfit=1.0, seconds=1.0,
)  # fmt: skip
PIECES: dict[str, Callable[[], Markup]] = {
    "square": lambda: pictures.square([PNG], [HOSTILE]),
    "sheets": lambda: pictures.sheets({HOSTILE: PNG}),
    "labels": lambda: server_view.labels(
        replace(inferred([1, 0]), note=HOSTILE), [1], [HOSTILE, HOSTILE], true_counts=[0, 1]
    ),
    "update": lambda: server_view.update(SHARED),
    "shared": lambda: server_view.shared(replace(SHARED, layers=(f"{HOSTILE}",))),
    "separated": lambda: server_view.separated(FEATURES, [HOSTILE, HOSTILE]),
    "stages": lambda: server_view.stages([Stage(name=HOSTILE, sentence=HOSTILE)]),
    "headline": lambda: pieces.headline(HOSTILE),
    "step": lambda: pieces.step(1, HOSTILE),
    "note": lambda: pieces.note(HOSTILE),
    "progress": lambda: pieces.progress(0.5, HOSTILE, HOSTILE, hint=HOSTILE),
    "label steps": lambda: tables.steps(read([1], [1]), [HOSTILE], [0]),
    "answers": lambda: chips.answers([answered([1], [2])], [HOSTILE]),
    "label matrix": lambda: tables.matrix([answered([1], [1], note=HOSTILE)], [HOSTILE], [0], awaited=HOSTILE),
}


@pytest.mark.parametrize("name", PIECES)
def test_no_value_becomes_markup(name: str) -> None:
    piece = PIECES[name]()
    assert "<img src=x" not in piece
    assert 'onerror=alert(1)>"' not in piece
    assert "&lt;img src=x" in piece


def test_html_made_by_a_template_goes_into_another_one_as_it_is() -> None:
    assert pieces.step(1, "title", pieces.note("a < b")).count("<p class=") == 1


def test_no_template_switches_escaping_off() -> None:
    for file in FOLDER.glob("*.html"):
        assert "safe" not in file.read_text(), file.name
        assert "autoescape" not in file.read_text(), file.name
