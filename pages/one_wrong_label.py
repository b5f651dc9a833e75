"""One wrong label: the same update attacked twice at once, with all labels correct and with one of them wrong."""

from ui import shell

shell.within_app()

from ui.comparisons import wrong_label
from ui.comparisons.frame import ComparisonPage

ComparisonPage(
    "one-wrong-label",
    wrong_label.CHOICE,
    wrong_label.columns,
    wrong_label.sentence,
    invitation="Make one label wrong: pick another class below a private image.",
    running="The same update is attacked twice: with all labels correct, and with one wrong.",
    topic="wrong-label",
    recordings="wrong-label",
    follow_ups=(wrong_label.REPAIR, wrong_label.SWEEP),
    below=wrong_label.below,
).draw()
