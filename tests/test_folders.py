"""Class folders as people have them: a row for each layout, with the classes and parts that come out, or why not."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fitnets.data.identity import DataError, content
from fitnets.data.images import split
from fitnets.data.inventory import inventory, lines_of

pytestmark = pytest.mark.fast

_seeds = iter(range(10**6))  # no two pictures are the same


def pictures(root: Path, count: int = 4, *classes: str) -> None:
    for name in classes or ("a", "b"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            values = np.random.default_rng(next(_seeds)).integers(0, 255, (6, 6), np.uint8)
            Image.fromarray(values).save(root / name / f"{i}.png")


def found_in(root: Path, **options: Any) -> dict[str, Any]:
    """What the inventory says of a folder; its lines too."""
    given = {"_target_": "fitnets.data.files.folder", "path": str(root), "cache_dir": f"{root}.cache", "size": 6}
    found = inventory(*split(given | {"val_fraction": 0.25, "test_fraction": 0.25} | options, 0))
    return found | {"lines": "\n".join(lines_of("folder", found))}


def counts(found: dict[str, Any]) -> tuple[list[str], tuple[int, int, int]]:
    return list(found["classes"]), (found["train"], found["validation"], found["test"])


def parts(train: str, *more: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        pictures(root / train, 8)
        for name in more:
            pictures(root / name, 4)

    return make


def mixed(*layers: tuple[str, int, tuple[str, ...]]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for where, count, classes in layers:
            pictures(root / where, count, *classes)

    return make


USED = {  # a layout -> its classes, and how many pictures train, validation and test have
    "class folders": (mixed(("", 8, ())), "a b", (9, 3, 4)),
    "train and test": (parts("train", "test"), "a b", (12, 4, 8)),
    "train, val and test": (parts("train", "val", "test"), "a b", (16, 8, 8)),
    "training and testing": (parts("training", "testing"), "a b", (12, 4, 8)),
    "capitals": (parts("Train", "VALID", "Test"), "a b", (16, 8, 8)),
    "train and val": (parts("train", "val"), "a b", (12, 8, 4)),
    "training_set and test_set": (parts("training_set", "test_set"), "a b", (12, 4, 8)),
    "seg_train and seg_test": (
        mixed(("seg_train", 8, ()), ("seg_test", 4, ()), ("pred", 3, ("x",))),
        "a b",
        (12, 4, 8),
    ),
    "train2017 and val2017": (parts("train2017", "val2017"), "a b", (12, 8, 4)),
    "Train Images": (parts("Train Images", "Test Images"), "a b", (12, 4, 8)),
    "an old part beside": (parts("train", "train_old", "test"), "a b", (12, 4, 8)),
    "patients in class folders": (mixed(("", 4, ("a/x", "a/y", "b/z", "b/w"))), "a b", (9, 3, 4)),
    "train alone": (parts("train"), "a b", (9, 3, 4)),
    "a class named train": (mixed(("", 4, ("bus", "train"))), "bus train", (4, 2, 2)),
    "classes with such words": (mixed(("", 4, ("test_tube", "train_station"))), "test_tube train_station", (4, 2, 2)),
    "a class named test": (mixed(("", 4, ("control", "test"))), "control test", (4, 2, 2)),
    "another folder beside the parts": (mixed(("train", 4, ()), ("test", 4, ()), ("extra", 3, ())), "a b", (6, 2, 8)),
    "pictures deeper in a class": (mixed(("", 4, ("a/x", "a/y", "b"))), "a b", (7, 2, 3)),
    "a class without a picture": (lambda root: [pictures(root, 4), (root / "c").mkdir()], "a b", (4, 2, 2)),
    "a class that test has not": (mixed(("train", 4, ("a", "b", "c")), ("test", 4, ("a", "b"))), "a b c", (9, 3, 8)),
    "one name in two writings": (
        mixed(("train", 8, ("\u00e9", "b")), ("test", 4, ("e\u0301", "b"))),
        "b \u00e9",
        (12, 4, 8),
    ),
    "names of any letters": (mixed(("", 4, ("猫", "<b>&'q", "$5"))), "$5 <b>&'q 猫", (6, 3, 3)),
}


@pytest.mark.parametrize("kind", USED)
def test_layouts_that_are_used(kind: str, tmp_path: Path) -> None:
    make, classes, expected = USED[kind]
    make(tmp_path / "d")
    assert counts(found_in(tmp_path / "d")) == (classes.split(), expected)


def flat(root: Path, *names: str) -> None:
    for name in names:
        pictures(root, 3, name)


REFUSED = {
    "nothing": (lambda root: root.mkdir(), "holds no pictures .it is empty"),
    "no pictures": (lambda root: [(root / "a").mkdir(parents=True), (root / "a" / "x.txt").touch()], r"\.txt files"),
    "pictures without folders": (lambda root: pictures(root.parent, 3, root.name), "3 pictures and no folders"),
    "one class": (mixed(("", 4, ("only",))), "one class, only"),
    "one level too many": (mixed(("flowers", 4, ("a", "b"))), r"one class, flowers.*type dataset\.path=.*/flowers"),
    "and inside train": (mixed(("train/flowers", 4, ())), r"type dataset\.path=.*train/flowers"),
    "parts in class folders": (
        mixed(("a", 4, ("train", "test")), ("b", 4, ("train", "test"))),
        r"each of the folders a, b in .* holds test, train",
    ),
    "train without class folders": (lambda root: flat(root, "train", "test"), "outside of class folders"),
    "test without class folders": (
        lambda root: [pictures(root / "train", 4), flat(root, "test")],
        r"test holds pictures outside .*\(3, as 0\.png\).*type dataset\.test_split=none",
    ),
    "two words for parts, with classes": (
        mixed(*((name, 4, ()) for name in ("tr", "te"))),
        "folders te, tr in .* holds a, b",
    ),
    "folds": (mixed(*((f"fold{i}", 4, ()) for i in range(3))), "so it is not clear which are the classes"),
    "masks": (mixed(*((name, 4, ("images", "masks")) for name in "ab")), "holds images, masks"),
    "a part twice": (mixed(("train/train", 8, ()), ("test/test", 4, ())), "move them up, in each part"),
    "one level too many above parts": (
        mixed(("data/train", 4, ()), ("data/test", 4, ())),
        r"type dataset\.path=.*/data$",
    ),
    "a stray picture in a part": (
        lambda root: [pictures(root / "train", 4), pictures(root, 1, "train")],
        r"outside of class folders \(1, as 0\.png\)",
    ),
    "a pipe": (lambda root: [pictures(root, 4), os.mkfifo(root / "a" / "pipe")], "neither a file nor a folder"),
    "a name in another encoding": (
        lambda root: [pictures(root, 4), os.rename(bytes(root / "a"), bytes(root) + b"/caf\xe9")],
        r"not in UTF-8, 'caf\\udce9': rename it",
    ),
    "test_images without class folders": (
        lambda root: [pictures(root / "train_images", 4), flat(root, "test_images")],
        r"test_images holds pictures outside.*type dataset\.test_split=none",
    ),
    "test without train": (parts("test"), "has no train part; it has: test"),
    "two trains": (parts("train", "training"), "train and training, which both mean train"),
    "a class that train has not": (mixed(("train", 4, ("a", "b")), ("test", 4, ("a", "c"))), "that .*train has not: c"),
    "capitals of a class": (mixed(("train", 4, ("a", "b")), ("test", 4, ("a", "B"))), "that .*train has not: B"),
    "a tiny class": (mixed(("", 9, ("a", "b")), ("", 2, ("rare",))), r"too few pictures of rare \(2\).* so 3"),
    "a tiny class beside test": (mixed(("train", 9, ()), ("train", 1, ("c",)), ("test", 2, ())), r"c \(1\).* so 2"),
    "a name in two writings": (mixed(("", 4, ("a", "\u00e9", "e\u0301"))), "two folders \u00e9"),
    "a link to nothing": (lambda root: [pictures(root, 4), (root / "c").symlink_to("/nowhere")], "which is not there"),
    "a link in a circle": (lambda root: [pictures(root, 4), (root / "c").symlink_to(root)], "folder that it lies in"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_layouts_that_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    make, why = REFUSED[kind]
    make(tmp_path / "d")
    with pytest.raises(DataError, match=why):
        found_in(tmp_path / "d")


PARTS_GIVEN = {"train": 16, "val": 4, "test": 3, "holdout": 2}  # pictures of each of two classes


@pytest.mark.parametrize(
    ("test_split", "expected"),
    [
        (None, (32, 8, 6)),
        ("val", (24, 8, 8)),
        ("validation", (24, 8, 8)),
        ("none", (24, 8, 8)),
        ("holdout", (32, 8, 4)),
    ],
)
def test_another_part_to_test_on(test_split: str | None, expected: tuple[int, int, int], tmp_path: Path) -> None:
    for name, count in PARTS_GIVEN.items():
        pictures(tmp_path / "d" / name, count)
    assert counts(found_in(tmp_path / "d", test_split=test_split))[1] == expected
    with pytest.raises(DataError, match=r"test_split is 'nope'.*holdout, test, val: type one of them, or none"):
        found_in(tmp_path / "d", test_split="nope")


def test_hidden_and_strange_files_are_no_data_and_said(tmp_path: Path) -> None:
    pictures(tmp_path / "d", 4)
    names = [".DS_Store", "a/._0.png", "a/notes.txt", "b/Thumbs.db", "loose.png"]
    for name in names:
        (tmp_path / "d" / name).write_bytes((tmp_path / "d/a/0.png").read_bytes() if name.endswith("png") else b"x")
    (tmp_path / "d/.git").mkdir()
    pictures(tmp_path / "d/__MACOSX", 2)
    found = found_in(tmp_path / "d")
    assert counts(found) == (["a", "b"], (4, 2, 2))
    for said in (
        "hidden files (3)",
        "hidden folders (2)",
        ".txt files (1)",
        "pictures in no class folder that is used (1)",
    ):
        assert said in found["lines"], found["lines"]


@pytest.mark.parametrize("name", ["0.jpg", "0", "0.dat", "0.PNG"])
def test_a_picture_is_known_by_its_bytes(name: str, tmp_path: Path) -> None:
    pictures(tmp_path / "d", 4)
    (tmp_path / "d/a/0.png").rename(tmp_path / "d/a" / name)
    assert counts(found_in(tmp_path / "d")) == (["a", "b"], (4, 2, 2))


def test_links_are_data_and_their_content_counts(tmp_path: Path) -> None:
    hashes = []
    for version in ("one", "two"):
        pictures(tmp_path / "store" / version, 4)
        (tmp_path / version).mkdir()
        for name in ("a", "b"):
            (tmp_path / version / name).symlink_to(tmp_path / "store" / version / name)
        assert counts(found_in(tmp_path / version)) == (["a", "b"], (4, 2, 2))
        hashes.append(content(str(tmp_path / version)))
    file = tmp_path / "files/a"
    pictures(tmp_path / "files", 4)
    (file / "4.png").symlink_to(tmp_path / "store/one/a/0.png")
    assert found_in(tmp_path / "files")["classes"]["a"] == {"train": 3, "validation": 1, "test": 1}
    assert len({*hashes, content(str(tmp_path / "store/one"))}) == 2, "a link is what it leads to"


def test_the_same_picture_in_two_parts_is_said(tmp_path: Path) -> None:
    pictures(tmp_path / "d/train", 8)
    pictures(tmp_path / "d/test", 4)
    picture = Image.open(tmp_path / "d/train/a/3.png")
    picture.save(tmp_path / "d/test/a/again.bmp")  # other bytes, the same picture
    picture.save(tmp_path / "d/train/b/twin.png")
    found = found_in(tmp_path / "d")
    assert found["repeated"]["test in train"]["count"] == 1
    assert found["repeated"]["of several classes"]["count"] == 1
    assert "test that are in train too: 1 (test/a/again.bmp = train/" in found["lines"]
    pictures(tmp_path / "clean", 8)
    assert found_in(tmp_path / "clean")["repeated"] == {}


def test_what_may_be_a_mistake_is_noted(tmp_path: Path) -> None:
    pictures(tmp_path / "d", 4, "Cat", "cat", "dog")
    assert "NOTE: classes whose names differ in case or blanks alone: 'Cat', 'cat'" in found_in(tmp_path / "d")["lines"]
    for i in range(8):
        for name in ("a", "b"):
            (tmp_path / "dark" / name).mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng(next(_seeds)).integers(0, 12, (6, 6), np.uint8)
            Image.fromarray(values).save(tmp_path / "dark" / name / f"{i}.png")
    assert "NOTE: pictures are nearly of one brightness: 99 % of their" in found_in(tmp_path / "dark")["lines"]


def test_what_was_found_is_said_in_two_lines(tmp_path: Path) -> None:
    pictures(tmp_path / "d", 10)
    Image.fromarray(np.arange(36, dtype=np.uint16).reshape(6, 6) * 1000).save(tmp_path / "d/a/0.png")
    Image.new("LA", (9, 7), (3, 0)).save(tmp_path / "d/b/0.png")
    lines = found_in(tmp_path / "d")["lines"].splitlines()
    assert lines == [
        "Data: folder, 2 classes, 11 + 4 + 5 pictures (train + validation + test), 6x6 grey",
        "      by class: a 10, b 10; PNG 20; modes L 18, I;16 1, LA 1; sizes 6x6 to 9x7; values 0 to 65535 become 0 to "
        "255; 1 that may be transparent, on white; drawn from train: validation, test",
    ]
