"""Same-label fusion: a batch of different classes beside one whose images share a label, then the latter separated."""

from ui import shell

shell.within_app()

from ui.comparisons import fusion
from ui.comparisons.frame import comparison_page

comparison_page(
    "same-label-fusion",
    fusion.CHOICE,
    fusion.columns,
    fusion.sentence,
    invitation="One attack, two batches: all images of different classes, or several of one class.",
    topic="fusion",
    recordings="fusion",
    follow_ups=(fusion.SEPARATE,),
)
