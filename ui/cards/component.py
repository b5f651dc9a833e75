"""The cards as a Streamlit component."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from ui import scripts
from ui.rendering import base64_of, unbroken

FOLDER = Path(__file__).parent
THUMBNAILS = 4  # pictures on one card

_cards = st.components.v2.component(
    "deepleak_cards",
    css=(FOLDER / "cards.css").read_text(encoding="utf-8"),
    js=scripts.joined(FOLDER.parent / "player" / "dom.js", FOLDER / "cards.js"),
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """One card: a short title, one to four thumbnails as PNG or WebP bytes, and a note below the title."""

    id: str
    title: str
    pictures: tuple[bytes, ...]
    note: str = ""


def cards(items: Sequence[Card], *, key: str, chosen: str | None = None, disabled: bool = False) -> str | None:
    """Draw the cards in one row that scrolls sideways where it must; the id of the card just picked.

    `chosen` is the id of the card whose content the page shows.
    """
    data = {"cards": [_values(card) for card in items], "chosen": chosen, "disabled": disabled}
    picked = _cards(key=key, data=data, on_picked_change=scripts.ignore).get("picked")
    return picked if picked in {card.id for card in items} else None


def _values(card: Card) -> dict[str, Any]:
    pictures = [base64_of(picture) for picture in card.pictures[:THUMBNAILS]]
    return {"id": card.id, "title": unbroken(card.title), "note": unbroken(card.note), "pictures": pictures}
