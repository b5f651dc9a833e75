"""Ports of servers that tests and benchmarks start."""

from __future__ import annotations

import secrets
import socket

PORTS = range(15_000, 32_000)  # below those that systems give to connections, which could take one before its server


def free_port() -> int:
    """A port of this machine that no program uses. Raises `StopIteration` where each of a hundred is taken."""
    return next(port for port in (secrets.choice(PORTS) for _ in range(100)) if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
