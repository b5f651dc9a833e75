"""Registries that third-party packages can extend through entry points.

A registry is a mapping from name to entry. Built-in entries are given in code; others come from installed packages that
declare an entry point in the registry's group, and are loaded when the registry is first read:

    [project.entry-points."deepleak.models"]
    my-network = "my_package.networks:MY_NETWORK"
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from typing import TypeVar

Entry = TypeVar("Entry")

logger = logging.getLogger(__name__)


class Registry(Mapping[str, Entry]):
    """Entries by name: `built_in` ones first, then those of the entry-point `group`, which must be of type `kind`.

    A third-party entry that cannot be loaded, is of another type or takes a built-in name is logged and left out.

    >>> Registry("deepleak.examples", int, {"one": 1})["one"]
    1
    """

    def __init__(self, group: str, kind: type[Entry], built_in: Mapping[str, Entry]):
        self._group, self._kind, self._built_in = group, kind, dict(built_in)

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        entries = dict(self._built_in)
        for point in sorted(entry_points(group=self._group), key=lambda point: point.name):
            try:
                entry = point.load()
            except (Exception, SystemExit):  # a broken plug-in must not take the project down with it
                logger.exception("The entry point %s of %s could not be loaded.", point.name, self._group)
                continue
            if point.name in entries or not isinstance(entry, self._kind):
                problem = "is taken already" if point.name in entries else f"is no {self._kind.__name__}"
                logger.error("The entry point %s of %s is left out: it %s.", point.name, self._group, problem)
                continue
            entries[point.name] = entry
        return entries

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
