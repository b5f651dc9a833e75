"""Pretrained weights: downloaded once from a server of the test's own, checked, and used as a training stage."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from deepleak_core.errors import DeepLeakError, UnsupportedScenario, WeightsUnavailable
from deepleak_core.events import Downloading, Finished
from deepleak_core.federated import checkpoints, pretrained
from deepleak_core.federated.case import target_model
from deepleak_core.federated.preparation import prepare
from deepleak_core.federated.pretrained import PRETRAINED, STAGE
from deepleak_core.runs.checks import check
from deepleak_core.runs.run import run
from deepleak_core.scenario import Scenario

SCENARIO = Scenario(
    dataset="imagenet-samples",
    model="resnet18",
    stage=STAGE,
    image_size=96,
    batch_size=1,
    max_iterations=1,
    device="cpu",
)


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a line for each."""

    def log_message(self, *_: object) -> None:
        return


@dataclass
class Server:
    """A server of files, its address, and the requests that it had."""

    folder: Path
    address: str


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An HTTP server of a folder, and an empty data folder."""
    monkeypatch.setenv("DEEPLEAK_DATA", str(tmp_path / "data"))
    folder = tmp_path / "served"
    folder.mkdir()
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield Server(folder, f"http://127.0.0.1:{http.server_port}")
    http.shutdown()
    http.server_close()


@pytest.fixture
def theirs(server: Server, monkeypatch: pytest.MonkeyPatch) -> torchvision.models.ResNet:
    """Torchvision's ResNet-18 with random weights, offered by the server as the pretrained ones."""
    torch.manual_seed(3)
    network = torchvision.models.resnet18()
    offer(server, monkeypatch, lambda file: save_file(network.state_dict(), file))
    return network


def offer(server: Server, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], **changed: object) -> None:
    """Serve a file in place of the registered one."""
    file = server.folder / "model.safetensors"
    write(file)
    content = file.read_bytes()
    weights = replace(
        PRETRAINED["resnet18", "imagenet"],
        url=f"{server.address}/model.safetensors", sha256=hashlib.sha256(content).hexdigest(), size=len(content),
    )  # fmt: skip
    monkeypatch.setitem(pretrained.PRETRAINED, ("resnet18", "imagenet"), replace(weights, **changed))


def test_pretrained_weights_are_downloaded_once_and_give_the_same_network(
    server: Server, theirs: torchvision.models.ResNet
) -> None:
    check(SCENARIO)
    reported = list(prepare(SCENARIO))
    assert reported[-1].bytes_done == (server.folder / "model.safetensors").stat().st_size
    (server.folder / "model.safetensors").unlink()
    assert list(prepare(SCENARIO)) == []
    ours, images = target_model(SCENARIO), torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs.eval()(ours.normalise(images)), rtol=1e-4, atol=1e-4)
    (checkpoint,) = checkpoints.own_folder().iterdir()
    assert "70 %" in checkpoints.note(STAGE, checkpoint)
    assert not list((checkpoints.own_folder().parent / "pretrained").iterdir()), "nothing else is kept"


def test_a_run_downloads_them_first(server: Server, theirs: torchvision.models.ResNet) -> None:
    events = list(run(SCENARIO))
    assert isinstance(events[0], Downloading)
    assert isinstance(events[-1], Finished)


def test_the_stage_is_offered_before_it_is_there_where_weights_are_registered(server: Server) -> None:
    assert STAGE in checkpoints.stages("resnet18", "imagenet")
    assert STAGE not in checkpoints.stages("resnet18", "cifar10")
    assert STAGE not in checkpoints.stages("strided", "imagenet")


def test_images_too_small_for_them_are_refused_before_anything_is_downloaded(server: Server) -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        check(SCENARIO.changed(image_size=64))
    assert "64" in str(refusal.value)
    assert "65" in str(refusal.value)


Change = dict[str, object]
FAILURES: dict[str, tuple[Callable[[Path], object], Change, str]] = {
    "another checksum": (lambda file: file.write_bytes(b"x" * 50), {"sha256": "0" * 64}, "checksum"),
    "more bytes than promised": (lambda file: file.write_bytes(b"x" * 50), {"size": 49}, "49"),
    "no safetensors": (lambda file: file.write_bytes(b"pickle" * 50), {}, "safetensors"),
    "another network": (lambda file: save_file({"fc.weight": torch.zeros(2, 2)}, file), {}, "fit"),
}


@pytest.mark.parametrize(("write", "changed", "why"), FAILURES.values(), ids=FAILURES.keys())
def test_files_that_are_not_what_was_promised_are_not_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], changed: Change, why: str
) -> None:
    offer(server, monkeypatch, write, **changed)
    with pytest.raises(WeightsUnavailable) as refusal:
        list(prepare(SCENARIO))
    assert why in str(refusal.value)
    assert "untrained" in str(refusal.value)
    assert not list(checkpoints.own_folder().parent.rglob("*.safetensors"))
    assert not list(checkpoints.own_folder().parent.rglob("*.partial"))


def test_without_a_network_a_sentence_says_what_works(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(server, monkeypatch, lambda file: file.write_bytes(b""), url=f"{server.address}/nowhere")
    with pytest.raises(DeepLeakError) as refusal:
        list(run(SCENARIO))
    assert isinstance(refusal.value, WeightsUnavailable)
    assert all(words in str(refusal.value) for words in (server.address, "404", "untrained", "offline"))


def test_where_no_server_answers_one_plain_sentence_says_so(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/model.safetensors"
        offer(server, monkeypatch, lambda file: file.write_bytes(b""), url=address)
        with pytest.raises(WeightsUnavailable) as refusal:
            list(run(SCENARIO))
    assert str(refusal.value) == pretrained.NO_NETWORK


def test_pretrained_on_other_images_is_refused_with_those_that_work(server: Server) -> None:
    with pytest.raises(UnsupportedScenario, match=r"imagenet-samples.* 65 pixels"):
        check(Scenario(model="resnet18", stage=STAGE))


def test_the_stage_is_not_offered_for_images_that_are_too_small(
    server: Server, theirs: torchvision.models.ResNet
) -> None:
    list(prepare(SCENARIO))
    assert STAGE in checkpoints.stages("resnet18", "imagenet", image_size=96)
    assert STAGE not in checkpoints.stages("resnet18", "imagenet", image_size=64)


def test_a_damaged_checkpoint_is_downloaded_again(server: Server, theirs: torchvision.models.ResNet) -> None:
    list(prepare(SCENARIO))
    (checkpoint,) = checkpoints.own_folder().iterdir()
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert list(prepare(SCENARIO))
    assert checkpoints.defect(checkpoint) is None
