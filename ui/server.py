"""What the web server does beside Streamlit: the first document, moments of runs, its health, log and end.

The document is Streamlit's own, at the address of every page, with a cookie (see `visitor`) and four additions:

- The address of the server. Streamlit's front end otherwise tries the page's own path first, and every visit by a
  page's link makes two requests that are answered 404.
- The style sheet, so that nothing is ever drawn without it.
- The header with the logo, until Streamlit has drawn its own.
- A script that marks the link of the page that is shown.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import streamlit
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.config import get_option
from streamlit.starlette import App

from deepleak_core.environment import LOG
from deepleak_core.runs.log import FORMS, configure
from ui import health, stream, visitor

logger = logging.getLogger(__name__)

DOCUMENT = Path(streamlit.__file__).parent / "static" / "index.html"
ASSETS = Path(__file__).parent.parent / "assets"
POLLED = ("/health", "/host-config")  # ends of paths that browsers and monitors ask for again and again
# Relative, as the document's own links to scripts are, so that it holds below any path of a reverse proxy.
ADDRESS = '<script>window.__streamlit = {BACKEND_BASE_URL: new URL(".", location.href).href}</script>'


def document() -> str:
    """The document with its additions."""
    logo = b64encode((ASSETS / "logo.svg").read_bytes()).decode()
    style, script = (ASSETS / "style.css").read_text(), (ASSETS / "header.js").read_text()
    head, end_of_head, rest = DOCUMENT.read_text().partition("</head>")
    start, body, rest = rest.partition("<body>")
    shell = f'<div class="dl-shell"><img src="data:image/svg+xml;base64,{logo}" alt="DeepLeak"></div>'
    # In the body: Streamlit appends rules of equal weight to the head, and the later ones win.
    return f"{head}{ADDRESS}{end_of_head}{start}{body}<style>{style}</style>{shell}<script>{script}</script>{rest}"


async def _answer(request: Request) -> HTMLResponse:
    return visitor.remembering(request, HTMLResponse(document(), headers={"Cache-Control": "no-cache, private"}))


class _PageName(Convertor[str]):
    """The path of a page: one name without a dot, or nothing; files and Streamlit's own paths are left to it."""

    regex = r"[^/.]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


def routes() -> list[BaseRoute]:
    """What the server answers before Streamlit does: its health, moments of runs, and the addresses of pages."""
    register_url_convertor("page", _PageName())
    base = str(get_option("server.baseUrlPath")).strip("/")
    root = f"/{base}/" if base else "/"
    return [
        Route(f"{root}health", health.answer),
        WebSocketRoute(f"{root}moments/{{run}}", stream.answer),
        Route(f"{root}{{page:page}}", _answer),
    ]


class ClosesPolled:
    """Middleware that closes a connection once it has answered a path that is polled.

    A server that ends waits for its connections. A page that has lost its server asks every few seconds whether it is
    back; on a connection that stays open, these questions would be answered, and the server would never end.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, with a header where the path is polled."""

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        polled = scope["type"] == "http" and scope["path"].endswith(POLLED)
        await self._app(scope, receive, closing if polled else send)


def announce_navigation() -> None:
    """Tell Streamlit, before the first visit, that the folder `pages` is not an app of its own.

    It learns that from `st.navigation` otherwise: the first visitor after a start would see a sidebar with the names of
    the files, and at a link "Page not found". Where a later version of Streamlit works otherwise, `shell.within_app`
    still draws the right page.
    """
    with suppress(ImportError):
        from streamlit.runtime.pages_manager import PagesManager

        PagesManager.uses_pages_directory = False


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[None]:
    """Begin the log when the server starts, and close the engine when it ends.

    The signal that ends it ends the process before Python's own exit handlers run.
    """
    form = LOG.value().strip().lower() or FORMS[0]
    configure(form if form in FORMS else FORMS[0])
    if form not in FORMS:
        logger.warning("DEEPLEAK_LOG is neither text nor json; the log is written as %s.", FORMS[0])
    yield
    close = getattr(sys.modules.get("ui.backend"), "close", None)  # None where nobody has visited yet
    if close is not None:
        await asyncio.to_thread(close)
