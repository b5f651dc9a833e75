"""What the app logs can be read by programs, and tells nothing about visitors and their files."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deepleak_core.runs.log import configure, log
from tests.helpers import ROOT


@pytest.fixture
def written() -> Iterator[Callable[[str], io.StringIO]]:
    """Has the log written in a form, until the end of the test."""
    root, package = logging.getLogger(), logging.getLogger("deepleak_core")
    handlers, level = list(root.handlers), package.level
    forms = {handler: handler.formatter for handler in handlers}  # pytest's may belong to other loggers too

    def configured(form: str) -> io.StringIO:
        stream = io.StringIO()
        configure(form, stream)
        return stream

    yield configured
    root.handlers[:] = handlers
    for handler, form in forms.items():
        handler.setFormatter(form)
    package.setLevel(level)


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    """The lines of a log in JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_with_its_facts(written: Callable[[str], io.StringIO]) -> None:
    stream = written("json")
    log("run finished", run="abc", scenario="f" * 64, reason="converged", seconds=1.23456, worker="")
    (entry,) = entries(stream)
    assert entry.pop("time").endswith("+00:00")
    told = {"level": "INFO", "event": "run finished", "run": "abc", "reason": "converged", "seconds": 1.235}
    assert entry == told | {"scenario": "f" * 16}


def test_text_is_for_people(written: Callable[[str], io.StringIO]) -> None:
    stream = written("text")
    log("run failed", level=logging.WARNING, run="abc", cause="OutOfMemory")
    assert stream.getvalue().endswith("WARNING run failed run=abc cause=OutOfMemory\n")


def test_other_records_name_no_file_and_no_address(written: Callable[[str], io.StringIO]) -> None:
    stream = written("json")
    try:
        Path("/home/anna/cats/secret.png").stat()
    except OSError:
        logging.getLogger("deepleak_core.runs").exception(
            "%s of '%s' for %s and %s\nfailed", "/home/anna/cats", "anna's", "192.0.2.7", "2001:db8:0:1::7"
        )
    (entry,) = entries(stream)
    assert entry["error"] == "FileNotFoundError"
    assert entry["trace"][0].startswith("test_log.py:")
    assert len(stream.getvalue().splitlines()) == 1
    for secret in ("anna", "cats", "secret", "192.0.2.7", "2001:db8"):
        assert secret not in stream.getvalue()
    assert entry["message"].endswith("\nfailed")


def test_of_other_packages_only_warnings_are_written(written: Callable[[str], io.StringIO]) -> None:
    stream, other = written("json"), logging.getLogger("distributed.scheduler")
    other.setLevel(logging.INFO)
    logging.getLogger("distributed").propagate = True
    other.info("State start")
    other.warning("State lost")
    assert [entry["message"] for entry in entries(stream)] == ["State lost"]


def test_packages_with_handlers_of_their_own_write_json_too(written: Callable[[str], io.StringIO]) -> None:
    other, stream = logging.getLogger("some_package"), io.StringIO()
    other.propagate = False
    other.addHandler(logging.StreamHandler(stream))
    written("json")
    other.warning("It is late.")
    assert entries(stream)[0]["message"] == "It is late."


def test_only_the_forms_that_exist_are_accepted() -> None:
    with pytest.raises(ValueError, match="'xml'; accepted are text and json"):
        configure("xml")


FAILING = """
from distributed import Client
from deepleak_core.runs.log import configure
from deepleak_core.runs.workers import start_cluster
if __name__ == "__main__":  # not in the worker, which imports this file, too
    configure("json")
    with start_cluster({"cpu": {}}) as cluster, Client(cluster) as client:
        client.submit(int, "anna's").exception()
"""


def test_a_task_that_fails_in_a_worker_writes_lines_of_json_only(tmp_path: Path) -> None:
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    environment = os.environ | {"DEEPLEAK_LOG": "json", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = entries(io.StringIO(done.stdout + done.stderr))
    assert any(entry.get("logger") == "distributed.worker" for entry in told)
