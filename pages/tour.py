"""The guided tour: goes to the step where the visitor left it, at first to the first."""

from ui import shell

shell.within_app()

from ui import tour

tour.enter()
