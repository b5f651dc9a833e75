"""The target models: networks the clients train, and what the server knows about them.

Every network is a `TargetModel`: a body that turns images into features (B, D) and one linear last layer, the
`head`, which label inference and disaggregation read. Images enter in [0, 1] and are normalised inside.

To add a network, write a function from (classes, image size) to a body and add one line to `MODELS`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_file
from torch import Tensor, nn

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.federated.class_statistics import MOST_CLASSES, Validation
from deepleak_core.scenario import BatchNormMode

CHECKPOINTS = Path(__file__).parent / "weights"
PARAMETER_LIMIT = 250_000_000


class TargetModel(nn.Module):
    """A classifier as body and head. `forward` maps images (B, 3, H, W) in [0, 1] to logits (B, C).

    No feature is below `floor`, which the body's last activation tells; None where there is no such bound. After
    `smooth` activations features come near it, after others many lie on it.
    `validation` is what it predicts for each class, None before training.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        head: nn.Linear,
        mean: Sequence[float],
        std: Sequence[float],
        floor: float | None = None,
        *,
        smooth: bool = False,
    ):
        super().__init__()
        self.body, self.head, self.floor, self.smooth = body, head, floor, smooth
        self.validation: Validation | None = None
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """[0, 1] to what the first layer sees: zero mean, unit variance over the data set."""
        return (images - self.mean) / self.std

    def denormalise(self, inputs: Tensor) -> Tensor:
        """What the first layer sees, back to [0, 1]."""
        return inputs * self.std + self.mean

    @property
    def low(self) -> Tensor:
        """The darkest pixel as the first layer sees it, (1, 3, 1, 1)."""
        return self.normalise(torch.zeros_like(self.mean))

    @property
    def high(self) -> Tensor:
        """The brightest pixel as the first layer sees it, (1, 3, 1, 1)."""
        return self.normalise(torch.ones_like(self.mean))

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to what the last layer reads, (B, D)."""
        features: Tensor = self.body(self.normalise(images))
        return features

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


Body = Callable[[int], nn.Module]


@dataclass(frozen=True, kw_only=True)
class TargetModelSpec:
    """One line of the registry: `body` maps an image size to the network below the last layer."""

    title: str
    summary: str
    source: str
    body: Body
    uniform_init: float | None = None
    """Half-width of the uniform distribution all weights are drawn from; None keeps PyTorch's default."""
    min_size: int = 32
    floor: float | None = 0.0
    """The least value of a feature: 0 after ReLU, sigmoid and pooling over them; None where there is none."""
    smooth: bool = False
    """Whether features only come near it: after sigmoid and ELU none lies on it, after ReLU most do."""


def _lenet(channels: int, activation: type[nn.Module]) -> Body:
    """Three 5x5 convolutions with strides 2, 2, 1 (Zhu et al. 2019)."""

    def body(image_size: int) -> nn.Module:
        layers: list[nn.Module] = []
        for before, stride in ((3, 2), (channels, 2), (channels, 1)):
            layers += [nn.Conv2d(before, channels, 5, padding=2, stride=stride), activation()]
        return nn.Sequential(*layers, nn.Flatten())

    return body


def _convnet(image_size: int) -> nn.Module:
    """Eight 3x3 convolutions with BatchNorm and two max-poolings (Geiping et al. 2020, width 64)."""
    widths = (3, 64, 128, 128, 256, 256, 256, 256, 256)
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        if i in (5, 7):
            layers.append(nn.MaxPool2d(3))
    return nn.Sequential(*layers, nn.Flatten())


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (He et al. 2016, option A)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.stride = after // before
        self.conv1 = nn.Conv2d(before, after, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        pad = y.shape[1] - x.shape[1]
        return torch.relu(y + nn.functional.pad(shortcut, (0, 0, 0, 0, pad // 2, pad - pad // 2)))


def _resnet20(image_size: int) -> nn.Module:
    """ResNet-20 for CIFAR (He et al. 2016): 3 x 3 blocks of 16, 32, 64 channels."""
    blocks = [_BasicBlock(a, b) for a, b in ((16, 16),) * 3 + ((16, 32),) + ((32, 32),) * 2]
    blocks += [_BasicBlock(a, b) for a, b in ((32, 64),) + ((64, 64),) * 2]
    stem = (nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _resnet18(image_size: int) -> nn.Module:
    """torchvision's ResNet-18; up to 64 pixels with the 3x3 stem without pooling used on CIFAR."""
    net: nn.Module = torchvision.models.resnet18()
    net.fc = nn.Identity()
    if image_size <= 64:
        net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    for module in net.modules():  # in-place activations would overwrite what double backward still needs
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return net


MODELS: dict[str, TargetModelSpec] = {
    "lenet": TargetModelSpec(
        title="LeNet (sigmoid)",
        summary="DLG's own network: 12 channels, sigmoid, wide uniform weights.",
        source="Zhu et al. 2019, arXiv 1906.08935",
        body=_lenet(12, nn.Sigmoid),
        smooth=True,
        uniform_init=0.5,
    ),
    "lenet64-relu": TargetModelSpec(
        title="LeNet-64 (ReLU)",
        summary="Same shape, 64 channels, ReLU: leaks well, though ReLU throws information away.",
        source="after Zhu et al. 2019",
        body=_lenet(64, nn.ReLU),
    ),
    "lenet64-elu": TargetModelSpec(
        title="LeNet-64 (ELU)",
        summary="Same shape, 64 channels, smooth activation, no pooling: leaks most.",
        source="after Zhu et al. 2019",
        body=_lenet(64, nn.ELU),
        floor=-1.0,
        smooth=True,
    ),
    "convnet": TargetModelSpec(
        title="ConvNet",
        summary="Eight convolutions, BatchNorm, max-pooling: much harder to invert.",
        source="Geiping et al. 2020, arXiv 2003.14053",
        body=_convnet,
    ),
    "resnet20": TargetModelSpec(
        title="ResNet-20",
        summary="A small residual network made for CIFAR: deep, pooled at the end, hard to invert.",
        source="He et al. 2016, arXiv 1512.03385",
        body=_resnet20,
    ),
    "resnet18": TargetModelSpec(
        title="ResNet-18",
        summary="torchvision's ResNet-18, the usual choice at ImageNet size: slow and hard to invert.",
        source="He et al. 2016, arXiv 1512.03385",
        body=_resnet18,
    ),
}


def build(
    name: str,
    *,
    classes: int,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    head_bias: bool = True,
    batchnorm: BatchNormMode = "eval",
    seed: int = 0,
    checkpoint: Path | None = None,
) -> TargetModel:
    """The network `name` with weights drawn by `seed`, or read from a safetensors `checkpoint`.

    Raises `UnsupportedScenario` where the checkpoint's weights are not this network's.
    BatchNorm layers use their running statistics (`eval`) or those of the batch (`train`); neither mode ever
    changes the running ones, since a gradient is taken at the weights the server sent.

    >>> model = build("lenet", classes=10, image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    >>> model(torch.rand(4, 3, 32, 32)).shape, model.head.in_features
    (torch.Size([4, 10]), 768)
    """
    spec = spec_of(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = spec.body(image_size)
        dimension = feature_dimension(body, image_size)
        parameters = dimension * classes + sum(p.numel() for p in body.parameters())
        if parameters > PARAMETER_LIMIT:
            raise UnsupportedScenario(
                [
                    f"{name} at {image_size} pixels with {classes} classes has {parameters / 1e6:.0f} million "
                    f"parameters, the limit is {PARAMETER_LIMIT / 1e6:.0f} million; take smaller images or resnet18."
                ]
            )
        head = nn.Linear(dimension, classes, bias=head_bias)
        model = TargetModel(body, head, mean, std, spec.floor, smooth=spec.smooth)
        if spec.uniform_init is not None:
            for parameter in model.parameters():
                nn.init.uniform_(parameter, -spec.uniform_init, spec.uniform_init)
    if checkpoint is not None:
        if problem := misfit(model, checkpoint):
            raise UnsupportedScenario([problem])
        load_model(model, checkpoint)
        model.validation = _validation(checkpoint, classes)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
    return model.train(batchnorm == "train")


def feature_dimension(body: nn.Module, image_size: int) -> int:
    """Length of the feature vector a body gives for one square image."""
    body.eval()
    with torch.no_grad():
        return math.prod(body(torch.zeros(1, 3, image_size, image_size)).shape[1:])


def spec_of(name: str) -> TargetModelSpec:
    """The registry line of a network. Raises `UnsupportedScenario` naming the known ones."""
    if name not in MODELS:
        raise UnsupportedScenario([f"model was {name!r}; accepted are {', '.join(MODELS)}."])
    return MODELS[name]


# ------------------------------------------------------------------------------------------- training stages


def stages(name: str, vocabulary: str) -> dict[str, Path | None]:
    """Training stages of a network on a set of classes ("cifar10"): `untrained` and what `CHECKPOINTS` holds."""
    found = sorted(CHECKPOINTS.glob(checkpoint_name(name, vocabulary, "*")))
    return {"untrained": None} | {path.stem.split("--")[2]: path for path in found}


def checkpoint_name(name: str, vocabulary: str, stage: str) -> str:
    """The file a network is kept in, as trained on a set of classes up to a stage.

    >>> checkpoint_name("lenet", "cifar10", "late")
    'lenet--cifar10--late.safetensors'
    """
    return f"{name}--{vocabulary}--{stage}.safetensors"


def save(
    model: TargetModel, checkpoint: Path, *, epochs: float, accuracy: float, validation: Validation | None = None
) -> None:
    """Write the weights, running BatchNorm statistics included, with how they came about as metadata.

    What validation tells is left out for more than `MOST_CLASSES`.
    """
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    training: dict[str, Any] = {"epochs": round(epochs, 3), "accuracy": round(accuracy, 4)}
    if validation is not None and model.head.out_features <= MOST_CLASSES:
        training["validation"] = validation.to_json()
    # One entry alone: safetensors writes several in random order, and the same training must give the same file.
    save_file(state, checkpoint, {"training": json.dumps(training)})


def _training(checkpoint: Path) -> Any:
    """What a checkpoint says of its training. Raises `KeyError` or `ValueError` where it says nothing readable."""
    with safe_open(checkpoint, "pt") as file:
        return json.loads((file.metadata() or {})["training"])


def _validation(checkpoint: Path, classes: int) -> Validation | None:
    """What a checkpoint says that its network predicts for each class, if it does."""
    try:
        return Validation.from_json(_training(checkpoint)["validation"], classes)
    except (KeyError, TypeError, ValueError):
        return None


def describe(checkpoint: Path) -> str:
    """What a checkpoint says of its training, such as "3 epochs, 65 % accuracy"; never fails, for lists."""
    try:
        training = _training(checkpoint)
        epochs, accuracy = round(training["epochs"], 2), training["accuracy"]
        return f"{epochs:g} epoch{'' if epochs == 1 else 's'}, {100 * accuracy:.0f} % accuracy"
    except (OSError, SafetensorError):
        return "unreadable"
    except (KeyError, TypeError, ValueError):
        return "training unknown"


def note(stage: str, checkpoint: Path | None) -> str:
    """A training stage in words.

    >>> note("untrained", None)
    'untrained'
    """
    return f"{stage}: {describe(checkpoint)}" if checkpoint else stage


def misfit(model: TargetModel, checkpoint: Path) -> str | None:
    """Why a checkpoint's weights are not those of a network, as one sentence; None where each has its place.

    Reads no weights, only their shapes: the network may be on the device "meta".
    """
    try:
        with safe_open(checkpoint, "pt") as file:
            names = file.keys()
            saved = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (OSError, SafetensorError) as error:
        return f"{checkpoint.name} cannot be read as safetensors ({error}); train it again, or take stage untrained."
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    differing = {name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name)}
    if not differing:
        return None
    if differing == {"head.bias"}:
        has, lacks = ("a", "none") if "head.bias" in saved else ("no", "one")
        return (
            f"{checkpoint.name} was trained with {has} bias in the last layer, head_bias asks for {lacks}; "
            "change it, or take stage untrained."
        )
    if differing == {"head.weight"} and saved["head.weight"][0] == model.head.out_features:
        sizes = range(32, 225)  # those a scenario may have
        fitting = (size for size in sizes if feature_dimension(model.body, size) == saved["head.weight"][1])
        if size := next(fitting, None):
            return f"{checkpoint.name} was trained for an image_size of {size}; take that, or stage untrained."
    first = min(differing)
    return (
        f"{checkpoint.name} does not fit this network: {first} is {_shape(saved.get(first))} in the file and should be "
        f"{_shape(wanted.get(first))}; train it again, or take stage untrained."
    )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "a single number"
