"""Same-label fusion: images that share a label come back as one blend, which the exact attack takes apart."""

from ui import shell

shell.within_app()

from ui.comparisons import fusion
from ui.comparisons.frame import ComparisonPage

ComparisonPage(
    "same-label-fusion",
    fusion.CHOICE,
    fusion.columns,
    fusion.sentence,
    invitation="Several private images share a label. Does the update still tell them apart?",
    topic="fusion",
    recordings=fusion.RECORDINGS,
    follow_ups=(fusion.SEPARATE, fusion.SCATTER),
    remark="“To mean” is the PSNR between a picture and the mean of the private images of its label. “Gain” is the "
    "PSNR that separation adds. “Start them apart” brings a slider, “Average”: it mixes the pictures of one label "
    "until each is their average.",
).draw()
