"""Settings of a server: what is read from the environment, and what is refused in a sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deepleak_core import environment
from deepleak_core.environment import KEEP_DAYS, MAX_BATCH, MAX_MEMORY_MB, MAX_SECONDS, SCHEDULER, VARIABLES, Limit
from deepleak_core.errors import DeepLeakError

ROOT = Path(__file__).parent.parent
LIMITS = [variable for variable in VARIABLES if isinstance(variable, Limit)]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_a_limit_has_a_default_and_can_be_lifted(limit: Limit) -> None:
    assert limit.value({}) == limit.value({limit.name: " "}) == limit.default
    assert limit.value({limit.name: "12"}) == 12
    assert limit.value({limit.name: "None"}) is None


@pytest.mark.parametrize("given", ["0", "-1", "much", "nan", "inf", "1e999", "1,5", "x" * 500])
@pytest.mark.parametrize("limit", [MAX_SECONDS, MAX_BATCH], ids=lambda limit: limit.name)
def test_what_is_no_limit_is_refused_in_a_sentence(limit: Limit, given: str) -> None:
    with pytest.raises(DeepLeakError, match=f"{limit.name} was '.*; accepted is .* or none for no limit") as refusal:
        limit.value({limit.name: given})
    assert len(str(refusal.value)) < 250


def test_only_seconds_and_days_may_have_a_fraction() -> None:
    assert MAX_SECONDS.value({"DEEPLEAK_MAX_SECONDS": "0.5"}) == KEEP_DAYS.value({"DEEPLEAK_KEEP_DAYS": "0.5"}) == 0.5
    with pytest.raises(DeepLeakError, match="whole number"):
        MAX_MEMORY_MB.value({"DEEPLEAK_MAX_MEMORY_MB": "0.5"})


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLEAK_SCHEDULER", "tcp://a:1")
    monkeypatch.setenv("DEEPLEAK_MAX_SECONDS", "7")
    assert (SCHEDULER.value(), MAX_SECONDS.value()) == ("tcp://a:1", 7)


def test_every_variable_is_declared_here_and_documented() -> None:
    sources = [path for folder in ("deepleak_core", "ui", "pages") for path in (ROOT / folder).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r"DEEPLEAK_[A-Z_]+[A-Z]", path.read_text())}
    assert named == {variable.name for variable in VARIABLES}
    assert environment.table() in (ROOT / "docs" / "deployment.md").read_text()
