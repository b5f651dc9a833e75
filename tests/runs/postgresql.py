"""A PostgreSQL server for tests and benchmarks, where its programs are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server with its data and its socket in a folder, reached by nobody else."""

    programs: Path
    folder: Path
    user: str

    @property
    def address(self) -> str:
        return f"postgresql+psycopg://{self.user}@/postgres?host={self.folder}"

    def start(self) -> None:
        settings = f"-c listen_addresses='' -c fsync=off -k {self.folder}"
        self._call("pg_ctl", "start", "-w", "-l", f"{self.folder}/log", "-o", settings)

    def stop(self) -> None:
        self._call("pg_ctl", "stop", "-w", "-m", "immediate")

    def make(self) -> None:
        self._call("initdb", "--auth=trust", "--no-sync", f"--username={self.user}")

    def _call(self, program: str, *options: str) -> None:
        subprocess.run(
            [str(self.programs / program), "-D", f"{self.folder}/data", *options], cwd=self.folder, check=True,
            user=self.user if os.getuid() == 0 else None, timeout=START_SECONDS,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


def programs() -> Path | None:
    """The folder of the server's programs, None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found += [Path(initdb)] if (initdb := shutil.which("initdb")) else []
    return found[-1].parent if found else None


@contextmanager
def started_server() -> Iterator[Server]:
    """A new server, which is stopped in the end; it refuses to run as root. Raises RuntimeError where there is none."""
    if (folder_of_programs := programs()) is None:
        raise RuntimeError("PostgreSQL is not installed.")
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    with tempfile.TemporaryDirectory(prefix="deepleak-pg-") as folder:
        if os.getuid() == 0:
            shutil.chown(folder, user)
        server = Server(folder_of_programs, Path(folder), user)
        server.make()
        server.start()
        yield server
        server.stop()
