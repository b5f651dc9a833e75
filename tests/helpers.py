"""What several test modules share."""

from __future__ import annotations

import html
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import torch
from torch import Tensor

from deepleak_core.events import Event, Finished
from deepleak_core.federated import checks, models
from deepleak_core.federated.case import Case
from deepleak_core.federated.client import LocalTraining, share
from deepleak_core.federated.networks.network import Network
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.registry import Registry

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

from deepleak_core.runs.store import Store
from deepleak_core.scenario import Scenario

ROOT = Path(__file__).parent.parent
PATIENCE = 120  # seconds that a page test waits for a worker

Kind = TypeVar("Kind")


# ----------------------------------------------------------------------------------------------------- attacks


def case_of(
    model: TargetModel, images: Tensor, labels: Tensor, local: LocalTraining | None = None, *, trained: bool = False
) -> Case:
    """The case of a server whose client holds these images (B, C, H, W) and labels (B,)."""
    return Case(
        model=model,
        update=share(model, images, labels, local),
        class_names=tuple(f"class {label}" for label in range(model.head.out_features)),
        image_shape=(images.shape[1], images.shape[2], images.shape[3]),
        trained=trained,
    )


def random_images(*shape: int, seed: int = 0) -> Tensor:
    """Uniform noise in [0, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def use_networks(patch: pytest.MonkeyPatch, **networks: Network) -> None:
    """Add networks to the registry of target models for one test; underscores in names become hyphens."""
    named = {name.replace("_", "-"): network for name, network in networks.items()}
    registry = Registry("deepleak.models", Network, dict(models.MODELS) | named)
    for module in (models, checks):
        patch.setattr(module, "MODELS", registry)


def all_of(kind: type[Kind], events: list[Any]) -> list[Kind]:
    """The events of one class, in their order."""
    return [event for event in events if isinstance(event, kind)]


def only(kind: type[Kind], events: list[Any]) -> Kind:
    """The one event of a class."""
    (event,) = all_of(kind, events)
    return event


def end_of(events: list[Event]) -> Finished:
    """The event that ends a run."""
    assert isinstance(events[-1], Finished)
    return events[-1]


# ------------------------------------------------------------------------------------------------------- pages


def app_page(name: str = "live_attack", **query: str) -> AppTest:
    """The page pages/`name`.py inside the whole app, opened by a link as a fresh visitor."""
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE)
    if name == "how_it_works":  # its address differs from its file name, so the app has to be asked first
        app.run()
    app.switch_page(f"pages/{name}.py")
    for setting, value in query.items():
        app.query_params[setting] = value
    return checked(app.run())


def checked(app: AppTest) -> AppTest:
    """The same page; fails where its last run raised an exception."""
    assert not app.exception, app.exception[0].value
    return app


def page_html(app: AppTest) -> str:
    """All HTML on a page but the style sheet, which names every class."""
    return "\n".join(piece.value for piece in app.html if not piece.value.startswith("<style"))


def code_blocks(page: Path, language: str = "") -> list[str]:
    """The fenced code blocks of a Markdown page in one language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [code for name, code in fenced if name == language]


def headline(app: AppTest) -> str:
    """The sentence at the top of a page, without markup."""
    (piece,) = [piece.value for piece in app.html if piece.value.startswith('<p class="dl-headline"')]
    return html.unescape(re.sub(r"<small>.*</small>|<[^>]*>", "", piece)).strip()


def keys(app: AppTest) -> set[str | None]:
    """The keys of all buttons on a page."""
    return {button.key for button in app.button}


def ended(app: AppTest) -> AppTest:
    """Look at a page again until the runs it shows have ended."""
    deadline = time.monotonic() + PATIENCE
    while "stop" in keys(app):
        assert time.monotonic() < deadline, "the runs do not end"
        time.sleep(0.1)
        checked(app.run())
    return app


def compared(store: Store, app: AppTest, group: str) -> list[Scenario]:
    """The scenarios of a group of runs that a comparison page names in its address."""
    return [run.scenario for run in store.members(app.query_params[group])]
