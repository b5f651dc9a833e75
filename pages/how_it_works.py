"""How it works: why a gradient contains images, what the attacks need, and what helps, in three levels."""

from ui import shell

shell.within_app()

from ui.how_it_works import view
from ui.how_it_works.levels import MATHEMATICS, WORDS
from ui.top_row import top_row

row = top_row()
row.say("Why a shared gradient gives images away, and what helps against it.")
with row.slot:
    level = view.level()
if level == "picture":
    view.pictures()
elif level == "words":
    view.sections(level, WORDS)
    view.questions()
else:
    view.sections(level, MATHEMATICS)
view.end()
