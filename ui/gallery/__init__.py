"""The widgets of the page Gallery: recordings as cards, one of them played, archives from and to files."""

from ui.gallery.actions import buttons, open_file
from ui.gallery.cards import grid, others
from ui.gallery.choice import Opened, opened
from ui.gallery.stage import details, stage

__all__ = ["Opened", "buttons", "details", "grid", "open_file", "opened", "others", "stage"]
