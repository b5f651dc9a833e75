"""Who is visiting: a random token that a browser keeps in a cookie, so that visitors find their own runs again.

Without cookies the token lasts as long as the session.
"""

from __future__ import annotations

import re
import secrets
from typing import cast

import streamlit as st

COOKIE = "deepleak_visitor"
DAYS = 180  # for which a browser keeps the token
TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")

# The first of several tabs that open at once decides: the others find its cookie with their next request.
KEEP = """<script>
if (!document.cookie.includes("{name}=")) {{
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = "{name}={token}; path=/; max-age={seconds}; samesite=lax" + secure;
}}
</script>"""


def token() -> str:
    """The token of this visitor: the one in the cookie, else a new one for this session."""
    if "visitor" not in st.session_state:
        st.session_state.visitor = _sent() or secrets.token_urlsafe(16)
    return cast(str, st.session_state.visitor)


def remember() -> None:
    """Have the browser keep the token, unless it has one already. Draws nothing that can be seen."""
    with st.container(key="visitor"):
        if not _sent():
            script = KEEP.format(name=COOKIE, token=token(), seconds=DAYS * 24 * 3600)
            st.html(script, unsafe_allow_javascript=True)


def _sent() -> str:
    """The token that the browser sent, empty where it sent none or something else."""
    sent = str(st.context.cookies.get(COOKIE, ""))
    return sent if TOKEN.fullmatch(sent) else ""
