"""Text of strangers in a real browser: from links, folders, files, checkpoints, plug-ins, recordings and the store.

Every hostile text would make an element with the single word `MARK`, a symbol, a request or a dialog if it were read as
Markdown, HTML or a script.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from playwright.sync_api import Locator, Page, TimeoutError, expect

from benchmarks.browser import STAGE, STYLED, running_app
from deepleak_core.federated import checkpoints
from deepleak_core.federated.case import target_model
from deepleak_core.runs.recording import recorded, save, single
from deepleak_core.runs.run import run
from deepleak_core.runs.store import Store, this_process
from deepleak_core.scenario import Scenario
from tests.data.pictures import picture
from tests.helpers import ROOT
from tests.pages.browser.elements import MESSAGE, PATIENCE

pytestmark = pytest.mark.browser

MARK = "evil"
NAMES = (
    f"[{MARK}](javascript:alert(1))", f"<b>{MARK}<b>", f":red[{MARK}]", f"**{MARK}**", f"$ {MARK} $", f"`{MARK}`",
    "<img src=x onerror=alert(1)>", ":smile:", "www.evil.invalid", "{{ 7 * 7 }}", "turned\u202eround", "x" * 200,
)  # fmt: skip
TEXTS = (*NAMES, "![x](http://evil.invalid/a.png)", ":material/home:", "<script>alert(1)</script>", "nothing\x00here")
STRICT = [name for name, field in Scenario.model_fields.items() if field.annotation not in (str, str | None)]
TOGETHER = 6  # fields of one link whose values are refused at once
IN_CURVES = {"x": 300, "y": 100}  # a point of the chart where it shows values
SETTLED = "document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'"
PLUGIN = """
from dataclasses import dataclass

from torch import nn

from deepleak_core.attack.attacks import Attack
from deepleak_core.attack.settings import setting
from deepleak_core.federated.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class Settings:
    iterations: int = setting(2, TEXT, least=1, most=100)
    brightness: float = setting(0.25, TEXT, least=0, most=1)


ATTACK = Attack(
    title=TEXT, summary=TEXT, source=TEXT, label_strategy="idlg", reconstruct=lambda *_: iter(()), settings=Settings()
)
NETWORK = Network(
    title=TEXT, summary=TEXT, source=TEXT, features=nn.ReLU(),
    body=lambda shape: nn.Sequential(nn.Conv2d(shape[0], 4, 8, 8), nn.ReLU(), nn.Flatten()),
)
"""
MADE = (Path(__file__).parent / "foreign.js").read_text()
GO = "to => { history.pushState(null, '', to); dispatchEvent(new PopStateEvent('popstate')); }"  # as a link would


@dataclass
class Visit:
    """A browser page, and what it asked of other hosts or said by itself; `links` counts those that were refused."""

    page: Page
    url: str
    foreign: list[str]
    links: int = 0

    def see(self, link: str, ready: str) -> None:
        """Open a link and check what it draws."""
        self.page.goto(self.url + link)
        for selector in (STYLED, ready):
            self.page.locator(selector).first.wait_for()
        self.page.wait_for_function(SETTLED)
        self.check()

    def is_refused(self, name: str = "", **query: str) -> None:
        """Follow a link to a page, whose parameters a sentence refuses, and check what is drawn."""
        self.links += 1
        numbered = {parameter: f"{self.links}n {text}" for parameter, text in query.items()}
        self.page.evaluate(GO, f"/{name}?{urlencode(numbered)}")
        self.page.locator(MESSAGE, has_text=f"{self.links}n ").first.wait_for()
        assert all(len(words) < 700 for words in self.page.locator(MESSAGE).all_inner_texts())
        self.check()

    def check(self) -> None:
        """Nothing was made of a foreign text, and nothing was asked of another host."""
        assert self.page.evaluate(MADE, MARK) == []
        assert self.foreign == []
        words = self.page.locator("body").inner_text()
        assert "\u202e" not in words
        assert "\N{SMILING FACE WITH OPEN MOUTH AND SMILING EYES}" not in words


@dataclass(frozen=True)
class Hostile:
    """The app among hostile files: its address, and what was made for it."""

    url: str
    folder: Path
    broken: Path
    ended: str
    failed: str
    archive: Path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    """An app with a folder of images, a checkpoint, a plug-in, runs and an archive that bear hostile names."""
    root = tmp_path_factory.mktemp("hostile")
    folder = root / "images" / NAMES[0]
    for name in NAMES:
        picture(folder / name / f"{name[:60]}.png")
    broken = root / "images" / "broken"
    picture(broken / NAMES[1] / "a.png")
    (broken / NAMES[2]).mkdir()
    (broken / NAMES[2] / f"{NAMES[3]}.png").write_text("no picture")
    own = root / "data" / "checkpoints"
    own.mkdir(parents=True)
    for name in NAMES[:4]:
        trained = own / checkpoints.checkpoint_name("lenet64-elu", "cifar10", name)
        checkpoints.save(target_model(Scenario()), trained, epochs=1, accuracy=0.5)
    install_plugin(root / "site")
    store = Store(f"sqlite:///{root / 'runs.sqlite'}")
    scenario = Scenario(dataset="folder", images=str(folder), indices=(4, 5, 6), max_iterations=2)
    events = list(run(scenario))
    ended, failed = (store.create(scenario, this_process()) for _ in range(2))
    store.start(ended)
    store.append(ended, events)
    store.finish(ended, "finished")
    store.finish(failed, "failed", f"The worker said {' '.join(TEXTS)}")
    archive = root / "archive.zip"
    of_a_stranger = replace(recorded(scenario, events), device=TEXTS[1], version=TEXTS[2])
    title, sentence = " ".join(TEXTS[:4]), " ".join(TEXTS[:15])[:600]
    archive.write_bytes(save(replace(single(of_a_stranger), title=title, sentence=sentence)))
    surroundings = {
        "DEEPLEAK_IMAGES": str(root / "images"),
        "DEEPLEAK_DATA": str(root / "data"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(root / "site")]),
    }
    with running_app(root / "runs.sqlite", **surroundings) as url:
        yield Hostile(url, folder, broken, ended, failed, archive)


def install_plugin(site: Path) -> None:
    """An attack and a network of another package, whose every text is hostile."""
    metadata = site / "hostile_plugin-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "hostile_plugin.py").write_text(f"TEXT = {' '.join(TEXTS[:4] + TEXTS[12:15])!r}\n{PLUGIN}")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[deepleak.models]\nhostile = hostile_plugin:NETWORK\n[deepleak.attacks]\nhostile = hostile_plugin:ATTACK\n"
    )


def point_at_curves(chart: Locator) -> None:
    """Move the mouse on the chart until it shows values: before its curves are drawn it does not answer."""
    for step in range(100):
        chart.locator("canvas").hover(position={**IN_CURVES, "x": IN_CURVES["x"] + step % 2})
        chart.page.wait_for_timeout(100)
        if MARK in (chart.text_content() or ""):
            return


def shown_help(page: Page) -> Locator:
    """The help of the list of attacks, pointed at; it goes when the page moves below the mouse while it is drawn."""
    text = page.get_by_test_id("stTooltipContent")
    for _ in range(20):
        page.mouse.move(0, 0)
        page.locator(".st-key-attack [data-testid=stTooltipHoverTarget]").first.hover()
        with suppress(TimeoutError):
            text.wait_for(timeout=2000)
            break
    return text


def opened_option(page: Page) -> Locator:
    """The stranger's attack in the open list of attacks; the list closes when the page is drawn with an estimate."""
    option = page.get_by_role("option").filter(has_text=MARK)
    for _ in range(20):
        page.locator(".st-key-attack input").click()
        with suppress(TimeoutError):
            option.wait_for(timeout=2000)
            break
    return option


@pytest.fixture
def visit(chrome: Any, hostile: Hostile) -> Iterator[Visit]:
    """A visitor whose requests to other hosts, dialogs and errors are noted."""
    context = chrome.new_context(viewport={"width": 1280, "height": 720})
    page, foreign = context.new_page(), []
    page.set_default_timeout(PATIENCE)
    host = urlsplit(hostile.url).netloc

    def request(asked: Any) -> None:
        address = urlsplit(asked.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.netloc != host:
            foreign.append(asked.url)

    def dialog(shown: Any) -> None:
        foreign.append(f"dialog: {shown.message}")
        shown.dismiss()

    page.on("request", request)
    page.on("dialog", dialog)
    page.on("pageerror", lambda error: foreign.append(str(error)))
    yield Visit(page, hostile.url, foreign)
    context.close()


def test_links(visit: Visit) -> None:
    """Every field of a scenario, and every other parameter of a page."""
    texts = itertools.cycle(TEXTS)
    free = [name for name in Scenario.model_fields if name not in STRICT]
    visit.see("/", STAGE)
    for start in range(0, len(STRICT), TOGETHER):
        visit.is_refused(**{name: next(texts) for name in STRICT[start : start + TOGETHER]})
    for name in free:
        visit.is_refused(**{name: next(texts)})
    visit.is_refused(run=next(texts))
    visit.is_refused("label_inference", model=next(texts), over=next(texts), spread=next(texts))
    for page in ("one_wrong_label", "same_label_fusion", "gradinversion"):
        visit.is_refused(page, attack=next(texts), dataset=next(texts))
        visit.is_refused(page, pair=next(texts), sweep=next(texts))
    visit.is_refused("gallery", recording=next(texts))
    visit.see(f"/how_it_works?{urlencode({'level': TEXTS[0], 'tour': TEXTS[1]})}#{quote(TEXTS[1])}", ".dl-drawing")


def test_a_run_on_images_of_strangers(visit: Visit, hostile: Hostile) -> None:
    """Its pictures, labels, stages and curves, before and below them the settings with an attack of a stranger."""
    page = visit.page
    visit.see(f"/?run={hostile.ended}", f"{STAGE} .track figure")
    for heading in page.locator("details summary").all():
        heading.click()
    chart = page.get_by_test_id("stEChartsChart")
    point_at_curves(chart)
    expect(chart).to_contain_text(f"<b>{MARK}<b>")
    visit.check()
    page.locator(".st-key-drawer button").first.click()
    expect(shown_help(page)).to_contain_text(MARK)
    visit.check()
    expect(opened_option(page)).to_be_visible()
    visit.check()


def test_a_run_that_failed_with_words_of_strangers(visit: Visit, hostile: Hostile) -> None:
    visit.see(f"/?run={hostile.failed}", MESSAGE)
    expect(visit.page.locator(MESSAGE)).to_contain_text(f"[{MARK}](javascript:alert(1))")


def test_folders_files_and_checkpoints_of_strangers(visit: Visit, hostile: Hostile) -> None:
    """Classes as chips and columns, training stages along a curve, a picture that cannot be read."""
    query = {"dataset": "folder", "images": hostile.folder, "composition": "distinct", "batch_size": "8"}
    visit.see(f"/label_inference?{urlencode(query)}", ".dl-answers .dl-chips")
    for heading in visit.page.locator("details summary").all():
        heading.click()
    visit.check()
    visit.see("/label_inference?over=stage", "[data-testid=stPlotlyChart] .xtick")
    expect(visit.page.locator("[data-testid=stPlotlyChart]").last).to_contain_text(f"<b>{MARK}<b>")
    visit.see(f"/?{urlencode(query | {'images': hostile.broken, 'batch_size': '2'})}", STAGE)


def test_a_recording_of_a_stranger(visit: Visit, hostile: Hostile) -> None:
    page = visit.page
    visit.see("/gallery", ".dl-mosaic")
    page.locator(".st-key-open button").first.click()
    page.locator("input[type=file]").set_input_files(hostile.archive)
    page.locator(".dl-made").wait_for()
    page.locator(".st-key-player-gallery-stage .track figure").first.wait_for()
    visit.check()
    expect(page.locator(".dl-headline")).to_contain_text(f"[{MARK}](javascript:alert(1))")
