"""The document that a browser loads first has the server's address, the style sheet and the header."""

from __future__ import annotations

from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from starlette.routing import Match
from streamlit.runtime.pages_manager import PagesManager

from benchmarks.browser import running_app
from tests.helpers import ROOT
from ui import health, server


def answered(path: str) -> bool:
    """Whether a path is answered with the document, not left to Streamlit."""
    scope = {"type": "http", "method": "GET", "path": path}
    answers = (route.endpoint for route in server.routes() if route.matches(scope)[0] is Match.FULL)
    return next(answers, None) not in (None, health.answer)


def test_additions_stand_in_the_document_of_streamlit() -> None:
    html, own = server.document(), server.DOCUMENT.read_text()
    assert html.index("BACKEND_BASE_URL") < html.index("</head>")
    assert (ROOT / "assets/style.css").read_text() in html
    assert html.index("<body>") < html.index('class="dl-shell"') < html.index('id="root"')
    assert len(html) > len(own)


@pytest.mark.parametrize("path", ["/", "/label_inference", "/how_it_works", "/no_such_page"])
def test_addresses_of_pages_are_answered_with_it(path: str) -> None:
    assert answered(path)


@pytest.mark.parametrize("path", ["/favicon.png", "/static/js/index.js", "/_stcore/health", "/health", "/media/a.png"])
def test_files_and_paths_of_streamlit_are_not(path: str) -> None:
    assert not answered(path)


def test_the_folder_of_pages_is_no_app_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PagesManager, "uses_pages_directory", None)
    server.announce_navigation()
    assert PagesManager("app.py").uses_pages_directory is False


def test_a_server_that_is_started_plainly_is_reached_from_this_machine_only(tmp_path: Path) -> None:
    with running_app(tmp_path / "runs.sqlite") as url:
        port = urlsplit(url).port
        listening = [entry.laddr for entry in psutil.net_connections("inet") if entry.status == psutil.CONN_LISTEN]
        assert [address.ip for address in listening if address.port == port] == ["127.0.0.1"]


def test_no_connection_on_which_its_state_is_polled_stays_open(tmp_path: Path) -> None:
    with running_app(tmp_path / "runs.sqlite") as url:
        polled = {"/_stcore/health": True, "/_stcore/host-config": True, "/health": True, "/": False}
        for path, closed in polled.items():
            connection = HTTPConnection(urlsplit(url).netloc)
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            assert (connection.sock is None) == closed
            connection.close()
