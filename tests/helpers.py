"""What several test modules share."""

from __future__ import annotations

import re
from pathlib import Path

from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parent.parent
PATIENCE = 120  # seconds that a page test waits for a worker


def app_page(name: str = "live_attack", **query: str) -> AppTest:
    """The page pages/`name`.py inside the whole app, opened by a link as a fresh visitor."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE)
    if name == "how_it_works":  # its address differs from its file name, so the app has to be asked first
        app.run()
    app.switch_page(f"pages/{name}.py")
    for setting, value in query.items():
        app.query_params[setting] = value
    return checked(app.run())


def checked(app: AppTest) -> AppTest:
    """The same page; fails where its last run raised an exception."""
    assert not app.exception, app.exception[0].value
    return app


def page_html(app: AppTest) -> str:
    """All HTML on a page but the style sheet, which names every class."""
    return "\n".join(piece.value for piece in app.html if not piece.value.startswith("<style"))


def code_blocks(page: Path, language: str = "") -> list[str]:
    """The fenced code blocks of a Markdown page in one language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [code for name, code in fenced if name == language]
