"""Weights that others trained, downloaded once: the training stage `pretrained` of some networks.

Files are safetensors, held to a size and a checksum before they are read.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError

from safetensors import SafetensorError
from torch import Tensor

from deepleak_core.data.downloads import NETWORK_ERRORS, data_folder, fetch
from deepleak_core.errors import WeightsUnavailable
from deepleak_core.events import Downloading
from deepleak_core.federated.networks.resnet import SMALL
from deepleak_core.federated.tensor_files import read

logger = logging.getLogger(__name__)

STAGE = "pretrained"
NO_NETWORK = "No network: the weights could not be downloaded. Untrained weights and bundled data work."


@dataclass(frozen=True, kw_only=True)
class PretrainedWeights:
    """A file of weights for one network and set of classes.

    Attributes:
        url: its address, of one version.
        sha256: its checksum.
        size: its size in bytes.
        last_layer: what its last layer is called.
        least_size: height in pixels of the smallest images of this network; smaller ones change its first layer.
        epochs: of the training.
        accuracy: top-1 on the validation images, from 0 to 1.
    """

    url: str
    sha256: str
    size: int
    last_layer: str
    least_size: int
    epochs: float
    accuracy: float


PRETRAINED: dict[tuple[str, str], PretrainedWeights] = {
    ("resnet18", "imagenet"): PretrainedWeights(  # torchvision's ResNet18_Weights.IMAGENET1K_V1
        url="https://huggingface.co/timm/resnet18.tv_in1k/resolve/bbd144b3e5565108aad885f145491d11bc6ce807/"
        "model.safetensors",
        sha256="694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
        size=46_807_446,
        last_layer="fc",
        least_size=SMALL + 1,
        epochs=90,
        accuracy=0.69758,
    ),
}


def pretrained(name: str, vocabulary: str) -> PretrainedWeights | None:
    """The weights of a network on a set of classes ("imagenet"), None where there are none."""
    return PRETRAINED.get((name, vocabulary))


def download(name: str, weights: PretrainedWeights) -> Generator[Downloading, None, dict[str, Tensor]]:
    """Download the weights of a network; returns them by their names in a `TargetModel`.

    Raises `WeightsUnavailable` where the network, the checksum or the format fails. The file is not kept.
    """
    folder = data_folder() / "pretrained"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as own:  # other workers may download the same weights
            file = Path(own) / f"{name}.safetensors"
            yield from fetch(f"{name} weights", weights.url, file, sha256=weights.sha256, most_bytes=weights.size)
            tensors = read(file)
    except NETWORK_ERRORS as error:
        if _is_no_answer(error):
            logger.warning("The weights of %s could not be downloaded from %s (%s).", name, weights.url, error)
            raise WeightsUnavailable(NO_NETWORK) from error
        raise WeightsUnavailable(
            f"The pretrained weights of {name} could not be downloaded from {weights.url} ({error}); stage untrained "
            "works offline, and so do the stages of lenet64-elu and resnet20 on CIFAR-10."
        ) from error
    except SafetensorError as error:
        raise WeightsUnavailable(
            f"The pretrained weights of {name} are no safetensors ({error}); take stage untrained."
        ) from error
    return renamed(tensors, weights.last_layer)


def _is_no_answer(error: Exception) -> bool:
    """Whether no server answered, rather than one with something else than was asked for."""
    return isinstance(error, URLError | TimeoutError | ConnectionError) and not isinstance(error, HTTPError)


def renamed(tensors: dict[str, Tensor], last_layer: str) -> dict[str, Tensor]:
    """The tensors of a whole classifier by their names in a `TargetModel`: its last layer is the head.

    >>> import torch
    >>> sorted(renamed({"fc.bias": torch.zeros(2), "conv1.weight": torch.zeros(1)}, "fc"))
    ['body.conv1.weight', 'head.bias']
    """
    named = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        named[f"head.{kind}" if layer == last_layer else f"body.{name}"] = tensor
    return named
