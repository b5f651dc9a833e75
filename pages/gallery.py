"""Gallery: recorded attacks that play at once, and recordings from files."""

from ui import shell

shell.within_app()

from ui import gallery, messages
from ui.top_row import top_row
from ui.why import topic_of, why

INVITATION = "Recorded attacks, ready to play. Pick one: nothing is computed."

view = gallery.opened()
row = top_row()
messages.errors([view.problem] if view.problem else [])
if view.recording is None:
    with row.slot:
        gallery.open_file()
    row.say(INVITATION)
    gallery.grid()
else:
    with row.slot:
        gallery.buttons(view.recording)
    row.say(view.recording.sentence)
    with row.why:
        why(topic_of(view.recording.runs[-1].scenario, view.recording.runs[-1].finished))
    gallery.stage(view.recording)
    gallery.others(view.recording.name if view.shipped else "")
    gallery.details(view.recording)
