"""The widgets of the page Live attack."""

from ui.live.steps import attacker, client_and_server, curves
from ui.live.view import View, opened, publish, top

__all__ = ["View", "attacker", "client_and_server", "curves", "opened", "publish", "top"]
