"""The player and the cards in a real browser, with a recording of real runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from benchmarks.browser import running_app
from deepleak_core import Scenario, run
from deepleak_core.events import Stage
from deepleak_core.runs.recording import RecordedRun, Recording, recorded, save
from tests.pages.browser.elements import places, settled

pytestmark = pytest.mark.browser
PATIENCE = 90_000  # milliseconds


@pytest.fixture(scope="module")
def recording(recorded_run: RecordedRun) -> Recording:
    same = Scenario(indices=(4, 5), max_iterations=30, setting=("start=independent",))
    runs = (recorded_run, recorded(same, run(same)))
    return Recording(name="test", title="Test", sentence="A test.", page="live", runs=runs)


@pytest.fixture(scope="module")
def stage_url(recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("stage")
    (folder / "test.zip").write_bytes(save(recording))
    variables = {"DEEPLEAK_TEST_RECORDING": str(folder / "test.zip"), "PYTHONPATH": "."}
    with running_app(folder / "runs.sqlite", "tests/ui/player/stage.py", **variables) as url:
        yield url


@pytest.fixture
def show(chrome: Any, stage_url: str) -> Iterator[Callable[..., Page]]:
    """Open the page; at the end nothing may have gone wrong in the browser."""
    opened, wrong = [], []

    def page_of(query: str = "", *, width: int = 1280, height: int = 720, **options: Any) -> Page:
        context = chrome.new_context(viewport={"width": width, "height": height}, **options)
        opened.append(context)
        page: Page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.goto(f"{stage_url}/?{query}")
        page.locator(".track canvas").first.wait_for()
        page.locator(".row button").first.wait_for()
        return page

    yield page_of
    for context in opened:
        context.close()
    assert not wrong


def time_of(page: Page) -> float:
    """Where the playhead stands, in attack seconds."""
    return float(plot(page).get_attribute("aria-valuenow") or "nan")


def end_of(page: Page) -> float:
    return float(plot(page).get_attribute("aria-valuemax") or "nan")


def plot(page: Page) -> Locator:
    return page.get_by_role("slider", name="Time in the attack")


def toggle(page: Page) -> Locator:
    return page.locator(".controls .play")


def pixels(page: Page, kind: str = ".track") -> list[str]:
    """What the canvases of a kind of column show."""
    found: list[str] = page.locator(f"{kind} canvas").evaluate_all("all => all.map(canvas => canvas.toDataURL())")
    return found


def expect_playing(page: Page, playing: bool) -> None:
    expect(page.locator(".frame.playing")).to_have_count(int(playing))


def at_end(page: Page) -> None:
    wait_for_plot(page, "plot.getAttribute('aria-valuenow') === plot.getAttribute('aria-valuemax')")


def before_end(page: Page) -> None:
    wait_for_plot(page, "plot.getAttribute('aria-valuenow') !== plot.getAttribute('aria-valuemax')")


def wait_for_plot(page: Page, condition: str) -> None:
    page.wait_for_function(
        "() => { const plot = [...document.querySelectorAll('*')].map(e => e.shadowRoot?.querySelector('.plot'))"
        f".find(Boolean); return plot && {condition}; }}"
    )


def test_a_recording_stands_at_its_end_with_its_verdict(show: Callable[..., Page], recording: Recording) -> None:
    page = show()
    at_end(page)
    expect_playing(page, False)
    assert recording.runs[0].finished.score is not None
    outcome = recording.runs[0].finished.score.outcomes[0]
    expect(page.get_by_role("img", name="Rebuilt picture 1: cat")).to_have_attribute(
        "aria-label", f"Rebuilt picture 1: cat, {outcome}, {recording.runs[0].frames[-1].psnr[0]:.1f} dB"
    )
    expect(page.get_by_role("img", name="Client 2: frog")).to_be_visible()


def test_it_plays_pauses_and_ends_at_its_end(show: Callable[..., Page]) -> None:
    page = show()
    last = pixels(page)
    page.get_by_label("Speed").select_option("0.25")
    toggle(page).click()
    expect_playing(page, True)
    page.wait_for_timeout(500)
    toggle(page).click()
    expect_playing(page, False)
    paused = time_of(page)
    assert paused < end_of(page)
    page.wait_for_timeout(300)
    assert time_of(page) == paused
    assert pixels(page) != last
    page.get_by_label("Speed").select_option("4")
    toggle(page).click()
    at_end(page)
    expect_playing(page, False)
    assert pixels(page) == last


def test_it_plays_at_once_and_again_where_it_is_asked_to(show: Callable[..., Page]) -> None:
    page = show("autoplay=1&loop=1")
    expect_playing(page, True)
    page.get_by_label("Speed").select_option("4")
    at_end(page)
    before_end(page)
    expect_playing(page, True)
    page.get_by_role("button", name="Repeat").click()
    at_end(page)
    expect_playing(page, False)


def test_nothing_moves_by_itself_where_that_is_not_wanted(show: Callable[..., Page]) -> None:
    page = show("autoplay=1", reduced_motion="reduce")
    at_end(page)
    page.wait_for_timeout(300)
    expect_playing(page, False)


def test_keys_play_and_step_unless_they_are_typed(show: Callable[..., Page], recording: Recording) -> None:
    page, frames = show(), recording.runs[0].frames
    page.keyboard.press("ArrowLeft")
    assert time_of(page) == pytest.approx(frames[-2].seconds, abs=0.051)
    page.keyboard.press("ArrowRight")
    assert time_of(page) == pytest.approx(frames[-1].seconds, abs=0.051)
    page.keyboard.press(" ")
    expect_playing(page, True)
    page.keyboard.press(" ")
    expect_playing(page, False)
    plot(page).focus()
    page.keyboard.press("Home")
    assert time_of(page) == pytest.approx(frames[0].seconds, abs=0.051)
    before = time_of(page)
    page.get_by_label("Words").fill("a")
    page.keyboard.press(" ")
    page.keyboard.press("ArrowRight")
    expect_playing(page, False)
    assert time_of(page) == before
    expect(page.get_by_label("Words")).to_have_value("a ")


def test_the_timeline_is_scrubbed(show: Callable[..., Page]) -> None:
    page = show()
    last, box = pixels(page), plot(page).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    middle = time_of(page)
    assert middle < end_of(page)
    page.mouse.move(box["x"] + 5, box["y"] + 200)  # held: the pointer may leave the timeline
    page.mouse.up()
    assert time_of(page) < middle
    assert pixels(page) != last


def test_buttons_step(show: Callable[..., Page]) -> None:
    page = show()
    back = page.get_by_role("button", name="One picture back (left arrow)")
    on = page.get_by_role("button", name="One picture on (right arrow)")
    back.click(click_count=2)  # the last picture may follow too soon on the one before it to be told by its time
    assert time_of(page) < end_of(page)
    on.click(click_count=2)
    at_end(page)


def test_a_run_whose_residual_is_no_number_plays_to_its_end(show: Callable[..., Page]) -> None:
    page = show("kind=diverged")
    expect(page.locator(".gauge b")).to_have_text("\N{EN DASH}")
    plot(page).press("Home")
    expect(page.locator(".gauge b")).to_contain_text("%")
    drawn = page.locator(".plot path").evaluate_all("all => all.map(path => path.getAttribute('d'))")
    assert not [path for path in drawn if re.search("NaN|Infinity|undefined", path)]


def test_two_attacks_have_one_clock_and_curves_that_differ_in_more_than_colour(show: Callable[..., Page]) -> None:
    page = show("kind=two")
    dashes = page.locator(".ahead .line").evaluate_all("all => all.map(line => getComputedStyle(line).strokeDasharray)")
    assert len(set(dashes)) == 2
    expect(page.locator("header .swatch")).to_have_count(2)
    plot(page).focus()
    last = pixels(page)
    page.keyboard.press("Home")
    assert all(before != after for before, after in zip(last, pixels(page), strict=True))
    expect(page.locator(".track small").last).to_contain_text("dB")


def test_a_run_under_way_stays_at_its_end_and_nothing_moves_on_the_page(
    show: Callable[..., Page], recording: Recording
) -> None:
    page = show("kind=under-way&autoplay=1")
    expect(page.locator(".track .status")).to_have_text("Starting")
    expect(toggle(page)).to_be_disabled()
    boxes = [settled(page, page.locator(".track figure").first.bounding_box)]
    seen = [pixels(page)]
    for step in (1, 2, 3):
        page.get_by_role("button", name="Next").dispatch_event("click")  # without scrolling to it
        if step < 3:
            expect(page.locator(".stage")).to_have_text("Under way.")
            expect(page.locator(".track .status")).to_contain_text(f"iteration {recording.runs[0].frames[step].step}")
        else:
            expect(toggle(page)).to_be_enabled()
        boxes.append(page.locator(".track figure").first.bounding_box())
        seen.append(pixels(page))
    at_end(page)
    expect_playing(page, False)
    assert boxes == [boxes[0]] * 4
    assert len({repr(pictures) for pictures in seen}) == 4


def test_pictures_of_one_label_melt_into_their_average(show: Callable[..., Page]) -> None:
    page = show("kind=same")
    words = page.locator(".track small").first
    apart = float(words.inner_text().split()[-2])
    assert len(set(pixels(page))) == 2
    page.get_by_label("Average").fill("1")
    assert len(set(pixels(page))) == 1
    assert float(words.inner_text().split()[-2]) > apart


def test_a_choice_below_a_picture_is_reported(show: Callable[..., Page]) -> None:
    page = show("kind=menu")
    page.get_by_label("Label of image 2").select_option("dog")
    expect(page.get_by_text("click 0 1 dog")).to_be_visible()


def test_a_card_is_picked_by_mouse_and_keyboard(show: Callable[..., Page]) -> None:
    page = show()
    expect(page.get_by_role("button", name="One", exact=True)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Two", exact=True).click()
    expect(page.get_by_text("picked two")).to_be_visible()
    page.get_by_role("button", name="One", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("picked one")).to_be_visible()


def test_pictures_are_large_and_on_a_phone_come_first(show: Callable[..., Page]) -> None:
    page = show()
    shown = page.locator(".player").bounding_box()
    assert shown is not None
    assert shown["height"] <= 720
    page = show(width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    rebuilt, private = (page.locator(f"{kind} figure").first.bounding_box() for kind in (".track", ".still"))
    assert rebuilt is not None
    assert private is not None
    assert rebuilt["y"] < private["y"]
    assert rebuilt["width"] > private["width"]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 16])
def test_columns_of_as_many_pictures_are_arranged_alike(show: Callable[..., Page], count: int) -> None:
    private, rebuilt = places(show(f"count={count}"), ".still", ".track")
    assert len(private) == count
    assert private == rebuilt


@pytest.mark.parametrize("width", [390, 1280])
def test_the_curve_tells_a_good_copy_from_an_exact_one(show: Callable[..., Page], width: int) -> None:
    good, better, exact = (reached(show(f"seconds=10&psnr={psnr}", width=width)) for psnr in (67, 90, 120))
    assert 50 <= good < 67
    assert good < better <= 90
    assert exact == 100


def reached(page: Page) -> float:
    """The highest labelled quality that the end of the curve reaches, in dB."""
    look = """plot => ({
        end: plot.querySelector('path.marker').getBoundingClientRect().toJSON(),
        words: [...plot.querySelectorAll('text')].map(e => e.textContent),
        lines: [...plot.querySelectorAll('path.tick')].map(e => e.getBoundingClientRect().y),
    })"""
    drawn = settled(page, lambda: plot(page).evaluate(look))
    values = [float(found[0]) for text in drawn["words"] if (found := re.match(r"\d+(?=\+? dB)", text))]
    assert all(below - above > 12 for below, above in pairwise(drawn["lines"]))  # so that labels do not touch
    end = drawn["end"]["y"] + drawn["end"]["height"] / 2
    return max(tick for tick, y in zip(values, drawn["lines"], strict=True) if y >= end - 1)


def test_speed_is_said_where_a_replay_takes_another_time_than_the_attack(show: Callable[..., Page]) -> None:
    for seconds in (4.0, 3.6, 21.6):
        page = show(f"seconds={seconds}&psnr=30")
        assert len(words_of_time(page)) == 1
    page.get_by_label("Speed").select_option("4")
    assert "5.0 s" in words_of_time(page)[1]
    assert "20.0 s" in words_of_time(show("seconds=60&psnr=30"))[1]


def words_of_time(page: Page) -> list[str]:
    """What is said beside the clock: how long the attack took, and how long its replay takes where that is said."""
    return settled(page, page.locator(".clock .scale").inner_text).split(",")


def test_on_a_phone_the_certificate_of_an_exact_copy_is_shown_whole(show: Callable[..., Page]) -> None:
    stage = show(width=390, height=844).locator(".stage").first
    sentence = next(step.sentence for step in exact_copies() if step.name == "Exact copy certified")
    shown, needed = stage.evaluate(
        "(line, words) => { line.textContent = words; return [line.clientHeight, line.scrollHeight]; }", sentence
    )
    assert needed <= shown


def exact_copies() -> list[Stage]:
    """The stages of a run that ends in certified copies."""
    return [event for event in run(Scenario(attack="exact", indices=(0, 4))) if isinstance(event, Stage)]
