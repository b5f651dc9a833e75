"""What Streamlit has no widget for, as HTML text: picture grids, the update's layers, the label table, progress.

Every function maps plain values to one self-contained piece, styled by `assets/style.css` alone. A grid is one
piece, so that all its pictures change in the same instant.
"""

from __future__ import annotations

import html
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence

from deepleak_core.events import FeaturesSeparated, LabelsInferred, Stage, UpdateShared
from deepleak_core.labels.wrong_labels import instead_of

SHOWN = 64  # pictures of a larger batch that are drawn
DOUBTFUL = 0.8  # confidence below which a class is named as uncertain
ROWS = 12  # classes of a larger vocabulary that are listed
CLEAR, PHOTOGRAPH = 20.0, 30.0  # dB from which a picture is recognisable, from which it is like a photograph


ALIKE = "How alike any two images' features are: full colour means the same."
STEPS = {1: "What the client keeps", 2: "What the server sees", 3: "What the attacker rebuilds"}


def step(number: int, *content: str) -> str:
    """One of the three steps: its title and what belongs below."""
    return titled(number, STEPS[number], *content)


def titled(number: int, title: str, *content: str) -> str:
    """A numbered heading and what belongs below."""
    return f'<section><h3 class="dl-step"><span>{number}</span>{html.escape(title)}</h3>{"".join(content)}</section>'


def headline(sentence: str, link: str = "") -> str:
    """The one sentence at the top of the page, in the room of two lines; `link` is HTML that follows it, small."""
    return f'<p class="dl-headline"><span>{html.escape(sentence)} <small>{link}</small></span></p>'


def find_section() -> str:
    """Goes to the section that the address names once more, when formulas and charts above it have taken their room."""
    return (
        "<script>const named = document.getElementById(location.hash.slice(1));"
        "if (named) setTimeout(() => named.scrollIntoView(), 1200);</script>"
    )


def note(words: str) -> str:
    """A small remark below the thing it speaks of; it keeps its room when there is nothing to say."""
    return f'<p class="dl-note">{html.escape(words) or "&nbsp;"}</p>'


# ------------------------------------------------------------------------------------------------- pictures


def thumbnails(pictures: Sequence[bytes], titles: Sequence[str]) -> str:
    """The private images, small, each with its label."""
    cells = []
    for picture, title in zip(pictures[:SHOWN], titles, strict=False):
        words = html.escape(title)
        cells.append(f'<figure>{_image(picture, title)}<figcaption title="{words}">{words}</figcaption></figure>')
    return _grid("dl-thumbs", _thumb_columns(len(pictures)), cells, len(pictures))


def hidden(count: int) -> str:
    """As many covered tiles as there are private images, in the room of `thumbnails`."""
    cells = ["<figure><div class='dl-tile'>?</div><figcaption>private</figcaption></figure>"] * min(count, SHOWN)
    return _grid("dl-thumbs", _thumb_columns(count), cells, count)


def originals(pictures: Sequence[bytes], titles: Sequence[str]) -> str:
    """The private images in the room of `rebuilt`, to be held against them."""
    cells = [
        f"<figure>{_image(picture, title)}<figcaption>{html.escape(title)}</figcaption></figure>"
        for picture, title in zip(pictures[:SHOWN], titles, strict=False)
    ]
    return _grid("dl-rebuilt", _columns(len(pictures)), cells, len(pictures))


def rebuilt(
    pictures: Sequence[bytes],
    titles: Sequence[str],
    psnr: Sequence[float],
    wrong: Sequence[bool] | None = None,
    asides: Sequence[str] = (),
) -> str:
    """The attacker's pictures, large, each with the label assumed for it and its PSNR in dB; `asides` stand below."""
    cells = []
    for i, (picture, title, quality) in enumerate(zip(pictures[:SHOWN], titles, psnr, strict=False)):
        mark = ' class="dl-wrong" title="not the label of any private image"' if wrong and wrong[i] else ""
        level = "photo" if quality >= PHOTOGRAPH else "clear" if quality >= CLEAR else "poor"
        caption = f"<span{mark}>{html.escape(title)}</span><b class='dl-{level}'>{quality:.1f}</b>"
        image = _image(picture, f"rebuilt image {i + 1}, {quality:.1f} dB")
        aside = f'<p class="dl-aside">{html.escape(asides[i])}</p>' if asides else ""
        cells.append(f"<figure>{image}<figcaption>{caption}</figcaption>{aside}</figure>")
    return _grid("dl-rebuilt", _columns(len(pictures)), cells, len(pictures))


def nothing_rebuilt(count: int) -> str:
    """Empty tiles in the room of `rebuilt`."""
    cells = ["<figure><div class='dl-tile'>?</div><figcaption>&nbsp;</figcaption></figure>"] * min(count, SHOWN)
    return _grid("dl-rebuilt", _columns(count), cells, count)


def sheets(pictures: Mapping[str, bytes]) -> str:
    """Pictures side by side, each by the words below it; more than four in rows of three."""
    cells = [
        f"<figure>{_image(picture, words)}<figcaption>{html.escape(words)}</figcaption></figure>"
        for words, picture in pictures.items()
    ]
    return _grid("dl-sheets", len(cells) if len(cells) <= 4 else 3, cells, len(cells))


def caption(words: str) -> str:
    """What a figure shows, below it."""
    return f'<p class="dl-caption">{html.escape(words)}</p>'


def _image(picture: bytes, alt: str) -> str:
    data = b64encode(picture).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" decoding="sync">'


def _grid(kind: str, columns: int, cells: Sequence[str], total: int) -> str:
    rows = math.ceil(len(cells) / columns)
    more = f'<p class="dl-note">and {total - SHOWN} more</p>' if total > SHOWN else ""
    return f'<div class="dl-grid {kind}" style="--columns:{columns};--rows:{rows}">{"".join(cells)}</div>{more}'


def _columns(count: int) -> int:
    """Columns of the large grid: as square as it gets.

    >>> [_columns(count) for count in (1, 2, 4, 8, 64)]
    [1, 2, 2, 3, 8]
    """
    return math.ceil(math.sqrt(min(count, SHOWN)))


def _thumb_columns(count: int) -> int:
    return max(4, min(count, 8)) if count > 4 else 4


# ------------------------------------------------------------------------------------------------ side by side


def side_by_side(panels: Sequence[str], weights: Sequence[int]) -> str:
    """Panels next to each other, as wide as their weights say."""
    columns = " ".join(f"minmax(0, {weight}fr)" for weight in weights)
    return f'<div class="dl-sides" style="grid-template-columns:{columns}">{"".join(panels)}</div>'


def panel(title: str, *content: str) -> str:
    """One of the panels: its title, if any, and what belongs below."""
    head = f'<h3 class="dl-side">{html.escape(title)}</h3>' if title else ""
    return f"<section>{head}{''.join(content)}</section>"


def figure(value: str, words: str) -> str:
    """One number to be read from the last row."""
    return f'<p class="dl-figure"><b>{html.escape(value)}</b><br>{html.escape(words)}</p>'


def mean(picture: bytes, name: str, count: int) -> str:
    """The mean image of a class, large."""
    words = f"mean of {count} of class {name}"
    return f'<figure class="dl-mean">{_image(picture, words)}<figcaption>{html.escape(words)}</figcaption></figure>'


def told_labels(labels: Sequence[str], right: int | None = None) -> str:
    """Labels in one line, and how many of them are right where that is a question."""
    names = html.escape(", ".join(labels)) or "&nbsp;"
    verdict = "" if right is None else f"{right} of {len(labels)} right {'✓' if right == len(labels) else '✗'}"
    return f'<p class="dl-told" title="{names}"><span>{names}</span><b>{verdict}</b></p>'


# ------------------------------------------------------------------------------------------- what the server sees


def nothing_shared(class_names: Sequence[str]) -> str:
    """Step 2 before there is an update, in the room that it will take."""
    rows = "".join(_row(name, "", "·", ["·"], "·") for name in class_names[:ROWS])
    return (
        '<p class="dl-update">Nothing yet: neither images nor labels.</p><div class="dl-strip"></div>'
        f"{note('')}{_table(rows)}"
    )


def update(shared: UpdateShared) -> str:
    """Size of the update in words, and the norm of each layer's part as a strip of bars."""
    steps = f"{shared.local_steps} local step{'s' if shared.local_steps > 1 else ''}"
    what = "A gradient" if shared.mode == "fedsgd" else f"Weights after {steps}"
    top = max(shared.norms) or 1.0
    bars = []
    for name, count, norm in zip(shared.layers, shared.sizes, shared.norms, strict=True):
        words = f"{html.escape(name)}: {count:,} numbers, norm {norm:.3g}"
        bars.append(f'<i style="height:{max(2.0, 100 * norm / top):.1f}%" title="{words}"></i>')
    return (
        f'<p class="dl-update"><b>{sum(shared.sizes):,}</b> numbers. No image, no label.</p>'
        f'<div class="dl-strip" role="img" aria-label="Norm of each layer of the update">{"".join(bars)}</div>'
        f"{note(f'{what}, {_bytes(shared.bytes)}: norm of each layer')}"
    )


def labels(inferred: LabelsInferred, used: Sequence[int], class_names: Sequence[str], *, suspense: bool) -> str:
    """Label inference laid open: per class the evidence, the real-valued count, the integer and the truth.

    Where the labels `used` (ascending) are others, as they were made wrong on purpose or mended, those too.
    """
    shown = interesting(inferred, used)
    changed = tuple(used) != inferred.found
    top = max((abs(inferred.evidence[c]) for c in shown), default=0.0) or 1.0
    rows = []
    for c in shown:
        evidence, count, truth = inferred.evidence[c], inferred.counts[c], inferred.true_counts[c]
        last = used.count(c)
        side = "dl-minus" if evidence < 0 else "dl-plus"
        bar = f'<i class="{side}" style="width:{50 * abs(evidence) / top:.1f}%" title="{evidence:.4g}"></i>'
        verdict = "?" if suspense else f"{truth or '·'}{'' if truth == last else ' ✗'}"
        counts = [str(n or "·") for n in ((count, last) if changed else (count,))]
        rows.append(_row(class_names[c], bar, _count(inferred.real_counts[c]), counts, verdict))
    more = len(inferred.counts) - len(shown)
    below = f"and {more:,} further classes, with less evidence. " if more else ""
    below += certainty(inferred.proven, inferred.confidence, class_names)
    if changed:
        why = "Made wrong on purpose" if tuple(used) == inferred.order else "Mended by the attack"
        below += f" {why}: {instead_of(inferred.found, used, class_names)}."
    return _table("".join(rows), ("count", "used") if changed else ("count",)) + (note(below) if below else "")


def certainty(proven: bool, confidence: Sequence[float], class_names: Sequence[str]) -> str:
    """Whether counts are proven, or which of them are least certain; empty where the strategy cannot tell.

    >>> certainty(False, (0.95, 0.4, 0.3), ("cat", "dog", "ship"))
    'Least certain: ship (30 % sure), dog (40 % sure).'
    """
    if proven:
        return "Proven: these counts explain the gradient, no others do."
    doubtful = sorted((sure, name) for sure, name in zip(confidence, class_names, strict=False) if sure < DOUBTFUL)
    named = ", ".join(f"{name} ({100 * sure:.0f} % sure)" for sure, name in doubtful[:3])
    return f"Least certain: {named}." if named else ""


def _table(rows: str, counts: Sequence[str] = ("count",)) -> str:
    heads = "".join(f"<th>{head}</th>" for head in ("class", "evidence", "estimate", *counts, "truth"))
    changed = " dl-changed" if len(counts) > 1 else ""
    return f"<table class='dl-labels{changed}'><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _row(name: str, bar: str, estimate: str, counts: Sequence[str], truth: str) -> str:
    words = html.escape(name)
    present = ' class="dl-present"' if counts[-1] != "·" else ""
    told = "".join(f"<td>{count}</td>" for count in counts[:-1]) + f"<td><b>{counts[-1]}</b></td>"
    return (
        f"<tr{present}><th title='{words}'>{words}</th><td class='dl-bar'>{bar}</td>"
        f"<td>{estimate}</td>{told}<td>{truth}</td></tr>"
    )


def _count(real: float) -> str:
    """
    >>> _count(1.006), _count(-0.001)
    ('1.01', '0.00')
    """
    return f"{round(real, 2) + 0.0:.2f}"


def interesting(inferred: LabelsInferred, used: Sequence[int]) -> list[int]:
    """The classes worth a line: all of a small vocabulary, else those found, used or true and the nearest misses."""
    classes = range(len(inferred.counts))
    if len(classes) <= ROWS:
        return list(classes)
    sure = [c for c in classes if inferred.counts[c] or inferred.true_counts[c] or c in used]
    near = sorted(set(classes) - set(sure), key=lambda c: inferred.real_counts[c], reverse=True)
    return sorted(sure + near[: max(2, ROWS - len(sure))], key=lambda c: (-inferred.real_counts[c], c))


# ----------------------------------------------------------------------------------------- the batch taken apart


def separated(features: FeaturesSeparated, class_names: Sequence[str]) -> str:
    """How alike the features of the images are, as two maps: as the update shows them, and taken apart."""
    titles = [class_names[label] for label in features.labels]
    before, after = (_similarity(values, titles) for values in (features.before, features.after))
    return (
        '<h3 class="dl-step">Taken apart</h3>'
        f"<div class='dl-apart'><figure>{before}<figcaption>in the update</figcaption></figure>"
        f"<figure>{after}<figcaption>taken apart</figcaption></figure></div>"
        f"{note(ALIKE)}"
    )


def _similarity(values: Sequence[float], titles: Sequence[str]) -> str:
    """A square map of cosine similarities, row by row; what is not alike is blank."""
    cells = []
    for place, value in enumerate(values):
        a, b = divmod(place, len(titles))
        words = html.escape(f"{titles[a]} and {titles[b]}: {value:.2f}")
        cells.append(f'<i style="opacity:{max(0.04, min(1.0, value)):.2f}" title="{words}"></i>')
    return f'<div class="dl-map" style="--columns:{len(titles)}">{"".join(cells)}</div>'


def stages(told: Sequence[Stage]) -> str:
    """What the attack did, stage by stage, each with its second."""
    rows = "".join(
        f"<li><b>{html.escape(stage.name)}</b> <span>{stage.seconds:.1f} s</span><br>{html.escape(stage.sentence)}</li>"
        for stage in told
    )
    return f"<ol class='dl-stages'>{rows}</ol>"


# ------------------------------------------------------------------------------------------------- progress


def progress(done: float | None, left: str, right: str = "") -> str:
    """A bar with a few words above it, always in the same room; `done` in [0, 1], None for who knows when."""
    width = f"width:{100 * done:.1f}%" if done is not None else "width:0"
    return (
        f'<div class="dl-progress"><p><span>{html.escape(left)}</span><span>{html.escape(right)}</span></p>'
        f'<div><i style="{width}"></i></div></div>'
    )


def no_progress() -> str:
    """The room of `progress`, empty, so that pictures beside it stand at the same height."""
    return '<div class="dl-progress" style="visibility:hidden"></div>'


def _bytes(size: int) -> str:
    """
    >>> _bytes(1_003_048), _bytes(812)
    ('1.0 MB', '0.8 kB')
    """
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
