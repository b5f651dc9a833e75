"""The guided tour: its steps over the pages, by link, and how it is left and resumed."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from tests.helpers import ROOT, app_page, checked, errors, page_html
from ui.tour import STEPS

LAST = len(STEPS)


def at(number: int) -> AppTest:
    """The page of a step, opened by its link."""
    step = STEPS[number - 1]
    return app_page(step.page, tour=str(number), **step.query)


def links(app: AppTest) -> list[dict[str, list[str]]]:
    """The parameters of the addresses that the bar leads to, in its order."""
    queries = [parse_qs(link.proto.query_string) for link in app.get("page_link")]
    return [query for query in queries if "tour" in query]  # the header's links have no parameters


def touring(app: AppTest) -> bool:
    return "dl-tour" in page_html(app)


@pytest.mark.parametrize("number", range(1, LAST + 1))
def test_every_step_says_its_sentence_and_leads_on_and_back(number: int) -> None:
    app = at(number)
    assert f"<b>{number}/{LAST}</b>" in page_html(app)
    assert (ROOT / "pages" / f"{STEPS[number - 1].page}.py").is_file()
    neighbours = [n for n in (number - 1, number + 1) if 1 <= n <= LAST]
    expected = [{"tour": [str(n)]} | {name: [value] for name, value in STEPS[n - 1].query.items()} for n in neighbours]
    assert links(app) == expected
    assert not errors(app)


def test_a_step_survives_what_its_page_writes_into_the_address() -> None:
    app = app_page("live_attack", tour="1", indices="4,5")
    assert app.query_params["tour"] == "1"
    assert app.query_params["indices"] == "4,5"
    assert touring(app)


@pytest.mark.parametrize("number", ["0", "7", "one", "-1", ""])
def test_there_is_no_bar_for_a_step_that_does_not_exist(number: str) -> None:
    assert not touring(app_page("how_it_works", tour=number))


def test_a_tour_that_was_left_is_resumed_where_it_was() -> None:
    app = at(3)
    checked(app.button(key="tour-leave").click().run())
    assert not touring(app)
    assert "tour" not in app.query_params
    resumed = checked(app.switch_page("pages/tour.py").run())
    assert resumed.query_params["tour"] == "3"


def test_after_its_end_the_tour_begins_anew() -> None:
    app = at(LAST)
    checked(app.button(key="tour-leave").click().run())
    again = checked(app.switch_page("pages/tour.py").run())
    assert again.query_params["tour"] == "1"
