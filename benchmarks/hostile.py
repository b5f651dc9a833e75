"""Hostile files and links: generate them, and count what becomes of each."""

from __future__ import annotations

import asyncio
import io
import os
import random
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from hypothesis import HealthCheck, Phase, given, settings
from PIL import Image

from benchmarks.browser import running_app
from benchmarks.viewers import Seen, Visitor
from deepleak_core.data.batches import load_batch
from deepleak_core.errors import DeepLeakError
from deepleak_core.federated import capture, checkpoints
from deepleak_core.runs import recording
from deepleak_core.scenario import Scenario
from tests.data.pictures import picture, png_that_claims, zoo
from tests.ui import test_address

SLOW_SECONDS = 30.0  # which a busy machine may take to draw a page
AT_ONCE = 4  # sessions that open links at the same time
LINK_SECONDS = 60.0  # after which a link counts as never answered
Made = Callable[[Path, random.Random], None]


@dataclass(frozen=True, kw_only=True)
class Count:
    """What became of hostile inputs: `errors` are those that no sentence answers."""

    what: str
    tried: int
    refused: int
    accepted: int
    errors: tuple[str, ...]
    slowest_s: float


def files(short: bool) -> Count:
    """Images through folders, archives through recordings, safetensors through checkpoints and captured updates."""
    number, generator = (10 if short else 100), random.Random(0)
    outcomes = [
        _read(read, kind, generator)
        for kinds, read in ((IMAGES, read_image), (ARCHIVES, read_archive), (TENSORS, read_tensors))
        for kind in (kinds[n % len(kinds)] for n in range(number))
    ]
    return _counted("files", outcomes)


def links(short: bool) -> Count:
    """Generated links, each opened by a session of its own in the running app."""
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder) / "runs.sqlite") as url:
        return _counted("links", asyncio.run(_opened(url, generated_links(20 if short else 500))))


Outcome = tuple[str, float, str]  # "refused", "accepted" or "error", seconds, and what is wrong


def _counted(what: str, outcomes: list[Outcome]) -> Count:
    slow = [
        f"{kind} after {seconds:.0f} s" for kind, seconds, _ in outcomes if seconds > SLOW_SECONDS and what == "files"
    ]
    return Count(
        what=what,
        tried=len(outcomes),
        refused=sum(kind == "refused" for kind, _, _ in outcomes),
        accepted=sum(kind == "accepted" for kind, _, _ in outcomes),
        errors=(*(words for kind, _, words in outcomes if kind == "error"), *slow),
        slowest_s=round(max(seconds for _, seconds, _ in outcomes), 2),
    )


# -------------------------------------------------------------------------------------------------------- files


def _read(read: Callable[[Path], None], make: Made, generator: random.Random) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "zoo" / "owl" / "b.png"
        zoo(Path(folder) / "zoo", "elk", "owl")
        make(path, generator)
        began = time.perf_counter()
        try:
            read(path)
            kind, words = "accepted", ""
        except DeepLeakError as error:
            kind, words = "refused", str(error)
        except Exception as error:
            kind, words = "error", f"{make.__name__}: {type(error).__name__}: {error}"
        return kind, time.perf_counter() - began, words


def read_image(path: Path) -> None:
    """Through the data set `folder`."""
    load_batch(Scenario(dataset="folder", images=str(path.parent.parent), indices=(0, 1, 2)))


def read_archive(path: Path) -> None:
    """As a recording that somebody opens in the gallery."""
    recording.load(path.read_bytes())


def read_tensors(path: Path) -> None:
    """As a checkpoint, and as both files of a captured update."""
    checkpoint = path.rename(path.with_name(checkpoints.checkpoint_name("lenet", "cifar10", "late")))
    checkpoints.describe(checkpoint)
    refused = checkpoints.defect(checkpoint)
    try:
        capture.load(checkpoint, checkpoint, "lenet", batch_size=2)
    except DeepLeakError as error:
        raise DeepLeakError(f"{refused} {error}") from error


def _encoded(generator: random.Random) -> bytes:
    kind = generator.choice(("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"))
    image, buffer = Image.effect_noise((generator.randint(1, 90), generator.randint(1, 90)), 80), io.BytesIO()
    image.convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def _truncated_image(path: Path, generator: random.Random) -> None:
    data = _encoded(generator)
    path.write_bytes(data[: generator.randrange(len(data))])


def _damaged_image(path: Path, generator: random.Random) -> None:
    path.write_bytes(damaged(_encoded(generator), generator))


def _png_of_wrong_size(path: Path, generator: random.Random) -> None:
    sizes = (0, 1, 7000, 60_000, 2**31 - 1, 2**32 - 1)
    path.write_bytes(png_that_claims(generator.choice(sizes), generator.choice(sizes)))


def _no_image(path: Path, generator: random.Random) -> None:
    path.write_bytes(generator.randbytes(generator.choice((0, 1, 20, 5000))))


def _pipe(path: Path, generator: random.Random) -> None:
    os.mkfifo(path)


def _link(path: Path, generator: random.Random) -> None:
    path.symlink_to(generator.choice(("/etc/passwd", "/dev/zero", "b.png", "../../..", "gone", "/proc/self/mem")))


def _folder_as_image(path: Path, generator: random.Random) -> None:
    picture(path / "a.png")


def _huge_image(path: Path, generator: random.Random) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    os.truncate(path, 600_000_000)


IMAGES: tuple[Made, ...] = (
    _truncated_image, _damaged_image, _png_of_wrong_size, _no_image, _pipe, _link, _folder_as_image, _huge_image,
)  # fmt: skip


def damaged(data: bytes, generator: random.Random) -> bytes:
    """Some bytes changed."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 5, 50))):
        changed[generator.randrange(len(changed))] = generator.randrange(256)
    return bytes(changed)


def _zipped(entries: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def _recording(generator: random.Random) -> bytes:
    return generator.choice(sorted(recording.GALLERY.glob("*.zip"))).read_bytes()


def _truncated_archive(path: Path, generator: random.Random) -> None:
    data = _recording(generator)
    path.write_bytes(data[: generator.randrange(len(data))])


def _damaged_archive(path: Path, generator: random.Random) -> None:
    path.write_bytes(damaged(_recording(generator), generator))


def _bomb(path: Path, generator: random.Random) -> None:
    name = generator.choice(("run.json", "runs/0/frames/0.png", "x"))
    path.write_bytes(_zipped([(name, bytes(generator.choice((40, 90)) * 2**20))]))


def _bomb_in_a_bomb(path: Path, generator: random.Random) -> None:
    inner = _zipped([("run.json", bytes(30 * 2**20))])
    path.write_bytes(_zipped([("run.json", inner)]))


def _many_entries(path: Path, generator: random.Random) -> None:
    path.write_bytes(_zipped([(f"{n}.png", b"") for n in range(3000)]))


def _foreign_names(path: Path, generator: random.Random) -> None:
    path.write_bytes(_zipped([(generator.choice(("../../x", "/etc/passwd", "a\\b", "/", "x" * 5000)), b"{}")]))


def _hostile_json(path: Path, generator: random.Random) -> None:
    texts = ("[" * 50_000, '{"runs": ' * 5000, "NaN", "null", '{"runs": [{}]}', "1e999", '"\\ud800"', "\xff")
    path.write_bytes(_zipped([("run.json", generator.choice(texts).encode("latin-1"))]))


ARCHIVES: tuple[Made, ...] = (
    _truncated_archive, _damaged_archive, _bomb, _bomb_in_a_bomb, _many_entries, _foreign_names, _hostile_json,
    _no_image,
)  # fmt: skip


def _checkpoint(generator: random.Random) -> bytes:
    return generator.choice(sorted(checkpoints.CHECKPOINTS.glob("lenet*.safetensors"))).read_bytes()


def _truncated_tensors(path: Path, generator: random.Random) -> None:
    data = _checkpoint(generator)
    path.write_bytes(data[: generator.randrange(len(data))])


def _damaged_header(path: Path, generator: random.Random) -> None:
    data = _checkpoint(generator)
    length = int.from_bytes(data[:8], "little")
    path.write_bytes(damaged(data[: 8 + length], generator) + data[8 + length :])


def _wrong_length(path: Path, generator: random.Random) -> None:
    length = generator.choice((0, 1, 2**31, 2**63, 2**64 - 1))
    path.write_bytes(length.to_bytes(8, "little") + _checkpoint(generator)[8:])


def _hostile_header(path: Path, generator: random.Random) -> None:
    headers = (
        '{"head.weight": {"dtype": "F32", "shape": [4294967295, 4294967295], "data_offsets": [0, 4]}}',
        '{"head.weight": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
        '{"head.weight": {"dtype": "F99", "shape": [-1], "data_offsets": [0, 4]}}',
        '{"__metadata__": ' + "[" * 3000,
        "[" * 100_000,
        '{"a": 1}',
        "{}",
    )
    header = generator.choice(headers).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def _not_finite(path: Path, generator: random.Random) -> None:
    data = _checkpoint(generator)
    length = int.from_bytes(data[:8], "little")
    path.write_bytes(data[: 8 + length] + b"\x00\x00\xc0\x7f" * ((len(data) - 8 - length) // 4))


TENSORS: tuple[Made, ...] = (
    _truncated_tensors, _damaged_header, _wrong_length, _hostile_header, _not_finite, _no_image, _pipe, _link,
)  # fmt: skip


# -------------------------------------------------------------------------------------------------------- links


def generated_links(count: int) -> list[str]:
    """Links as the property test of addresses makes them, the same ones each time."""
    drawn: list[str] = []

    @settings(
        max_examples=count, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), deadline=None,
    )  # fmt: skip
    @given(query=test_address.links())
    def draw(query: dict[str, list[str]]) -> None:
        drawn.append(urlencode(query, doseq=True))

    draw()
    return drawn


async def _opened(url: str, queries: list[str]) -> list[Outcome]:
    """Open links, some at a time; what the page says to each."""
    left = iter(queries)
    found: list[Outcome] = []

    async def open_some() -> None:
        for query in left:
            began = time.perf_counter()
            seen = await _open(Visitor(url, query))
            seconds = time.perf_counter() - began
            if seen.tracebacks or not seen.drawn:
                found.append(("error", seconds, f"?{query}: {seen.tracebacks or 'no answer'}"))
            else:
                found.append(("refused" if seen.sentences else "accepted", seconds, ""))

    await asyncio.gather(*(open_some() for _ in range(AT_ONCE)))
    return found


async def _open(visitor: Visitor) -> Seen:
    """Have a page drawn once."""
    staying = asyncio.create_task(visitor.stay())
    deadline = time.monotonic() + LINK_SECONDS
    while not visitor.seen.drawn and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    staying.cancel()
    with suppress(asyncio.CancelledError):
        await staying
    return visitor.seen
