"""Parquet tables as they come: a row for each kind of label, column and file, with what must come out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fitnets.data.files import hub
from fitnets.data.identity import DataError
from tests.conftest import faked_images

pytestmark = pytest.mark.fast

N = 12
PICTURES = [{"bytes": picture, "path": None} for picture in faked_images(3 * N, 6, 1, 0)[0]]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table(labels: Any, first: int = 0, names: list[str] | None = None, **more: Any) -> pa.Table:
    labels = labels if isinstance(labels, pa.Array) else pa.array(labels)
    count = len(labels)
    columns = {"image": pa.array(PICTURES[first : first + count], STRUCT), "label": labels} | more
    made = pa.table(columns)
    if names:
        info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        made = made.replace_schema_metadata({"huggingface": json.dumps(info)})
    return made


def written(root: Path, **parts: pa.Table) -> Path:
    for name, part in parts.items():
        file = root / (name if name.endswith(".parquet") else f"{name}-00000-of-00001.parquet")
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(part, file)
    return root


def read(root: Path, **options: Any) -> Any:
    return hub(str(root), 0, f"{root}.cache", **options)


CODES = [i % 3 for i in range(N)]
WORDS = ["abc"[i] for i in CODES]
LABELS = {  # labels -> the classes that must come out; the first picture is of the first class, and so on
    **{str(kind): (pa.array(CODES, kind), "0 1 2") for kind in (pa.int8(), pa.int64(), pa.uint8(), pa.uint32())},
    **{str(kind): (pa.array(WORDS, kind), "a b c") for kind in (pa.string(), pa.large_string(), pa.string_view())},
    "dictionary of strings": (pa.array(WORDS).dictionary_encode(), "a b c"),
    "dictionary of numbers": (pa.array(CODES).dictionary_encode(), "0 1 2"),
    "dictionary of large strings": (pa.array(WORDS, pa.large_string()).dictionary_encode(), "a b c"),
    "bool": (pa.array([code > 0 for code in CODES]), "False True"),
    "from 1": (pa.array([code + 1 for code in CODES]), "1 2 3"),
    "far apart": (pa.array([code * 500 for code in CODES]), "0 500 1000"),
    "-1 and 1": (pa.array([2 * (code > 0) - 1 for code in CODES]), "-1 1"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_type(kind: str, tmp_path: Path) -> None:
    labels, classes = LABELS[kind]
    images = read(written(tmp_path / "d", train=table(labels), test=table(labels, N)))
    assert images.class_names == tuple(classes.split())
    distinct = sorted(set(labels.to_pylist()))
    assert images.labels.tolist() == [distinct.index(value) for value in labels.to_pylist()]
    assert torch.equal(images.test_labels, images.labels)


def test_whole_decimals_are_labels_where_they_are_named(tmp_path: Path) -> None:
    root = written(tmp_path / "d", train=table(pa.array([float(code) for code in CODES])))
    assert read(root, label_column="label").class_names == ("0", "1", "2")


def test_numbers_mean_what_their_own_file_says(tmp_path: Path) -> None:
    train, test = table(CODES, 0, ["x", "y", "z"]), table(CODES, N, ["z", "y", "x"])
    images = read(written(tmp_path / "d", train=train, test=test))
    assert images.class_names == ("x", "y", "z") and images.labels.tolist() == CODES
    assert images.test_labels.tolist() == [2 - code for code in CODES]
    words = read(written(tmp_path / "e", train=train, test=table(["xyz"[code] for code in CODES], N)))
    assert words.test_labels.tolist() == CODES, "or by the names themselves"
    with pytest.raises(DataError, match="names its classes otherwise than train-00000-of-00002"):
        names = ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet")
        read(written(tmp_path / "f", **dict(zip(names, (train, test), strict=True))))


def test_classes_that_the_file_names(tmp_path: Path) -> None:
    root = written(tmp_path / "d", train=table(CODES, names=["x", "y", "z", "never"]))
    images = read(root)
    assert images.class_names == ("x", "y", "z") and "classes without a picture: never" in images.found["said"]
    extra = table(CODES, names=["x", "y", "z"], id=pa.array(range(N)))
    assert read(written(tmp_path / "e", train=extra)).class_names == ("x", "y", "z"), "the column that has names"


HALF = [0.5] * N
REFUSED = {  # what train and test hold -> why they are refused
    "hidden test": (table(CODES), table([-1] * N, N), r"test part are hidden.*type dataset\.test_split=none"),
    "hidden, with names": (table(CODES, 0, ["x", "y", "z"]), table([-1] * N, N, ["x", "y", "z"]), "are hidden"),
    "null test": (table(CODES), table(pa.nulls(N, pa.int64()), N), "are hidden"),
    "some null": (table([*CODES[:-1], None]), None, r"without a label \(1 of train\)"),
    "some -1": (table([*CODES[:-1], -1]), None, "-1, which stands for no label"),
    "some -1, with names": (table([*CODES[:-1], -1], 0, ["x", "y", "z"]), None, r"outside 0\.\.2.*-1 stands for no"),
    "beyond the names": (table(CODES, 0, ["x", "y"]), None, r"outside 0\.\.1"),
    "another class in test": (table(CODES), table([7] * N, N), "labels that train has not: 7; train has: 0, 1, 2"),
    "measurements": (table(HALF), None, "column label holds 0.5, a measurement"),
    "lists": (table([[1, 2]] * N), None, r"column label holds '\[1, 2\]' .*no class"),
    "no column of labels": (
        table(CODES).rename_columns(["image", "x"]).drop(["x"]),
        None,
        "0 columns could hold the labels",
    ),
    "a label beside others": (table(HALF, patient=pa.array(CODES)), None, "one of: patient, label"),
    "empty words": (table([*WORDS[:-1], ""]), None, r"without a label \(1 of train\)"),
    "a hidden test of words": (table(WORDS), table([""] * N, N), r"test part are hidden.*test_split=none"),
    "words and numbers": (
        table([str(code) for code in CODES]),
        table(CODES, N),
        "has not: 0, 1, 2; train has: '0', '1', '2'",
    ),
    "two names alike": (table(CODES, 0, ["dog", "dog", "cat"]), None, "names two classes alike.*'dog', 'dog', 'cat'"),
    "another name in test": (
        table(CODES, 0, ["x", "y", "z"]),
        table(CODES, N, ["x", "y", "w"]),
        "has not: 'w'; train has: 'x', 'y', 'z'",
    ),
    "damaged metadata": (
        table(CODES).replace_schema_metadata({"huggingface": "{x"}),
        None,
        "metadata .*cannot be read",
    ),
    "two labels": (
        table(CODES, coarse=pa.array(CODES)),
        None,
        r"type dataset\.label_column=NAME, one of: label, coarse",
    ),
    "two pictures": (table(CODES, mask=pa.array(PICTURES[:N], STRUCT)), None, r"type dataset\.image_column=NAME"),
    "no picture": (pa.table({"label": CODES}), None, r"0 columns could hold the images"),
    "a picture without bytes": (
        pa.table({"image": pa.array([{"bytes": None, "path": "x.png"}] * N, STRUCT), "label": CODES}),
        None,
        "image 0 of the train part: it holds no bytes",
    ),
    "no rows": (table(CODES), table(pa.array([], pa.int64())), "the test part has no rows"),
    "one class": (table([1] * N), None, "one class, 1"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_tables_that_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    train, test, why = REFUSED[kind]
    with pytest.raises(DataError, match=why):
        read(written(tmp_path / "d", train=train, **({} if test is None else {"test": test})))


@pytest.mark.parametrize(("test_split", "expected"), [("validation", 4), ("none", 3)])
def test_hidden_labels_are_got_round_as_the_message_says(test_split: str, expected: int, tmp_path: Path) -> None:
    parts = {"train": table(CODES), "validation": table(CODES[:4], N), "test": table([-1] * N, 2 * N)}
    root = written(tmp_path / "d", **parts)
    with pytest.raises(DataError, match=r"type dataset\.test_split=validation or dataset\.test_split=none"):
        read(root)
    images = read(root, test_split=test_split)
    assert len(images.test_labels) == expected and len(images.labels) == (12 if test_split == "validation" else 13)


def test_a_validation_part_is_used_as_one(tmp_path: Path) -> None:
    parts = {"train": table(CODES), "validation": table(CODES[:6], N), "test": table(CODES, 2 * N)}
    images = read(written(tmp_path / "d", **parts))
    assert images.val_index is not None and images.val_index.tolist() == list(range(N, N + 6))
    assert images.labels[images.val_index].tolist() == CODES[:6] and len(images.test_labels) == N


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    other = pa.array(PICTURES[N : 2 * N], STRUCT)
    root = written(tmp_path / "d", train=table(CODES, photo=other, coarse=pa.array([code // 2 for code in CODES])))
    first = read(root, image_column="image", label_column="label")
    second = read(root, image_column="photo", label_column="coarse")
    assert not torch.equal(first.images, second.images) and second.class_names == ("0", "1")
    assert "columns photo and coarse of image, label, photo, coarse" in second.found["said"]
    with pytest.raises(DataError, match=r"dataset\.label_column is 'nope'"):
        read(root, image_column="image", label_column="nope")


FILES = {  # names of a part's files -> what comes out (train, test), or why not
    "as on the hub": (["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"], (12, 12)),
    "several shards": (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"], (19, 5)),
    "plain names": (["train.parquet", "test.parquet"], (12, 12)),
    "in data/": (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], (12, 12)),
    "converted by the hub": (["default/train/0000.parquet", "default/test/0000.parquet"], (12, 12)),
    "no word for a part": (["all.parquet"], (9, 3)),
    "capitals": (["Train.parquet", "TEST.parquet"], (12, 12)),
    "a shard is missing": (["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"], "lacks 1 of the 3 train"),
    "two configs": (["fine/train-00000-of-00001.parquet", "coarse/train-00000-of-00001.parquet"], "type dataset.path="),
    "parts of two configs": (["fine/train.parquet", "coarse/test.parquet"], r"coarse .test\.parquet., fine .train"),
    "a part of an older set": (["train.parquet", "old/test.parquet"], r"in several folders, \. .train"),
    "the word at the end": (["cifar10-train.parquet", "cifar10-test.parquet"], (12, 12)),
    "hive folders": (["split=train/0.parquet", "split=test/0.parquet"], (12, 12)),
    "with a hash": ([f"data/{part}-00000-of-00001-7f2ab1234cd56789.parquet" for part in ("train", "test")], (12, 12)),
    "a shard with a hash is missing": (["train-00000-of-00002-7f2ab1234cd56789.parquet"], "lacks 1 of the 2 train"),
    "shards of two sets": (["train-00000-of-00001.parquet", "train-00000-of-00002.parquet"], "of several sets"),
    "numbered files": (["train_1.parquet", "train_2.parquet"], (19, 5)),
    "an old file beside": (["train.parquet", "train_old.parquet"], (9, 3)),
    "files that say nothing": (["x.parquet", "y.parquet"], "has no train part; it has: x, y"),
    "no train": (["test-00000-of-00001.parquet"], "has no train part; it has: test"),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_as_they_are_named(kind: str, tmp_path: Path) -> None:
    names, expected = FILES[kind]
    root = written(tmp_path / "d", **{name: table(CODES, N * i) for i, name in enumerate(names)})
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            read(root)
        return
    images = read(root)
    assert (len(images.labels), len(images.test_labels)) == expected


def test_shards_with_other_columns_are_refused(tmp_path: Path) -> None:
    names = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    one, two = table(CODES), table(np.array(WORDS))
    root = written(tmp_path / "d", **dict(zip(names, (one, two), strict=True)))
    with pytest.raises(DataError, match="different columns"):
        read(root)
