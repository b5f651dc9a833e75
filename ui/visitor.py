"""Who is visiting: a random token that a browser keeps in a cookie, so that visitors find their own runs again.

The server sets the cookie with the document, out of reach of scripts; without cookies a token lasts as long as the
session. Only its hash leaves this module, as the identity of the visitor: whoever reads it, in the store or anywhere
else, cannot make the token from it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import TypeVar, cast

import streamlit as st
from starlette.requests import Request
from starlette.responses import Response

COOKIE = "deepleak_visitor"
DAYS = 180  # after the last visit for which a browser keeps the token
TOKEN_BYTES = 16
TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")  # so many bytes as text

Answer = TypeVar("Answer", bound=Response)


def identity() -> str:
    """The hash of the token that this visitor's browser has sent, else of a new one for this session."""
    if "visitor" not in st.session_state:
        token = _sent(st.context.cookies) or secrets.token_urlsafe(TOKEN_BYTES)
        st.session_state.visitor = hashlib.sha256(token.encode()).hexdigest()
    return cast(str, st.session_state.visitor)


def remembering(request: Request, answer: Answer) -> Answer:
    """An answer that has the browser keep its token, or a new one where it has sent none.

    Lax: a link on another site still brings the token along, anything else from there does not.
    """
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    token = _sent(request.cookies) or secrets.token_urlsafe(TOKEN_BYTES)
    answer.set_cookie(COOKIE, token, max_age=DAYS * 24 * 3600, httponly=True, samesite="lax", secure=secure)
    return answer


def _sent(cookies: Mapping[str, str]) -> str:
    """The token among cookies, empty where there is none or something else."""
    sent = str(cookies.get(COOKIE, ""))
    return sent if TOKEN.fullmatch(sent) else ""
