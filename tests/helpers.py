"""What several test modules share."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from deepleak_core.attack.solvers import Linearisation
from deepleak_core.events import Event, FinalScore, Finished
from deepleak_core.features.last_layer import LastLayer
from deepleak_core.federated import checks, models
from deepleak_core.federated.activations import activation_of
from deepleak_core.federated.case import Case, observe
from deepleak_core.federated.client import LocalTraining, share
from deepleak_core.federated.networks.network import Network
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.labels.evidence import Knowledge
from deepleak_core.registry import Registry

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

from deepleak_core.runs.store import Store
from deepleak_core.scenario import Scenario

ROOT = Path(__file__).parent.parent
PATIENCE = 180  # seconds that a page test waits for a page or a worker: it asks what is shown, not how fast

Kind = TypeVar("Kind")


def floor_of(body: nn.Module) -> tuple[float | None, bool]:
    """The floor of a body's outputs and whether it is smooth, read from its last layers instead of its declaration.

    Flattening, average and max pooling keep the floor of what they pool. An unknown last layer has no floor.
    """
    for module in reversed(list(body.modules())):
        if isinstance(module, (nn.Flatten, nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.MaxPool2d, nn.Identity)):
            continue
        entry = activation_of(module)
        return (None, False) if entry is None else (entry.floor(module), entry.smooth)
    return None, False


def pictures_named(numbers: Any) -> Iterator[str]:
    """Every picture that the figures of How it works name."""
    if isinstance(numbers, dict):
        numbers = list(numbers.values())
    if isinstance(numbers, list):
        for entry in numbers:
            yield from pictures_named(entry)
    elif isinstance(numbers, str) and numbers.endswith(".png"):
        yield numbers


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
    app.switch_page(f"pages/{name}.py")
    for setting, value in query.items():
        app.query_params[setting] = value
    return checked(app.run())


def drawn(page: Callable[..., None], *arguments: Any) -> AppTest:
    """What a function draws that stands alone as a page."""
    from streamlit.testing.v1 import AppTest

    return checked(AppTest.from_function(page, default_timeout=PATIENCE, args=arguments).run())


def checked(app: AppTest) -> AppTest:
    """The same page; fails where its last run raised an exception."""
    assert not app.exception, app.exception[0].value
    return app


def page_html(app: AppTest) -> str:
    """All HTML on a page but the style sheet, which names every class."""
    return "\n".join(piece.value for piece in app.html if not piece.value.startswith("<style"))


def errors(app: AppTest) -> list[str]:
    """The sentences on a page that say why something cannot be done."""
    return _messages(app, "dl-error")


def warnings(app: AppTest) -> list[str]:
    """The sentences on a page that say what a visitor should know."""
    return _messages(app, "dl-warning")


def _messages(app: AppTest, kind: str) -> list[str]:
    return [
        html.unescape(words) for words in re.findall(rf'<p class="dl-message {kind}"[^>]*>(.*?)</p>', page_html(app))
    ]


def component(app: AppTest, key: str) -> dict[str, Any]:
    """What a browser component with this key was sent last; the player's are those of `ui.player.payload`."""
    (sent,) = [element.proto.json for element in app.get("bidi_component") if element.key == key]
    values: dict[str, Any] = json.loads(sent)
    return values


def tracks(app: AppTest, key: str = "compared") -> list[dict[str, Any]]:
    """The columns of a player that show an attack."""
    return [column for column in component(app, key)["columns"] if column["kind"] == "track"]


def code_blocks(page: Path, language: str = "") -> list[str]:
    """The fenced code blocks of a Markdown page in one language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [code for name, code in fenced if name == language]


def headline(app: AppTest) -> str:
    """The sentence at the top of a page, without markup."""
    (piece,) = [piece.value for piece in app.html if piece.value.startswith('<p class="dl-headline')]
    return html.unescape(re.sub(r"<[^>]*>", "", piece)).strip()


def keys(app: AppTest) -> set[str | None]:
    """The keys of all buttons on a page."""
    return {button.key for button in app.button}


def until(app: AppTest, happened: Callable[[], Any]) -> AppTest:
    """Look at a page again until something is there."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
        checked(app.run())
    return app


def ended(app: AppTest) -> AppTest:
    """Look at a page again until the runs it shows have ended."""
    return until(app, lambda: "stop" not in keys(app))


def compared(store: Store, app: AppTest, group: str) -> list[Scenario]:
    """The scenarios of a group of runs that a comparison page names in its address."""
    return [run.scenario for run in store.members(app.query_params[group])]


def last_layer(
    features: Tensor,
    labels: Tensor,
    *,
    classes: int = 12,
    bias: bool = True,
    floor: float | None = None,
    smooth: bool = False,
    seed: int | None = None,
) -> LastLayer:
    """A random last layer and its mean gradient for features (K, D), by autograd in the precision of the features."""
    torch.manual_seed(len(labels) if seed is None else seed)
    layer = torch.nn.Linear(features.shape[1], classes, bias=bias).to(features.dtype)
    torch.nn.functional.cross_entropy(layer(features), labels).backward()
    return LastLayer(
        weight=layer.weight.detach(),
        bias=layer.bias.detach() if bias else None,
        weight_gradient=layer.weight.grad,
        bias_gradient=layer.bias.grad if bias else None,
        floor=floor,
        smooth=smooth,
    )


def relu_features(images: int, seed: int, dimension: int = 40, dtype: torch.dtype = torch.float64) -> Tensor:
    """Features (K, D) as after ReLU, about half of them zero, which share a part."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(dimension, generator=generator)
    return (common + torch.randn(images, dimension, generator=generator)).relu().to(dtype)


def elu_features(images: int, seed: int, dimension: int = 600) -> Tensor:
    """Features (K, D) as after ELU, which share a part."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(dimension, generator=generator) / 2
    return torch.nn.functional.elu(common + torch.randn(images, dimension, generator=generator)).double()


def random_labels(images: int, seed: int, classes: int = 12) -> Tensor:
    """Labels (K,) that may repeat."""
    return torch.randint(classes, (images,), generator=torch.Generator().manual_seed(seed + 1))


def knowledge_of(scenario: Scenario, *, noise: float = 0.0) -> tuple[Knowledge, Tensor]:
    """What label inference knows of a batch, and its true counts; `noise` in standard deviations of each tensor."""
    case, truth = observe(scenario)
    generator = torch.Generator().manual_seed(0)
    tensors = dict(case.update.tensors)
    if noise:
        for name, tensor in tensors.items():
            tensors[name] = tensor + noise * tensor.std() * torch.randn(tensor.shape, generator=generator)
        case = replace(case, update=replace(case.update, tensors=tensors))
    return Knowledge(case=case), torch.bincount(truth.labels, minlength=len(truth.class_names))


@dataclass(frozen=True)
class Equations:
    """Least-squares problems for Levenberg-Marquardt, with Jacobian products by automatic differentiation."""

    residuals: Callable[[Tensor, Tensor], Tensor]

    def linearised(self, point: Tensor, active: Tensor) -> Linearisation:
        """Residuals and Jacobian products at a point."""

        def at(x: Tensor) -> Tensor:
            return self.residuals(x, active)

        values, pull = torch.func.vjp(at, point)
        return Linearisation(values, lambda step: torch.func.jvp(at, (point,), (step,))[1], lambda r: pull(r)[0])


def finished(psnr: Sequence[float], residual: float = 0.1, **values: Any) -> Finished:
    """The end of a run with these PSNR in dB."""
    count = len(psnr)
    figures: dict[str, Any] = {
        "places": tuple(range(count)), "psnr": tuple(psnr), "ssim": (0.5,) * count, "max_error_8bit": (9,) * count,
        "pixel_exact": (False,) * count, "outcomes": ("recognisable",) * count, "noise_psnr": 8.0, "grey_psnr": 12.0,
        "time_to": {},
    }  # fmt: skip
    score = FinalScore(**figures | values)
    return Finished(reason="iterations", sentence="", step=1, seconds=2.0, residual=residual, score=score)
