"""GradInversion beside General Deep Leakage on the same update: labels, images, and how good they are."""

from ui import shell

shell.within_app()

from ui.comparisons import gradinversion
from ui.comparisons.frame import ComparisonPage

ComparisonPage(
    "gradinversion",
    gradinversion.CHOICE,
    gradinversion.columns,
    gradinversion.sentence,
    invitation="One update, two attacks: some of its images share a label.",
    topic="gradinversion",
    recordings="gradinversion",
    follow_ups=(gradinversion.SWEEP,),
    remark="GradInversion (Yin et al. 2021) is reimplemented here, as its paper has no public code: column minima for "
    "the labels, squared distance, smoothness, L2, group consistency of three starts, and BatchNorm statistics where "
    "the network is trained and has any. Image registration is left out.",
).draw()
