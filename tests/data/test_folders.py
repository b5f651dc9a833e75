"""Own folders of images: as many classes as folders, and nothing outside is read."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepleak_core.data import datasets
from deepleak_core.data.batches import load_batch
from deepleak_core.data.datasets import DATASETS
from deepleak_core.data.folders import folder_classes, folders_to_choose
from deepleak_core.errors import DatasetUnavailable, UnsupportedScenario
from deepleak_core.scenario import Scenario
from deepleak_core.text import escape
from tests.data.pictures import picture, zoo


def own(folder: Path, **values: Any) -> Scenario:
    return Scenario(dataset="folder", images=str(folder), **values)


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    for name, colour in (("owl", "red"), ("elk", "blue"), ("yak", "lime")):
        picture(tmp_path / name / "a.png", colour=colour)
        picture(tmp_path / name / "b.JPG", colour=colour)
    (tmp_path / "elk" / "notes.txt").write_text("no image")
    batch = load_batch(Scenario(dataset="folder", images=str(tmp_path), labels=("yak", "elk", "elk")))
    assert batch.class_names == ("elk", "owl", "yak")
    assert batch.labels.tolist() == [2, 0, 0]
    assert batch.images[0, :, 16, 16].tolist() == pytest.approx([0, 1, 0], abs=0.02)


def test_a_folder_may_borrow_the_classes_of_a_data_set(tmp_path: Path) -> None:
    picture(tmp_path / "005_n01443537_goldfish" / "a.png")
    picture(tmp_path / "Ship" / "a.png")
    batch = load_batch(Scenario(images=str(tmp_path), batch_size=2))
    assert sorted(batch.labels.tolist()) == [5, 8]
    assert batch.class_names == DATASETS["cifar10"].class_names


ALIKE = [
    ("猫", "犬", "鳥"),
    ("кот", "пёс", "птица"),
    ("कि", "कु", "क"),
    ("Cat", "cat", "CAT"),
    ("a b", "a_b", "a-b", "a.b"),
    ("c", "c#", "c++"),
    ("straße", "strasse"),
    ("\u00e9", "e\u0301"),
    ("ﬁ", "fi"),
    ("1", "01", "001"),
    ("10", "2", "0"),
    ("😀", "😃"),
    ("a,b", "a", "b"),
    ("a>b", "a\\b", " a "),
]


@pytest.mark.parametrize("names", ALIKE, ids=repr)
def test_there_are_as_many_classes_as_folders(tmp_path: Path, names: tuple[str, ...]) -> None:
    zoo(tmp_path, *names)
    batch = load_batch(own(tmp_path, batch_size=len(names)))
    assert batch.class_names == tuple(sorted(names))
    assert sorted(batch.labels.tolist()) == list(range(len(names)))
    for label, name in enumerate(batch.class_names):
        by_name = Scenario.from_query(own(tmp_path, labels=(name,)).to_query())
        assert load_batch(by_name).labels.tolist() == [label]
        assert load_batch(own(tmp_path, labels=escape(name))).labels.tolist() == [label]


folder_names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=9)


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.sets(folder_names.filter(lambda name: name[0] != "."), min_size=2, max_size=6))
def test_any_names_make_as_many_classes(tmp_path_factory: pytest.TempPathFactory, names: set[str]) -> None:
    root = zoo(tmp_path_factory.mktemp("zoo"), *names)
    assert folder_classes(root) == tuple(sorted(names))
    assert load_batch(own(root, labels=sorted(names))).labels.tolist() == list(range(len(names)))


def test_an_ambiguous_label_is_refused(tmp_path: Path) -> None:
    zoo(tmp_path, "Cat", "cat", "1", "2")
    assert load_batch(own(tmp_path, labels="cat")).labels.tolist() == [3]
    with pytest.raises(UnsupportedScenario, match=r"'CAT'.* 2 \(Cat\), 3 \(cat\)"):
        load_batch(own(tmp_path, labels="CAT"))
    assert load_batch(own(tmp_path, labels="1")).labels.tolist() == [0]
    with pytest.raises(UnsupportedScenario, match="'0'"):  # no index where names are numbers
        load_batch(own(tmp_path, labels="0"))


@pytest.mark.parametrize("names", [("Cat", "cat"), ("cat", "3"), ("003 cat", "cat"), ("sea lion", "cat")])
def test_two_folders_are_never_one_class_of_a_data_set(tmp_path: Path, names: tuple[str, ...]) -> None:
    zoo(tmp_path, *names)
    with pytest.raises(DatasetUnavailable):
        load_batch(Scenario(images=str(tmp_path), batch_size=1))


def test_hidden_folders_and_files_are_no_part_of_it(tmp_path: Path) -> None:
    zoo(tmp_path, "elk", "owl", ".git")
    picture(tmp_path / "elk" / ".thumbnail.png")
    assert len(datasets.items(own(tmp_path)).labels) == 2
    assert folder_classes(tmp_path) == ("elk", "owl")


@pytest.mark.parametrize("suffix", [".gif", ".JFIF", ".jpe", ".webp", ".Avif"])
def test_images_count_whatever_their_format(tmp_path: Path, suffix: str) -> None:
    zoo(tmp_path, "elk")
    picture(tmp_path / "owl" / f"a{suffix}")
    assert sorted(load_batch(own(tmp_path, batch_size=2)).labels.tolist()) == [0, 1]


# ------------------------------------------------------------------------------------------------------- links


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    zoo(tmp_path, "elk", "owl")
    (tmp_path / "owl" / "b.png").symlink_to("../elk/a.png")
    (tmp_path / "yak").symlink_to("elk")
    assert load_batch(own(tmp_path, labels="owl,owl,yak")).labels.tolist() == [1, 1, 2]
    (tmp_path.parent / "alias").unlink(missing_ok=True)
    (tmp_path.parent / "alias").symlink_to(tmp_path)  # the folder itself may be one
    assert load_batch(own(tmp_path.parent / "alias", labels="owl,yak")).labels.tolist() == [1, 2]


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    outside = picture(tmp_path / "private" / "a.png")
    for name, target in (("file", outside), ("folder", outside.parent), ("up", Path("../.."))):
        root = zoo(tmp_path / name, "elk", "owl")
        (root / ("owl/b.png" if name == "file" else "yak")).symlink_to(target)
        with pytest.raises(DatasetUnavailable, match=r"(owl/b\.png|yak) .* is a link out of this folder"):
            load_batch(own(root, batch_size=1))


def test_folders_to_choose_lie_below_the_given_one(tmp_path: Path) -> None:
    """Links out of it are left out, and what cannot be read or named; links inside are kept."""
    root, elsewhere = tmp_path / "given", zoo(tmp_path / "elsewhere", "elk", "owl")
    kept = zoo(root / "zoo", "elk", "owl")
    (root / "alias").symlink_to("zoo")
    (root / "out").symlink_to(elsewhere)
    (root / "up").symlink_to("..")
    (root / "itself").symlink_to("itself")
    (root / "empty").mkdir()
    zoo(root / ".hidden", "elk", "owl")
    with suppress(OSError):  # not every file system takes such a name
        zoo(Path(os.fsdecode(os.fsencode(root) + b"/\xff")), "elk", "owl")
    assert folders_to_choose(root) == (str(root / "alias"), str(kept))
    assert folders_to_choose(kept) == (str(kept),)
    assert folders_to_choose(tmp_path / "nowhere") == folders_to_choose("\x00") == ()


def test_a_file_that_becomes_a_link_after_listing_is_refused(tmp_path: Path) -> None:
    outside = picture(tmp_path / "private" / "a.png")
    root = zoo(tmp_path / "zoo", "elk", "owl")
    listed = datasets.items(own(root))
    (root / "owl" / "a.png").unlink()
    (root / "owl" / "a.png").symlink_to(outside)
    with pytest.raises(DatasetUnavailable, match=r"owl/a\.png"):
        listed.read(1)


def test_files_and_links_to_nothing_beside_the_class_folders_are_no_classes(tmp_path: Path) -> None:
    zoo(tmp_path, "elk", "owl")
    picture(tmp_path / "cover.png")
    (tmp_path / "yak").symlink_to("yak")
    (tmp_path / "gnu").symlink_to("gone")
    assert folder_classes(tmp_path) == ("elk", "owl")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text")
def test_a_class_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    zoo(tmp_path, "elk", "owl", os.fsdecode(b"\xff\x1b[2J"))
    with pytest.raises(DatasetUnavailable, match="is not UTF-8") as refusal:
        folder_classes(tmp_path)
    assert str(refusal.value).isprintable()


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    zoo(tmp_path, "elk", "owl")
    (tmp_path / "owl" / "b.png").symlink_to("b.png")
    with pytest.raises(DatasetUnavailable, match=r"owl/b\.png"):
        load_batch(own(tmp_path, batch_size=1))


# ---------------------------------------------------------------------------------------------------- refusals


def change_to_text(path: Path) -> None:
    path.write_text("no picture")


@pytest.mark.parametrize("change", [Path.unlink, change_to_text, lambda path: os.truncate(path, 40)])
def test_a_file_that_changes_after_listing_is_named_with_its_folder(tmp_path: Path, change: Any) -> None:
    listed = datasets.items(own(zoo(tmp_path, "elk", "owl")))
    change(tmp_path / "owl" / "a.png")
    listed.read(0)
    with pytest.raises(DatasetUnavailable, match=r"^owl/a\.png could not be read"):
        listed.read(1)


def test_a_class_folder_that_disappears_after_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo(tmp_path, "elk", "owl")
    real = os.scandir

    def without_owl(path: Any) -> Any:
        if Path(path).name == "owl":
            raise FileNotFoundError(2, "No such file or directory")
        return real(path)

    monkeypatch.setattr(os, "scandir", without_owl)
    with pytest.raises(DatasetUnavailable, match=r"owl cannot be read \(No such file"):
        load_batch(own(tmp_path, batch_size=1))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("locked", [".", "owl", "owl/a.png"])
def test_what_must_not_be_read_is_refused(tmp_path: Path, locked: str) -> None:
    zoo(tmp_path, "elk", "owl")
    (tmp_path / locked).chmod(0)
    with pytest.raises(DatasetUnavailable, match="Permission denied"):
        load_batch(own(tmp_path, batch_size=2))
    (tmp_path / locked).chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_a_pipe_among_the_images_is_refused_at_once(tmp_path: Path) -> None:
    zoo(tmp_path, "elk", "owl")
    os.mkfifo(tmp_path / "owl" / "pipe.jpg")
    with pytest.raises(DatasetUnavailable, match=r"owl/pipe\.jpg"):
        load_batch(own(tmp_path, batch_size=1))


def empty(root: Path) -> Path:
    return root


def without_images(root: Path) -> Path:
    (root / "elk").mkdir()
    (root / "owl").mkdir()
    return root


def with_other_files(root: Path) -> Path:
    (without_images(root) / "owl" / "photo.heic").write_text("")
    return root


def one_class(root: Path) -> Path:
    return zoo(root, "elk")


def nowhere(root: Path) -> Path:
    return root / "nowhere"


def a_file(root: Path) -> Path:
    return picture(root / "a.png")


def too_long(root: Path) -> Path:
    return root / ("x" * 5000)


REFUSALS: dict[Callable[[Path], Path], str] = {
    nowhere: "which is no folder",
    a_file: "which is no folder",
    too_long: "which is no folder",
    empty: "has no class folders",
    without_images: "holds no images; accepted are files that end in",
    with_other_files: r"holds no images \(owl/photo\.heic in none of these formats\)",
    one_class: "has one class folder, elk; with one class .* the gradient is zero",
}


@pytest.mark.parametrize(("folder", "words"), REFUSALS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_folders_that_cannot_be_used(tmp_path: Path, folder: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(DatasetUnavailable, match=words) as refusal:
        load_batch(own(folder(tmp_path)))
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize(("dataset", "own"), [("cifar10-samples", "folder"), ("mnist-samples", "grey-folder")])
def test_folders_that_are_no_class_lead_to_the_data_set_of_own_folders(tmp_path: Path, dataset: str, own: str) -> None:
    zoo(tmp_path, "unicorn", "yak")
    with pytest.raises(DatasetUnavailable, match="'unicorn', which is no class here") as refusal:
        load_batch(Scenario(dataset=dataset, images=str(tmp_path)))
    assert f'"{DATASETS[own].title}" (--dataset {own})' in str(refusal.value)
    assert load_batch(Scenario(dataset=own, images=str(tmp_path), batch_size=2)).class_names == ("unicorn", "yak")


def test_names_are_compared_in_composed_form(tmp_path: Path) -> None:
    """Some file systems write an accent as a character of its own; a person who types the name does not."""
    zoo(tmp_path, unicodedata.normalize("NFD", "élan"), "owl")
    assert load_batch(own(tmp_path, labels=unicodedata.normalize("NFC", "élan"))).labels.tolist() == [0]
