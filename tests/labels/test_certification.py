"""Label counts that prove themselves: rounding and candidates against naive references, proofs on real networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepleak_core.data.batches import load_batch
from deepleak_core.errors import CannotSeparate, NotSeparated
from deepleak_core.features.last_layer import LastLayer
from deepleak_core.features.separate import Disaggregation, disaggregate
from deepleak_core.federated import client
from deepleak_core.federated.case import local_training_of, target_model
from deepleak_core.labels import certification as verification
from deepleak_core.labels.certification import classes_shown, round_counts, verify
from deepleak_core.labels.strategies import Knowledge, ilrg, infer, zero_shot
from deepleak_core.scenario import Scenario
from tests.features.test_one_by_one import last_layer

# ------------------------------------------------------------------------------------------------------ rounding


def greedy(real: list[float], total: int) -> list[float]:
    """What the paper's rule leaves, sorted: the largest remaining estimate is taken, `total` times."""
    remaining = list(real)
    for _ in range(total):
        remaining[max(range(len(real)), key=lambda i: remaining[i])] -= 1
    return sorted(remaining)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12), st.integers(0, 80))
def test_rounding_leaves_what_the_greedy_rule_leaves(real: list[float], total: int) -> None:
    counts = round_counts(torch.tensor(real, dtype=torch.float64), total).tolist()
    assert sum(counts) == total and min(counts) >= 0
    remaining = sorted(r - c for r, c in zip(real, counts, strict=True))
    assert remaining == pytest.approx(greedy(real, total), abs=1e-6)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=12), st.integers(0, 300))
def test_rounding_gives_as_many_as_asked_whatever_the_estimates(real: list[float], total: int) -> None:
    counts = round_counts(torch.tensor(real, dtype=torch.float64), total)
    assert int(counts.sum()) == total and int(counts.min()) >= 0


@pytest.mark.parametrize(
    ("real", "counts"),
    [
        ([float("inf"), 3.0, 0.0], [4, 0, 0]),
        ([1e300, 1e200, 0.0], [4, 0, 0]),
        ([float("nan"), 3.0, 1.0], [0, 3, 1]),
        ([float("-inf"), -7.0, -5.0], [0, 1, 3]),
    ],
)
def test_rounding_estimates_out_of_all_bounds(real: list[float], counts: list[int]) -> None:
    assert round_counts(torch.tensor(real, dtype=torch.float64), 4).tolist() == counts


def test_rounding_takes_at_once_what_is_surely_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """For thousands of images only ties are left to be taken one by one."""
    taken = []
    argmax = Tensor.argmax
    monkeypatch.setattr(Tensor, "argmax", lambda self, *a, **k: taken.append(1) or argmax(self, *a, **k))
    real = torch.rand(100, generator=torch.Generator().manual_seed(0)).double() * 80
    assert int(round_counts(real, 4096).sum()) == 4096
    assert len(taken) <= 100


# -------------------------------------------------------------------------------------------------------- proofs


BATCHES = {"distinct": (0, 1, 3, 4), "a pair": (0, 1, 4, 5), "one class": (4, 5, 7, 19)}


def knowledge(scenario: Scenario, noise: float = 0.0) -> tuple[Knowledge, Tensor]:
    """What the server knows of a batch, and its true counts; `noise` in units of each tensor's standard deviation."""
    batch, model = load_batch(scenario), target_model(scenario)
    update = client.share(model, batch.images, batch.labels, local_training_of(scenario))
    generator = torch.Generator().manual_seed(0)
    noisy = {n: t + noise * t.std() * torch.randn(t.shape, generator=generator) for n, t in update.tensors.items()}
    update = replace(update, tensors=noisy if noise else update.tensors)
    counts = torch.bincount(batch.labels, minlength=len(batch.class_names))
    return Knowledge.of(model, update, image_size=scenario.image_size, seed=0), counts


def estimates(known: Knowledge) -> list[Tensor]:
    return [zero_shot(known).real_counts, ilrg(known).real_counts]


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize(
    "trained", [("lenet64-elu", "late"), ("lenet64-relu", "early"), ("resnet20", "late"), ("lenet", "untrained")]
)
def test_the_truth_is_proven(trained: tuple[str, str], batch: tuple[int, ...]) -> None:
    known, truth = knowledge(Scenario(model=trained[0], stage=trained[1], indices=batch))
    verdict = verify(known.last_layer, 4, estimates(known))
    assert verdict.proven and torch.equal(verdict.counts, truth)
    assert verdict.separated is not None and torch.equal(torch.bincount(verdict.separated.labels, minlength=10), truth)
    with torch.no_grad():
        features = known.model.features(load_batch(Scenario(indices=batch)).images).double()
    distance = torch.cdist(verdict.separated.features, features) / features.norm(dim=1)
    assert distance.amin(0).max() < 0.05, "proven by features that are not the images'"


def after_relu(images: int, classes: int, *, repeats: int = 2) -> tuple[Tensor, Tensor, LastLayer]:
    """Features (K, D) as after ReLU, labels (K,), the first `repeats` of them alike, and the layer."""
    generator = torch.Generator().manual_seed(images)
    features = (torch.randn(600, generator=generator) + torch.randn(images, 600, generator=generator)).relu().double()
    labels = torch.arange(images)
    labels[:repeats] = classes - 1
    return features, labels, last_layer(features, labels, classes=classes, floor=0.0)


def test_forty_images_with_repeats_are_proven_whatever_the_estimates_say() -> None:
    _, labels, layer = after_relu(40, 60, repeats=5)
    verdict = verify(layer, 40, [torch.ones(60), torch.arange(60.0)], seconds=300)
    assert verdict.proven and torch.equal(verdict.counts, torch.bincount(labels, minlength=60))


def after_elu(images: int, classes: int) -> tuple[Tensor, Tensor, LastLayer]:
    """Features (K, D) as after ELU, labels (K,), the first four of them alike, and the layer."""
    generator = torch.Generator().manual_seed(images)
    common = torch.randn(1500, generator=generator) / 2
    features = torch.nn.functional.elu(common + torch.randn(images, 1500, generator=generator)).double()
    labels = torch.arange(images)
    labels[:4] = classes - 1
    return features, labels, last_layer(features, labels, classes=classes, floor=-1.0, smooth=True)


@pytest.mark.parametrize(("images", "classes"), [(8, 20), (40, 60)])
def test_images_with_smooth_features_are_proven_without_linear_programs(
    images: int, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, labels, layer = after_elu(images, classes)
    monkeypatch.setattr(verification, "largest_simplices", lambda *_, **__: pytest.fail("not needed"))
    verdict = verify(layer, images, [torch.ones(classes), torch.arange(float(classes))], seconds=300)
    assert verdict.proven and torch.equal(verdict.counts, torch.bincount(labels, minlength=classes))


def test_labels_of_many_images_are_told_even_if_their_proof_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    _, labels, layer = after_elu(40, 60)
    search = verification._Verification(layer, 40, [torch.ones(60)], seconds=300)
    monkeypatch.setattr(search, "proof_of", lambda _: setattr(search, "stop", lambda: True))
    monkeypatch.setattr(search, "completed", lambda *_: None)
    verdict = search.verdict(thorough=True)
    assert not verdict.proven
    assert torch.equal(verdict.counts, torch.bincount(labels, minlength=60))


def test_more_images_than_can_be_solved_for_together_are_not_judged_at_length(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, layer = after_elu(40, 60)
    search = verification._Verification(layer, 40, [torch.ones(60)])
    search.remember(search.factors.coordinates(features)[None], torch.zeros(1))
    assert search.best == [tuple(labels.sort().values.tolist())]
    monkeypatch.setattr(verification, "solve_together", lambda *_, **__: pytest.fail("it would take minutes"))
    assert search.judge() is None


def test_more_images_than_there_is_room_for_do_not_move_together(monkeypatch: pytest.MonkeyPatch) -> None:
    search = verification._Verification(after_elu(12, 20)[2], 12, [torch.ones(20)])
    monkeypatch.setattr(verification, "ROOM", 12**2 * 20 - 1)
    monkeypatch.setattr(verification, "independent_images", lambda *_, **__: pytest.fail("there is no room"))
    assert search.independent() is None


def test_a_corner_is_known_to_be_an_image_whatever_the_others_are() -> None:
    features, labels, layer = after_relu(8, 20)
    search = verification._Verification(layer, 8, [torch.ones(20)])
    truth = search.factors.coordinates(features)
    alone, read = search.images_alone(torch.cat([truth[:5], truth[5:].mean(0, keepdim=True)]))
    assert alone.tolist() == [True] * 5 + [False]
    assert torch.equal(read[:5], labels[:5])


@pytest.mark.parametrize("known", [7, 4])
def test_images_that_are_no_corners_are_found_without_those_that_are(known: int) -> None:
    features, labels, layer = after_relu(8, 20)
    search = verification._Verification(layer, 8, [torch.ones(20)])
    verdict = search.completed(search.factors.coordinates(features[:known]), labels[:known])
    assert verdict is not None and verdict.proven
    assert torch.equal(verdict.counts, torch.bincount(labels, minlength=20))
    wrong = search.completed(search.factors.coordinates(features[:known]), (labels[:known] + 1) % 20)
    assert wrong is None
    assert search.completed(search.factors.coordinates(features), labels) is None, "nothing is left to be found"


@pytest.mark.parametrize("solvable", [8, 7])
def test_many_images_of_which_one_is_lost_are_not_solved_for_together(
    monkeypatch: pytest.MonkeyPatch, solvable: int
) -> None:
    """That takes minutes, whatever the time that is left."""
    features, labels, layer = after_relu(8, 20)
    search = verification._Verification(layer, 8, [torch.ones(20)])
    monkeypatch.setattr(verification, "SOLVABLE", solvable)
    monkeypatch.setattr(Disaggregation, "clear", False)
    assert search.proof_with(features, labels, 0) is None and search.unclear
    assert bool(search.solutions) == (solvable == 8)


def test_eight_images_of_an_untrained_network() -> None:
    known, truth = knowledge(Scenario(model="lenet64-elu", indices=tuple(range(8))))
    verdict = verify(known.last_layer, 8, estimates(known))
    assert verdict.proven and torch.equal(verdict.counts, truth)


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10_000))
def test_estimates_far_off_do_not_mislead(seed: int) -> None:
    """Three images are found whatever is believed of their labels."""
    known, truth = knowledge(Scenario(model="lenet64-elu", stage="late", indices=(4, 5, 1)))
    guesses = 3 * torch.rand(2, 10, generator=torch.Generator().manual_seed(seed)).double()
    verdict = verify(known.last_layer, 3, list(guesses), seed=seed)
    assert verdict.proven and torch.equal(verdict.counts, truth)


@pytest.mark.parametrize("model", ["lenet64-elu", "lenet64-relu"])
def test_any_of_many_classes_is_found_whatever_one_estimate_says(model: str) -> None:
    known, truth = knowledge(Scenario(dataset="cifar100-samples", model=model, indices=(0, 3, 7, 8)))
    guess = torch.where(truth > 0, -1.0, 1.0).double()  # the classes of the batch are the last to be thought of
    verdict = verify(known.last_layer, 4, [guess])
    assert verdict.proven and torch.equal(verdict.counts, truth)


@pytest.mark.parametrize("noise", [1e-2, 1.0])
@pytest.mark.parametrize("indices", [(4,), (4, 5)])
def test_a_noisy_gradient_proves_nothing(indices: tuple[int, ...], noise: float) -> None:
    known, _ = knowledge(Scenario(model="lenet64-elu", stage="late", indices=indices), noise)
    verdict = verify(known.last_layer, len(indices), estimates(known))
    assert not verdict.proven and int(verdict.counts.sum()) == len(indices)


@pytest.mark.parametrize("noise", [1e-6, 1e-4, 1e-3])
def test_faint_noise_never_proves_wrong_counts(noise: float) -> None:
    known, truth = knowledge(Scenario(model="lenet64-elu", stage="late", indices=(4, 5)), noise)
    verdict = verify(known.last_layer, 2, estimates(known))
    assert torch.equal(verdict.counts, truth) or not verdict.proven


def test_a_single_image_that_fits_no_label_is_not_proven() -> None:
    """Every label was looked at before the search is over: there is none left to exchange."""
    known, _ = knowledge(Scenario(model="lenet", indices=(4,)))
    random = torch.randn(known.weight.shape, generator=torch.Generator().manual_seed(0)).double()
    layer = replace(known.last_layer, weight_gradient=random)
    verdict = verify(layer, 1, [torch.rand(10).double(), torch.rand(10).double()])
    assert not verdict.proven and int(verdict.counts.sum()) == 1


def test_without_time_nothing_is_proven_but_an_answer_is_given() -> None:
    known, truth = knowledge(Scenario(model="lenet64-elu", stage="late", indices=(4, 5, 7, 19)))
    for patience in ({"seconds": 0.0}, {"stop": lambda: True}):
        verdict = verify(known.last_layer, 4, estimates(known), **patience)
        assert not verdict.proven and int(verdict.counts.sum()) == 4
    assert torch.equal(verify(known.last_layer, 4, estimates(known)).counts, truth)


@pytest.mark.parametrize("model", ["lenet64-relu", "lenet64-elu"])
def test_nine_images_of_ten_classes_of_a_trained_network_are_proven(model: str) -> None:
    known, truth = knowledge(Scenario(model=model, stage="late", indices=(0, 1, 2, 4, 5, 7, 8, 12, 19)))
    verdict = verify(known.last_layer, 9, estimates(known))
    assert verdict.proven and torch.equal(verdict.counts, truth)


def test_labels_are_searched_where_features_are_few_and_no_corner_is_sharp() -> None:
    """ResNet-20 has 64 features, each an average over a picture: eight images of ten classes."""
    known, truth = knowledge(Scenario(model="resnet20", stage="early", indices=(0, 1, 2, 4, 5, 7, 8, 12)))
    verdict = verify(known.last_layer, 8, estimates(known))
    assert verdict.proven and torch.equal(verdict.counts, truth)


def search_near_the_truth(model: str, lost: int, seed: int = 0) -> tuple[verification._Verification, Tensor]:
    """A search of eight images whose one solution is the truth, but for `lost` images that are none at all."""
    indices = (0, 1, 2, 4, 5, 7, 8, 12)
    known, truth = knowledge(Scenario(model=model, stage="early", indices=indices))
    search = verification._Verification(known.last_layer, 8, estimates(known), seed=seed)
    batch = load_batch(Scenario(indices=indices))
    with torch.no_grad():
        m = search.factors.coordinates(known.model.features(batch.images[batch.labels.argsort()]).double())
    m[[2, 5][:lost]] = search.random_starts()[0, :lost]
    search.solutions[tuple(search.labels_read(m[None])[0].tolist())] = 1.0, m
    return search, truth


@pytest.mark.parametrize(("model", "lost", "seed"), [("lenet64-elu", 1, 2), ("resnet20", 2, 0)])
def test_hops_mend_what_other_stages_get_wrong(
    model: str, lost: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, truth = search_near_the_truth(model, lost, seed)
    for stage in ("independent", "largest_simplex", "one_by_one"):
        monkeypatch.setattr(search, stage, lambda: None)
    assert not search.verdict(thorough=False).proven
    verdict = search.verdict(thorough=True)
    assert verdict.proven and torch.equal(verdict.counts, truth)


def test_hops_draw_anew_take_over_and_move() -> None:
    search, _ = search_near_the_truth("resnet20", 0)
    (parent,) = (m for _, m in search.solutions.values())
    other = parent + 0.01
    search.solutions[tuple([9] * 8)] = 2.0, other
    starts = search.hops()
    assert starts.shape == (verification.STARTS, 8, 8) and bool(starts.isfinite().all())
    of_parent, of_other = ((starts[:, :, None] == m).all(3).any(2) for m in (parent, other))
    drawn_anew, taken_over, moved = ((of_parent | of_other)[way::3].sum(1) for way in range(3))
    assert int(drawn_anew.min()) >= 8 - verification.REDRAWN and int(drawn_anew.max()) < 8
    assert int(taken_over.min()) == 8 and int(moved.max()) == 0
    assert bool((of_parent.any(1) & of_other.any(1))[1::3].any()), "images of two solutions come together"


def test_without_a_proof_the_counts_that_explain_best_in_both_measures_win() -> None:
    search, truth = search_near_the_truth("resnet20", 0)
    (true_labels,) = search.solutions
    wrong, unlikely = (3, 3, 3, 5, 6, 6, 8, 8), (3, 5, 5, 6, 6, 6, 8, 8)
    start = search.solutions[true_labels][1] + 1.0
    search.solutions = {true_labels: (1e-5, start), wrong: (1e-6, start), unlikely: (1e-7, start)}
    search.misfits = {true_labels: 2.0, wrong: 100.0, unlikely: 10 * verification.LIKELY}
    search.proof_of = lambda m: None  # type: ignore[method-assign]
    verdict = search.closest()
    assert torch.equal(verdict.counts, truth) and verdict.explained and not verdict.proven
    search.misfits = {}
    for residual, counts in ((0.9, search.counts(wrong)), (1.1, round_counts(search.estimates[-1], 8))):
        search.solutions = {wrong: (8 * verification.MOSTLY * residual, start)}
        verdict = search.closest()
        assert torch.equal(verdict.counts, counts) and not verdict.explained, "most images explained, or too few"


def test_labels_without_a_class_that_shows_are_hopped_from_but_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    known, truth = knowledge(Scenario(model="resnet20", stage="early", indices=(0, 1, 2, 4, 5, 7)))
    search = verification._Verification(known.last_layer, 6, estimates(known))
    search.shown = 6 * (truth == 0).long()  # nothing that is solved for can agree with this
    monkeypatch.setattr(verification, "HOPS", 2)
    starts = []
    monkeypatch.setattr(search, "hops", lambda: starts.append(search.random_starts()) or starts[-1])
    assert search.hopping() is None and search.solutions and not search.possible(1)
    assert len(starts) == 1, "the second round starts from what the first one found"
    assert torch.equal(search.closest().counts, round_counts(search.estimates[-1], 6))


@pytest.mark.parametrize(("shown", "believed"), [([0], True), ([0, 1], True), ([0, 1, 2], False), ([], False)])
def test_every_other_hop_believes_in_few_classes_that_show(
    shown: list[int], believed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, _ = search_near_the_truth("resnet20", 0)
    search.shown = torch.isin(torch.arange(10), torch.tensor(shown)).long()
    among: list[Tensor | None] = []
    monkeypatch.setattr(search, "solve", lambda starts, iterations, classes: among.append(classes))
    monkeypatch.setattr(search, "judge", lambda: None)
    monkeypatch.setattr(verification, "HOPS", 4)
    search.hopping()
    assert [classes is not None for classes in among] == [believed, False, believed, False]
    assert all(torch.equal(classes, search.shown > 0) for classes in among if classes is not None)


@pytest.mark.parametrize("model", ["lenet64-relu", "lenet64-elu", "resnet20"])
def test_classes_that_show_are_in_the_batch(model: str) -> None:
    known, truth = knowledge(Scenario(model=model, stage="early", indices=tuple(range(8))))
    shown = classes_shown(known.last_layer, 8)
    assert (shown <= truth).all() and int(shown.sum()) >= int((truth > 0).sum()) - 2
    assert not classes_shown(replace(known.last_layer, floor=None), 8).any()
    loud = 8 * float(known.last_layer.weight_gradient.abs().max())
    assert not classes_shown(known.last_layer, 8, noise=loud).any()


def test_features_that_no_activation_gives_prove_nothing() -> None:
    """Labels that are wrong for a faint image, explained by features far below the floor of ReLU."""
    known, truth = knowledge(Scenario(model="resnet20", stage="late", indices=(4, 5, 1, 0)))
    with torch.no_grad():
        features = known.model.features(load_batch(Scenario(indices=(4, 5, 1, 0))).images).double()
    labels = load_batch(Scenario(indices=(4, 5, 1, 0))).labels
    start = features[labels.argsort()]
    assert disaggregate(known.last_layer, truth, start=start, tries=0).clear
    raised = replace(known.last_layer, floor=float(features.min()) + float(features.mean()))
    with pytest.raises(NotSeparated, match="as no activation can"):
        disaggregate(raised, truth, start=start, tries=0)


def test_as_many_images_as_classes_cannot_be_told_apart() -> None:
    known, _ = knowledge(Scenario(model="lenet", indices=tuple(range(10))))
    with pytest.raises(CannotSeparate, match="10 images share a last layer of 10 classes"):
        verify(known.last_layer, 10, estimates(known))


def test_one_local_step_is_proven_and_several_are_not() -> None:
    scenario = Scenario(model="lenet64-elu", indices=(4, 5), mode="fedavg", local_batch_size=2)
    for steps in (1, 4):
        known, truth = knowledge(scenario.changed(local_epochs=steps))
        found = infer(known.model, known.update, strategy="verified", image_size=32)
        assert found.proven == (steps == 1)
        assert torch.equal(found.counts, truth)
