"""Draw the moving picture of the README from a real run: `python -m benchmarks.moving_picture`.

Private images above, their reconstructions below as the attack goes on, in the time that it took.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from benchmarks import outcomes
from deepleak_core.events import GroundTruthKnown, Images, Prepared, Snapshot, from_png, in_private_order
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario

PICTURE = Path(__file__).parent.parent / "assets" / "attack.webp"
LARGEST = 1_500_000  # bytes
FRAMES = 60
SCALE, GAP, LINE = 4, 12, 26  # pixels of the picture for one of an image; between images; height of a line of text
SIDE = 96  # left of the rows, for their names
SHORTEST, LAST = 40, 3000  # milliseconds of a frame; of the final one
INK, PAPER = (18, 22, 28), (255, 255, 255)


def main() -> None:
    """Run the attack, draw its snapshots, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--indices", default="0,1,3,4", help="images of the bundled CIFAR-10 samples")
    parser.add_argument("--attack", default="general-deep-leakage")
    parser.add_argument("--iterations", type=int, default=160, help="after which the run ends (default: 160)")
    parser.add_argument("--out", type=Path, default=PICTURE, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(cpu_threads())
    outcomes.attack(Scenario(max_iterations=2))  # loads code, so that the run itself starts without a pause
    scenario = Scenario(indices=options.indices, attack=options.attack, max_iterations=options.iterations)
    outcome = outcomes.attack(scenario)
    snapshots = thinned(outcome.snapshots)
    pictures = list(frames(outcome, snapshots))
    pauses = [after.seconds - before.seconds for before, after in pairwise(snapshots)]
    durations = [max(SHORTEST, round(1000 * pause)) for pause in pauses] + [LAST]
    first, *others = pictures
    first.save(options.out, save_all=True, append_images=others, duration=durations, loop=0, lossless=True, method=6)
    size = options.out.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{options.out} has {size / 1e6:.1f} MB; the README takes {LARGEST / 1e6:.1f} at most.")
    print(f"{options.out.name}: {len(pictures)} frames, {size / 1e3:.0f} kB")


def thinned(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """At most `FRAMES` of them, evenly spaced, the first and the last included."""
    places = np.linspace(0, len(snapshots) - 1, min(FRAMES, len(snapshots))).round().astype(int)
    return [snapshots[place] for place in places]


def frames(outcome: outcomes.Outcome, snapshots: Sequence[Snapshot]) -> Iterator[Image.Image]:
    """One picture for each snapshot, in the order of the private images."""
    truth, prepared = outcome.last(GroundTruthKnown), outcome.last(Prepared)
    private = [from_png(picture) for picture in truth.pictures]
    names = [prepared.class_names[label] for label in truth.labels]
    for snapshot in snapshots:
        rebuilt = in_private_order(list(snapshot.images), snapshot.score)
        yield frame(private, rebuilt, names, caption(snapshot))


def caption(snapshot: Snapshot) -> str:
    """Where the attack stands, in one line."""
    return (
        f"iteration {snapshot.step}    {snapshot.seconds:.1f} s    "
        f"mean PSNR {outcomes.score_of(snapshot).mean_psnr:.0f} dB"
    )


def frame(private: Sequence[Images], rebuilt: Sequence[Images], names: Sequence[str], words: str) -> Image.Image:
    """Private images above, reconstructions below, class names over them and a line of text under them."""
    side = SCALE * private[0].shape[-1]
    step = side + GAP
    width, height = SIDE + step * len(private), 2 * LINE + 2 * step
    picture = Image.new("RGB", (width, height), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(17)
    for row, (name, images) in enumerate((("private", private), ("rebuilt", rebuilt))):
        top = LINE + row * step
        draw.text((SIDE - GAP, top + side // 2), name, INK, font, anchor="rm")
        for column, image in enumerate(images):
            picture.paste(enlarged(image), (SIDE + column * step, top))
    for column, name in enumerate(names):
        draw.text((SIDE + column * step + side // 2, LINE // 2), name, INK, font, anchor="mm")
    draw.text((SIDE, height - LINE // 2 - GAP // 2), words, INK, font, anchor="lm")
    return picture


def enlarged(image: Images) -> Image.Image:
    """An image (3, H, W) in [0, 1] with `SCALE` x `SCALE` pixels for each of its own."""
    pixels = (image * 255).round().astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(pixels.repeat(SCALE, 0).repeat(SCALE, 1))


if __name__ == "__main__":
    main()
