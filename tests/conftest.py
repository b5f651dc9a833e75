"""What tests share: the running app and a browser, started once for all tests that ask for them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from deepleak_core.labels import certification, consistency
from deepleak_core.runs.threads import cpu_threads

torch.set_num_threads(cpu_threads())  # as in the app
# The same examples in every run, and no limit of time: neither chance nor a busy machine must fail a test.
settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def _own_time() -> Iterator[None]:
    """Limit searches for certificates by the time that this process gets: what others take must not end them."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (certification, consistency):
            patch.setattr(module, "time", SimpleNamespace(monotonic=time.thread_time))
        yield


@pytest.fixture(autouse=True)
def _own_main() -> Iterator[None]:
    """Take back the name of the main module from the page of a test: worker processes of later tests import it."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(scope="session")
def chrome() -> Iterator[Any]:
    """A real Chromium."""
    pytest.importorskip("playwright.sync_api")
    from benchmarks.browser import chromium

    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def app_url(chrome: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the running app, warm, with a run database of its own."""
    from benchmarks.browser import running_app, warm_up

    with running_app(tmp_path_factory.mktemp("app") / "runs.sqlite") as url:
        warm_up(chrome, url)
        yield url


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The store and engine behind the pages, in a database of a test module's own."""
    st = pytest.importorskip("streamlit")
    from ui import backend

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPLEAK_DB", f"sqlite:///{tmp_path_factory.mktemp('pages') / 'runs.sqlite'}")
        patch.delenv("DEEPLEAK_IMAGES", raising=False)
        for wait in ("STOP_SECONDS", "STORED_SECONDS"):  # a run that is stopped is shown with its outcome
            patch.setattr(f"deepleak_core.runs.dispatcher.{wait}", 60.0)
        st.cache_resource.clear()
        yield backend.store()
        backend.close()
        st.cache_resource.clear()
