"""A row of cards with thumbnails, of which a visitor picks one."""

from ui.cards.component import Card as Card
from ui.cards.component import cards as cards
