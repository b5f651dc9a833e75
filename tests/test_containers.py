"""The container's files agree with the repository: what they copy exists, what they set is known."""

from __future__ import annotations

import fnmatch
import re
import shlex
from typing import Any

import pytest
import yaml

from tests.helpers import ROOT
from tests.test_packaging import PROJECT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
CUDA: dict[str, Any] = yaml.safe_load((ROOT / "compose.cuda.yaml").read_text())
APP: dict[str, Any] = COMPOSE["services"]["app"]
SOURCES = [path for folder in ("deepleak_core", "ui", "pages") for path in (ROOT / folder).rglob("*.py")]


def instructions(name: str) -> list[str]:
    """What follows each instruction of this name, with continued lines joined."""
    return re.findall(rf"^{name} +(.*)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)


def copied() -> list[str]:
    """Paths of the repository that the image gets."""
    return [source for line in instructions("COPY") if "--from" not in line for source in line.split()[:-1]]


def environment() -> dict[str, str]:
    """The environment variables of the image."""
    return dict(word.split("=", 1) for line in instructions("ENV") for word in shlex.split(line))


def included(path: str) -> bool:
    """Whether .dockerignore leaves a path to the build; the last pattern that matches it decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = [path, *path.split("/")] if line.startswith("**/") else [path, path.split("/")[0]]
        if line and not line.startswith("#") and any(fnmatch.fnmatch(part, pattern) for part in parts):
            kept = line.startswith("!")
    return kept


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    assert {"app.py", "deepleak_core", "ui", "pages", "assets", ".streamlit"} <= set(copied())
    for path in copied():
        assert (ROOT / path).exists(), path
        assert included(path), path


@pytest.mark.parametrize("path", [".git/config", ".venv/bin/python", "tests/helpers.py", "ui/__pycache__/a.pyc"])
def test_nothing_else_is_sent_to_the_build(path: str) -> None:
    assert not included(path)


def test_variables_are_those_that_the_settings_know() -> None:
    from streamlit.config import get_config_options

    read = {name for path in SOURCES for name in re.findall(r"DEEPLEAK_[A-Z_]+", path.read_text())}
    streamlit = {f"STREAMLIT_{key.replace('.', '_')}".upper() for key in get_config_options()}
    set_here = {*environment(), *APP["environment"]} - {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "PGPASSWORD"}
    assert {"DEEPLEAK_DB", "DEEPLEAK_DATA", "STREAMLIT_SERVER_ADDRESS"} <= set_here
    assert set_here <= read | streamlit


def test_arguments_of_a_build_are_those_of_the_dockerfile() -> None:
    arguments = {line.partition("=")[0] for line in instructions("ARG")}
    assert set(CUDA["services"]["app"]["build"]["args"]) <= arguments
    assert set(CUDA["services"]) <= set(COMPOSE["services"])


def test_the_database_driver_is_that_of_the_project() -> None:
    (driver,) = PROJECT["optional-dependencies"]["postgresql"]
    assert any(f'"{driver}"' in line for line in instructions("RUN"))
    assert APP["environment"]["DEEPLEAK_DB"].startswith("postgresql+psycopg://")


def test_the_app_is_no_root_and_keeps_its_data_in_a_volume() -> None:
    (user,), (volume,) = instructions("USER"), instructions("VOLUME")
    assert user not in ("root", "0")
    assert environment()["DEEPLEAK_DATA"] == volume
    assert environment()["DEEPLEAK_DB"].startswith(f"sqlite:///{volume}/")
    assert {mount.split(":")[0] for mount in APP["volumes"]} <= set(COMPOSE["volumes"])
    assert {mount.split(":")[1] for mount in APP["volumes"]} == {volume}


def test_health_is_asked_at_the_port_that_is_opened() -> None:
    (port,), (health,) = instructions("EXPOSE"), instructions("HEALTHCHECK")
    assert f":{port}/_stcore/health" in health
    assert [mapping.rpartition(":")[2] for mapping in APP["ports"]] == [port]


def test_others_reach_it_only_if_somebody_says_so_and_no_password_is_in_the_file() -> None:
    assert all(mapping.startswith("${LISTEN:-127.0.0.1}:") for mapping in APP["ports"])
    assert "ports" not in COMPOSE["services"]["database"]
    for service, name in ((APP, "PGPASSWORD"), (COMPOSE["services"]["database"], "POSTGRES_PASSWORD")):
        assert service["environment"][name].startswith("${POSTGRES_PASSWORD:?")


def test_variables_of_the_compose_file_are_documented() -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "compose.yaml").read_text()))
    documented = (ROOT / "docs" / "deployment.md").read_text()
    assert not [name for name in asked if f"`{name}" not in documented]
