"""The guided tour: a bar under the header that leads over the pages in a few steps."""

from ui.tour.bar import bar, enter
from ui.tour.steps import STEPS, Step

__all__ = ["STEPS", "Step", "bar", "enter"]
