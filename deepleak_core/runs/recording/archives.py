"""Read zip archives from unknown sources: few entries, expected names, limited sizes, nothing written to disk."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping

from deepleak_core.errors import UnusableRecording
from deepleak_core.text import shorten

MOST_BYTES = 32 * 2**20  # size of an archive
MOST_UNPACKED_BYTES = 64 * 2**20  # size of all that is in it
MOST_ENTRIES = 2000
ENTRY = b"PK\x01\x02"  # with which the description of each entry begins
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ADVICE = "take an archive that DeepLeak has made."
# What `zipfile` raises for a damaged file, an encrypted entry, an unknown compression, impossible numbers.
BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, OSError, OverflowError, RuntimeError,
    ValueError,
)  # fmt: skip


class Archive:
    """A zip archive in memory whose entries have been checked against their limits, but not read.

    Args:
        data: The bytes of the file.
        names: Regular expressions of the names that entries may have, and the largest size in bytes of such an entry.

    Raises:
        UnusableRecording: It is no zip archive, or has other entries, too many or too large ones.
    """

    def __init__(self, data: bytes, names: Mapping[str, int]):
        if len(data) > MOST_BYTES:
            raise UnusableRecording(
                f"The archive has {len(data) / 2**20:.0f} MB; accepted are up to {MOST_BYTES / 2**20:.0f} MB, {ADVICE}"
            )
        if data.count(ENTRY) > MOST_ENTRIES:  # before `zipfile` makes objects of half a million
            raise UnusableRecording(f"The archive has more than {MOST_ENTRIES} entries; {ADVICE}")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            self._entries = {entry.filename: entry for entry in self._zip.infolist()}
        except BROKEN as error:
            raise UnusableRecording(f"The file is no readable zip archive; {ADVICE}") from error
        if len(self._entries) < len(self._zip.infolist()):
            raise UnusableRecording(f"The archive has several entries of one name; {ADVICE}")
        for entry in self._entries.values():
            _check(entry, names)
        if sum(entry.file_size for entry in self._entries.values()) > MOST_UNPACKED_BYTES:
            most = f"{MOST_UNPACKED_BYTES / 2**20:.0f} MB"
            raise UnusableRecording(f"The archive unpacks to more than {most}, which is not accepted; {ADVICE}")

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def read(self, name: str) -> bytes:
        """The bytes of an entry. Raises `UnusableRecording` where there is none, or it is damaged."""
        if name not in self._entries:
            raise UnusableRecording(f"The archive lacks {name}; {ADVICE}")
        entry = self._entries[name]
        try:
            with self._zip.open(entry) as opened:
                data = opened.read(entry.file_size + 1)
        except BROKEN as error:
            raise UnusableRecording(f"{name} in the archive is damaged; {ADVICE}") from error
        if len(data) != entry.file_size:
            raise UnusableRecording(f"{name} in the archive is damaged; {ADVICE}")
        return data


def _check(entry: zipfile.ZipInfo, names: Mapping[str, int]) -> None:
    """Refuse an entry with another name, too large, or compressed in an unusual way."""
    name = shorten(entry.filename)
    most = next((size for pattern, size in names.items() if re.fullmatch(pattern, entry.filename, re.ASCII)), None)
    if most is None:
        raise UnusableRecording(f"The archive contains {name!r}, which belongs to no recording; {ADVICE}")
    if entry.file_size > most:
        raise UnusableRecording(
            f"{name} in the archive unpacks to {entry.file_size / 2**20:.1f} MB; accepted are {most / 2**20:.1f} MB, "
            f"{ADVICE}"
        )
    if entry.compress_type not in COMPRESSIONS or entry.flag_bits & 0x1:
        raise UnusableRecording(f"{name} in the archive is encrypted or compressed in an unusual way; {ADVICE}")


def packed(entries: Mapping[str, bytes]) -> bytes:
    """A zip archive of these entries; equal entries give equal bytes. Pictures, compressed already, are only stored."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            kind = zipfile.ZIP_DEFLATED if name.endswith(".json") else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(name), data, kind)
    return buffer.getvalue()
