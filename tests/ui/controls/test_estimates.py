"""What the drawer says of a scenario before it is started."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.federated.models import MODELS
from deepleak_core.runs.estimates import Cost, bound_of
from deepleak_core.runs.store import Store
from deepleak_core.scenario import Scenario
from tests.helpers import app_page, checked, page_html, until
from ui import address, backend
from ui.controls.estimates import cost_sentence, suggestion

PHOTOS = {"dataset": "imagenet-samples", "image_size": "64", "model": "strided", "device": "cpu"}


def measured(app: AppTest, words: str) -> str:
    """The page once a measurement has ended."""
    return page_html(until(app, lambda: words in page_html(app)))


def size_of(app: AppTest) -> int:
    """The image size in the address of a page."""
    return address.scenario_of(dict(checked(app).query_params)).image_size


def test_on_a_cpu_the_price_of_every_size_of_a_photo_is_said(store: Store) -> None:
    page = measured(app_page(**PHOTOS), "224 px")
    assert "64 px" in page
    assert "96 px" in page


def test_sizes_that_the_stage_has_no_weights_for_are_neither_priced_nor_offered_it(store: Store) -> None:
    photos = PHOTOS | {"model": "resnet18", "stage": "pretrained", "image_size": "96"}
    app = app_page(**photos)
    assert "Pretrained" in app.selectbox(key="stage").options
    sentence = cost_sentence(Scenario(**photos), FAST)
    assert "64 px" not in sentence
    assert "96 px" in sentence
    app.segmented_control(key="image_size").set_value(64).run()
    assert "Pretrained" not in checked(app).selectbox(key="stage").options


@pytest.mark.parametrize("size", [32, 64, 72])
def test_the_size_that_is_chosen_is_priced_with_those_that_are_offered(size: int) -> None:
    sentence = cost_sentence(Scenario(**PHOTOS | {"image_size": str(size)}), FAST)
    assert sentence.count(f" {size} px") == 1
    assert "224 px" in sentence


def test_small_images_have_no_price(store: Store) -> None:
    app = app_page(device="cpu", composition="distinct")
    assert "image_size" in {widget.key for widget in app.number_input}
    assert " px" not in page_html(app)


@pytest.mark.parametrize("model", ["strided", "lenet64-elu", "resnet20"])
def test_the_exact_attack_says_how_many_images_it_can_solve_for(store: Store, model: str) -> None:
    values = {"dataset": "imagenet-samples", "image_size": 224 if model == "strided" else 64, "model": model}
    scenario = Scenario(attack="exact", **values)
    bound = bound_of(scenario)
    assert bound is not None
    far = bound.images is not None and bound.images >= 2 * scenario.batch_size
    assert (bound.sentence in page_html(app_page(**scenario.to_query()))) != far
    assert bound.sentence not in page_html(app_page(**scenario.changed(attack="dlg").to_query()))


@pytest.mark.parametrize("model", ["convnet", "resnet20"])
def test_the_attack_that_suits_a_deep_network_is_suggested_until_it_is_chosen(store: Store, model: str) -> None:
    suited = MODELS[model].suited_attack
    assert suited is not None
    scenario = Scenario(model=model, device="cpu")
    sentence = suggestion(scenario)
    assert sentence is not None
    assert ATTACKS[suited].title in sentence
    assert sentence in page_html(app_page(**scenario.to_query()))
    assert sentence not in page_html(app_page(**scenario.changed(attack=suited).to_query()))


def test_every_suited_attack_is_one() -> None:
    suited = {network.suited_attack for network in MODELS.values()} - {None}
    assert suited <= set(ATTACKS)
    assert suggestion(Scenario(model="lenet64-elu")) is None


def test_a_data_set_of_photos_brings_its_size_along(store: Store) -> None:
    app = app_page(composition="distinct", batch_size="2")
    app.selectbox(key="dataset").set_value("imagenet-samples").run()
    assert size_of(app) == 64
    app.segmented_control(key="image_size").set_value(224).run()
    assert size_of(app) == 224
    app.selectbox(key="dataset").set_value("cifar10-samples").run()
    assert size_of(app) == 32


def test_any_size_of_a_link_is_kept(store: Store) -> None:
    app = app_page(dataset="imagenet-samples", image_size="72")
    assert size_of(app) == 72


SLOW, FAST = (Cost(body={64: each, 96: 2 * each, 160: 5 * each}, fixed=0.0, head=0.0) for each in (1.0, 1e-6))


@pytest.mark.parametrize(("cost", "limit", "ends"), [(SLOW, "180", True), (SLOW, "none", False), (FAST, "180", False)])
def test_the_limit_of_the_server_is_said_where_an_attack_would_take_longer(
    cost: Cost, limit: str, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPLEAK_MAX_SECONDS", limit)
    backend.limits.clear()
    try:
        assert ("ends after 3 min" in cost_sentence(Scenario(indices=(0,), **PHOTOS), cost)) == ends
    finally:
        backend.limits.clear()
