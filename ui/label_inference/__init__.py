"""The widgets of the page Label inference."""

from ui.label_inference.view import View, accuracy, answers, opened, publish, top

__all__ = ["View", "accuracy", "answers", "opened", "publish", "top"]
