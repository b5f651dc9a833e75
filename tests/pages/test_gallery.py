"""The page Gallery: recordings play without a run, from the gallery and from files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from streamlit.testing.v1 import AppTest

from deepleak_core import run
from deepleak_core.runs.recording import Recording, load, recorded, save
from deepleak_core.runs.store import Store
from deepleak_core.scenario import Scenario
from tests.helpers import app_page, checked, errors, headline, keys, page_html
from ui import recordings

SCENARIO = Scenario(indices=(0, 4), model="lenet", max_iterations=3)
HOSTILE = "<script>alert(1)</script> ![x](http://a.example/x.png)"


@pytest.fixture(scope="module")
def recording() -> Recording:
    runs = (recorded(SCENARIO, run(SCENARIO)),)
    return Recording(name="first", title="The first", sentence="Two images come back.", page="live", runs=runs)


@pytest.fixture
def folder(store: Store, recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gallery of two recordings."""
    (tmp_path / "01-first.zip").write_bytes(save(recording))
    second = Recording(name="second", title="The second", sentence="Again.", page="live", runs=recording.runs)
    (tmp_path / "02-second.zip").write_bytes(save(second))
    monkeypatch.setattr(recordings, "GALLERY", tmp_path)
    return tmp_path


@pytest.fixture
def visit(folder: Path) -> Callable[..., AppTest]:
    """Open the page by a link, as a fresh visitor."""
    return partial(app_page, "gallery")


def playing(app: AppTest) -> bool:
    return "live" in keys(app)


def test_every_recording_is_a_card_and_a_click_plays_it(visit: Any, store: Store) -> None:
    app = visit()
    assert {"play-first", "play-second"} <= keys(app)
    assert page_html(app).count("dl-mosaic") == 2
    assert not playing(app)
    checked(app.button(key="play-second").click().run())
    assert playing(app)
    assert headline(app) == "Again."
    assert app.query_params["recording"] == "second"
    checked(app.button(key="all").click().run())
    assert not playing(app)
    assert "recording" not in app.query_params
    assert store.runs() == []


def test_a_link_plays_a_recording(visit: Any) -> None:
    app = visit(recording="first")
    assert playing(app)
    assert headline(app) == "Two images come back."
    assert not errors(app)


def test_an_unknown_name_is_refused_beside_the_cards(visit: Any) -> None:
    app = visit(recording="none")
    assert len(errors(app)) == 1
    assert "play-first" in keys(app)


def test_the_same_attack_opens_on_the_live_page(visit: Any) -> None:
    app = visit(recording="first")
    checked(app.button(key="live").click().run())
    assert "start" in keys(app)
    assert Scenario.from_query(app.query_params) == SCENARIO


def test_a_recording_of_images_from_elsewhere_cannot_be_run_here(
    visit: Any, folder: Path, recording: Recording
) -> None:
    foreign = recording.runs[0].scenario.changed(images="photos")
    (own,) = load(save(recording)).runs
    moved = Recording(
        name="third", title="T", sentence="S.", page="live", runs=(type(own)(**{**vars(own), "scenario": foreign}),)
    )
    (folder / "03-third.zip").write_bytes(save(moved))
    assert visit(recording="third").button(key="live").disabled


def upload(app: AppTest, data: bytes) -> AppTest:
    return checked(app.file_uploader(key="file").upload("a.zip", data, "application/zip").run())


def test_an_archive_from_a_file_plays(visit: Any, recording: Recording) -> None:
    foreign = Recording(name="own", title=HOSTILE, sentence=HOSTILE, page="fusion", runs=recording.runs)
    app = upload(visit(), save(foreign))
    assert playing(app)
    assert "<script>alert" not in page_html(app)
    checked(app.button(key="all").click().run())
    assert not playing(app)


def test_a_file_that_is_no_archive_is_refused_in_a_sentence(visit: Any) -> None:
    app = upload(visit(), b"no zip")
    assert len(errors(app)) == 1
    assert "play-first" in keys(app)
    checked(app.button(key="play-first").click().run())
    assert not errors(app)


def test_what_is_shipped_can_be_played() -> None:
    """Every archive of the gallery is readable, named as its file, says what its script says, and all are small."""
    paths = sorted(recordings.GALLERY.glob("*.zip"))
    assert sum(path.stat().st_size for path in paths) < 20e6
    for path, head in zip(paths, recordings.heads(), strict=True):
        script = yaml.safe_load(path.with_suffix(".yaml").read_text())
        assert load(path).name == head.name
        assert (head.title, head.sentence) == (script["title"], script["sentence"])
