"""The controls of a scenario."""

from ui.controls.scenario import check, draw, draw_few, draw_update, fill

__all__ = ["check", "draw", "draw_few", "draw_update", "fill"]
