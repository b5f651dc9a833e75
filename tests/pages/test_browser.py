"""The app as a visitor meets it: a real server, a real attack, a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from benchmarks.browser import open_page, running_app
from deepleak_core.runs.run import run as attack
from deepleak_core.runs.store import Store, this_process
from deepleak_core.scenario import Scenario

pytestmark = pytest.mark.browser
PATIENCE = 90_000  # milliseconds: these tests ask whether things happen, other machines are slower
LONG = "/?indices=0,1,3,4&max_iterations=100000"
SHORT = "/?indices=0,4&max_iterations=30"
expect.set_options(timeout=PATIENCE)


@pytest.fixture
def visit(chrome: Any, app_url: str) -> Iterator[Any]:
    """Open a link of the app as a fresh visitor."""
    pages = []

    def opened(link: str = "/", **looks: Any) -> Any:
        pages.append(open_page(chrome, app_url + link, **looks))
        pages[-1].set_default_timeout(PATIENCE)
        return pages[-1]

    yield opened
    for page in pages:
        page.context.close()


def run(page: Any) -> None:
    page.get_by_role("button", name="Run the attack").click()


def rebuilt(page: Any) -> list[str]:
    """The data of every rebuilt picture now on the page."""
    return page.eval_on_selector_all(".dl-rebuilt img", "images => images.map(image => image.src)")


def expect_private(page: Any, names: list[str]) -> None:
    expect(page.locator(".dl-thumbs figcaption")).to_have_text(names)


def headline(page: Any) -> Any:
    return page.locator(".dl-headline")


def test_one_click_rebuilds_the_images_and_a_reload_finds_the_same_run(visit: Any) -> None:
    page = visit()
    expect_private(page, ["cat", "ship", "airplane", "frog"])
    run(page)
    page.wait_for_selector(".dl-rebuilt img")
    seen = {rebuilt(page)[0]}
    while len(seen) < 5:  # the pictures change while the attack goes on
        page.wait_for_timeout(100)
        seen.add(rebuilt(page)[0])
    headline(page).get_by_text("All of the 4 private images were rebuilt").wait_for()
    page.get_by_role("button", name="Pictures (PNG)").wait_for()  # drawn last
    expect(page).to_have_url(re.compile(r".*/\?run=[\w-]+$"))
    address, last = page.url, rebuilt(page)
    page.reload()
    headline(page).get_by_text("All of the 4 private images were rebuilt").wait_for()
    page.get_by_role("button", name="Pictures (PNG)").wait_for()
    expect(page).to_have_url(address)
    assert rebuilt(page) == last

    with page.expect_download() as download:
        page.get_by_role("button", name="Figures (JSON)").click()
    assert '"mean_psnr"' in download.value.path().read_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Pictures (PNG)").click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")


def test_the_first_window_shows_the_button_the_private_and_the_rebuilt_pictures(visit: Any) -> None:
    page = visit()
    boxes = [page.get_by_role("button", name="Run the attack").bounding_box()]
    boxes += [tile.bounding_box() for tile in page.locator(".dl-thumbs img, .dl-rebuilt .dl-tile").all()]
    assert len(boxes) == 9
    assert all(box["y"] >= 0 and box["y"] + box["height"] <= 720 for box in boxes)


def test_a_second_visitor_follows_the_run_by_its_link_and_stops_it(visit: Any) -> None:
    first = visit(LONG)
    run(first)
    first.wait_for_selector(".dl-rebuilt img")
    first.wait_for_url("**/?run=*")

    second = visit(first.url.removeprefix(first.url.split("/?")[0]))
    second.wait_for_selector(".dl-rebuilt img")
    before = rebuilt(second)
    second.wait_for_function("before => document.querySelector('.dl-rebuilt img').src != before", arg=before[0])

    second.get_by_role("button", name="Stop").click()
    for page in (first, second):
        headline(page).get_by_text("Stopped early.").wait_for()
        expect(page.get_by_role("button", name="Run the attack")).to_be_enabled()
        page.get_by_role("button", name="Pictures (PNG)").wait_for()  # drawn last
    assert rebuilt(first) == rebuilt(second)


def test_the_replay_shows_an_earlier_picture(visit: Any) -> None:
    page = visit(SHORT)
    run(page)
    slider = page.get_by_role("slider")
    slider.wait_for()
    last = rebuilt(page)
    slider.focus()
    slider.press("Home")
    page.wait_for_function("last => document.querySelector('.dl-rebuilt img').src != last", arg=last[0])


def test_examples_set_the_controls_and_the_address_and_back_undoes_it(visit: Any) -> None:
    page = visit()
    page.get_by_role("radio", name="Same label").or_(page.get_by_role("button", name="Same label")).first.click()
    page.wait_for_url("**/?indices=4*")
    page.wait_for_function("document.querySelector('.dl-thumbs figcaption').innerText == 'frog'")
    expect_private(page, ["frog"] * 4)
    page.wait_for_timeout(2500)  # until the address counts as settled
    page.go_back()
    page.wait_for_function("document.querySelector('.dl-thumbs figcaption').innerText == 'cat'")
    expect_private(page, ["cat", "ship", "airplane", "frog"])


def test_a_link_opens_the_scenario_that_its_sender_saw(visit: Any) -> None:
    page = visit("/?dataset=cifar100-samples&labels=rose,rose2,sea&mode=fedavg&local_epochs=3")
    page.get_by_text("labels named 'rose2'").wait_for()  # a class that is none is refused in a sentence

    page = visit("/?dataset=cifar100-samples&labels=rose,sea&mode=fedavg&local_epochs=3&suspense=true")
    expect_private(page, ["private", "private"])
    expect(page.get_by_label("Labels", exact=True)).to_have_value("rose, sea")
    page.get_by_text("Local training").click()
    expect(page.get_by_label("Local epochs")).to_have_value("3")
    page.get_by_text("Hide the private images").click()
    page.wait_for_selector(".dl-thumbs img")
    expect_private(page, ["rose", "sea"])


def test_going_further_takes_a_fused_batch_apart(visit: Any) -> None:
    page = visit("/?indices=4,5,7,19&max_iterations=40")
    run(page)
    headline(page).get_by_text("share a label fused").wait_for()
    page.get_by_role("button", name="Go further").click()
    headline(page).get_by_text("Every pixel of all 4 private images was recovered").wait_for()
    expect(page.locator(".dl-map")).to_have_count(2)
    page.locator(".dl-stages li").nth(2).wait_for()  # at least three, drawn after the headline on a busy machine
    expect(page.get_by_role("button", name="Go further")).to_be_hidden()


# ------------------------------------------------------------------------------------------------ label inference

LABELS = "/label_inference?indices=4,5,7,19&model=lenet64-elu"
STEPS = ("From update to labels", "Every strategy, same update", "How often is it right?")


def points(page: Any) -> int:
    """How many batches the curves are made of so far."""
    return int((page.locator(".dl-progress span").last.inner_text() or "0").split()[0])


def test_every_strategy_is_shown_beside_the_truth_and_told_apart_without_colour(visit: Any) -> None:
    page = visit(LABELS, steps=STEPS)
    headline(page).get_by_text("GradInversion finds 1 of 4 frog").wait_for()
    expect_private(page, ["frog"] * 4)
    expect(page.locator(".dl-steps tbody tr")).to_have_count(5)
    hit, miss = page.locator(".dl-matrix .dl-hit").first, page.locator(".dl-matrix .dl-miss").first
    assert hit.inner_text() == "4" and miss.inner_text() == "1"
    # Told apart without colour: one is round, the other has a broken edge.
    look = "e => [getComputedStyle(e).borderRadius, getComputedStyle(e).borderTopStyle]"
    assert hit.evaluate(look)[0] == "50%" and miss.evaluate(look)[1] == "dashed"
    assert page.locator(".dl-steps").bounding_box()["y"] < 720
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_curves_come_point_by_point_stop_and_outlive_a_reload(visit: Any) -> None:
    page = visit(LABELS + "&draws=50", steps=STEPS)
    headline(page).get_by_text("GradInversion finds 1 of 4 frog").wait_for()
    page.get_by_text("Press Start").wait_for()
    page.get_by_role("button", name="Start").click()
    page.get_by_text("of 250 batches").wait_for()
    seen = points(page)
    while points(page) == seen:  # they come while the visitor watches
        page.wait_for_timeout(100)
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped: press Start to go on").wait_for()
    kept = points(page)
    assert 0 < kept < 250
    page.reload()
    page.get_by_text("Stopped: press Start to go on").wait_for()
    assert points(page) == kept
    expect(page.get_by_role("button", name="Start")).to_be_enabled()


def test_going_to_another_page_and_back_keeps_both_in_order(visit: Any) -> None:
    page = visit(LABELS, steps=STEPS)
    headline(page).get_by_text("GradInversion finds 1 of 4 frog").wait_for()
    page.get_by_role("link", name="Live attack").click()
    page.wait_for_selector(".dl-rebuilt .dl-tile")
    page.wait_for_function("document.querySelector('.dl-thumbs figcaption').innerText == 'cat'")
    page.get_by_role("button", name="Run the attack").wait_for()
    page.wait_for_timeout(2500)  # until the address counts as settled
    page.go_back()
    headline(page).get_by_text("GradInversion finds 1 of 4 frog").wait_for()
    expect_private(page, ["frog"] * 4)


@pytest.fixture
def fresh_app(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of an app that nobody has visited yet, and its run database."""
    database = tmp_path / "runs.sqlite"
    with running_app(database) as url:
        yield url, database


def test_the_first_visit_after_a_start_may_be_a_link_to_a_comparison(chrome: Any, fresh_app: Any) -> None:
    url, _ = fresh_app
    page = chrome.new_context(viewport={"width": 1280, "height": 720}).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{url}/one_wrong_label?indices=0,4&max_iterations=5")
    expect(page.locator(".dl-sides section").first.locator("img")).to_have_count(2)  # the images of the query
    expect(page.get_by_role("link", name="Live attack")).to_be_visible()  # drawn by app.py
    assert page.locator(".dl-sides").evaluate("e => getComputedStyle(e).display") == "grid"  # so is the style sheet
    page.locator("button:has-text('Run both')").click()
    expect(page.get_by_role("slider")).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
    page.context.close()


def test_the_first_visit_after_a_start_may_be_a_link_to_a_run(chrome: Any, fresh_app: Any) -> None:
    url, database = fresh_app
    store = Store(f"sqlite:///{database}")
    run_id = store.create(Scenario(indices=(0, 4), max_iterations=3), this_process())
    store.start(run_id)
    store.append(run_id, attack(Scenario(indices=(0, 4), max_iterations=3)))
    store.finish(run_id, "finished")
    page = chrome.new_context(viewport={"width": 1280, "height": 720}).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{url}/?run={run_id}")
    expect(page.locator(".dl-rebuilt img")).to_have_count(2)
    expect(page.get_by_role("button", name="Pictures (PNG)")).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
    page.context.close()


# ------------------------------------------------------------------------------------------------- the findings


@pytest.fixture
def comparison(chrome: Any, app_url: str) -> Iterator[Any]:
    """Open a page of two runs side by side, ready to be started."""
    pages = []

    def opened(link: str) -> Any:
        context = chrome.new_context(viewport={"width": 1280, "height": 720})
        pages.append(context.new_page())
        pages[-1].set_default_timeout(PATIENCE)
        pages[-1].goto(app_url + link)
        pages[-1].wait_for_selector(".dl-sides img")
        return pages[-1]

    yield opened
    for page in pages:
        page.context.close()


def panel(page: Any, title: str) -> Any:
    return page.locator(".dl-sides section").filter(has_text=title)


def test_one_wrong_label_streams_beside_the_right_ones(comparison: Any) -> None:
    page = comparison("/one_wrong_label?indices=0,4&max_iterations=150")
    page.get_by_role("button", name="Run both").click()
    wrong, right = panel(page, "One label wrong"), panel(page, "Every label right")
    wrong.locator(".dl-rebuilt img").first.wait_for()
    assert right.locator(".dl-rebuilt img").count() == 2, "both are shown from the first picture on"
    headline(page).get_by_text("One wrong label cost the batch").wait_for()
    expect(wrong.locator(".dl-wrong")).to_have_count(1)
    expect(right.locator(".dl-wrong")).to_have_count(0)
    expect(page).to_have_url(re.compile(r".*/one_wrong_label\?duel=[\w-]+$"))
    page.get_by_role("slider").last.wait_for()  # drawn with the last pictures
    last = rebuilt(page)
    page.reload()
    headline(page).get_by_text("One wrong label cost the batch").wait_for()
    page.get_by_role("slider").last.wait_for()
    assert rebuilt(page) == last

    page.get_by_role("slider").last.focus()
    page.get_by_role("slider").last.press("Home")
    page.wait_for_function("last => document.querySelector('.dl-aside') && "
                           "document.querySelectorAll('.dl-rebuilt img')[3].src != last", arg=last[3])  # fmt: skip
    page.get_by_role("button", name="Sweep").click()
    headline(page).get_by_text("Mean PSNR with 0 to 2 wrong labels").wait_for()


def test_fused_pictures_stand_beside_their_mean_and_come_apart(comparison: Any) -> None:
    page = comparison("/same_label_fusion?indices=0,4&max_iterations=40")
    page.get_by_role("button", name="Run both").click()
    headline(page).get_by_text("Sharing a label").wait_for()
    page.get_by_text("mean of 2 of class frog").wait_for()
    page.get_by_role("button", name="Un-fuse").click()
    headline(page).get_by_text("The same update, taken apart").wait_for()
    expect(page.locator(".dl-map")).to_have_count(2)
    page.reload()
    headline(page).get_by_text("The same update, taken apart").wait_for()


def test_gradinversion_reads_a_label_too_few(comparison: Any) -> None:
    page = comparison("/gradinversion?indices=0,1,4&max_iterations=10")
    page.get_by_role("button", name="Run both").click()
    headline(page).get_by_text("GradInversion found 2 of 3 labels").wait_for()
    panel(page, "General Deep Leakage").get_by_text("3 of 3 right").wait_for()
    page.get_by_role("link", name="Live attack").click()  # and back to the page for single runs
    page.get_by_role("button", name="Run the attack").wait_for()
    expect(page.get_by_label("Bias in the last layer")).to_be_checked()
