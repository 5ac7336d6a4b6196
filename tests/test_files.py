"""Data sets from files: what is found in them, decoded once, verified, and clear errors for what cannot be read."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from fitnets.data.files import folder, hub
from fitnets.data.identity import DataError, content, problem_with_path
from fitnets.data.images import split
from fitnets.data.inventory import inventory
from fitnets.data.module import DataModule
from fitnets.plan import plan
from tests.conftest import ROOT, composed, faked_folder, faked_images, faked_parquet, go

SHARED = ROOT.parent / "shared" / "data"


def test_parquet_columns_classes_and_shapes_are_found(tmp_path: Path) -> None:
    for column, channels in (("image", 1), ("img", 3)):
        path = faked_parquet(tmp_path / column, size=9, channels=channels, column=column)
        images = hub(str(path), 0, str(tmp_path / "cache"))
        assert images.images.shape == (60, channels, 9, 9) and images.images.dtype == torch.uint8
        assert images.test_images.shape == (30, channels, 9, 9)
        assert images.class_names == tuple(f"class {i}" for i in range(10))
        assert images.labels.tolist() == [i % 10 for i in range(60)]
        label = int(images.labels[3])
        rows = images.images[3].float().mean((0, 2))
        assert rows.argmax().item() in (label * 9 // 10, label * 9 // 10 + 1), "the bar is where its class says"


def test_decoded_once_and_again_when_a_kept_file_is_damaged(tmp_path: Path, monkeypatch, capsys) -> None:
    path, opened = faked_parquet(tmp_path / "data"), []
    open_image = Image.open
    monkeypatch.setattr(Image, "open", lambda file, **how: opened.append(file) or open_image(file, **how))
    first = hub(str(path), 0, str(tmp_path / "cache"))
    once = len(opened)
    again = hub(str(path), 0, str(tmp_path / "cache"))
    assert len(opened) == once >= 90 and torch.equal(first.images, again.images), "once"
    expected = first.test_images.clone()  # the tensors are mapped from the kept files
    (kept,) = (tmp_path / "cache").glob("*.safetensors")
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    kept.write_bytes(damaged)
    assert torch.equal(hub(str(path), 0, str(tmp_path / "cache")).test_images, expected)
    assert len(opened) == 2 * once and str(kept) in capsys.readouterr().err
    kept.unlink()
    assert torch.equal(hub(str(path), 0, str(tmp_path / "cache")).test_images, expected)


def nothing_kept(cache: Path) -> bool:
    return not [file for file in cache.glob("*") if file.suffix != ".lock"]


def test_a_copy_elsewhere_is_the_same_data_and_a_changed_file_is_not(tmp_path: Path) -> None:
    here, there = faked_parquet(tmp_path / "a"), faked_parquet(tmp_path / "b" / "c")
    one, two = (composed("stage=backprop", "dataset=hub", f"dataset.path={p}") for p in (here, there))
    assert plan(one)[0].fingerprint == plan(two)[0].fingerprint
    faked_parquet(tmp_path / "d", n=70)
    assert content(str(tmp_path / "d")) != content(str(here))


def test_a_truncated_file_is_one_clear_error_and_leaves_no_cache(tmp_path: Path) -> None:
    path = faked_parquet(tmp_path / "data")
    (file,) = path.glob("train-*")
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(DataError, match=r"train-00000-of-00001\.parquet is no readable Parquet file"):
        hub(str(path), 0, str(tmp_path / "cache"))
    assert nothing_kept(tmp_path / "cache")


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    path = faked_parquet(tmp_path / "data")
    images, labels = faked_images(20, 8, 3, 0)
    images[7] = images[7][:30]
    table = pa.table({"image": [{"bytes": image, "path": None} for image in images], "label": labels})
    pq.write_table(table, path / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match="image 7 of the test part"):
        hub(str(path), 0, str(tmp_path / "cache"))
    assert nothing_kept(tmp_path / "cache")


def test_missing_parts_and_ambiguous_columns_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no train-\*\.parquet"):
        hub(str(tmp_path / "empty"), 0, str(tmp_path / "cache"))
    path = faked_parquet(tmp_path / "two")
    images, labels = faked_images(20, 8, 3, 0)
    column = [{"bytes": image, "path": None} for image in images]
    pq.write_table(pa.table({"image": column, "fine": labels, "coarse": labels}), path / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"type dataset\.label_column=NAME"):
        hub(str(path), 0, str(tmp_path / "cache"))


def test_without_a_test_part_one_is_held_out_class_balanced(tmp_path: Path) -> None:
    path = faked_parquet(tmp_path / "data")
    next(path.glob("test-*")).unlink()
    images = hub(str(path), 0, str(tmp_path / "cache"), test_fraction=0.5)
    assert images.test_labels.bincount().tolist() == [3] * 10 and len(images.labels) == 30


def test_class_folders_of_any_size(tmp_path: Path) -> None:
    path = faked_folder(tmp_path / "a")
    images = folder(str(path), 0, str(tmp_path / "cache"), size=12)
    assert images.images.shape == (60, 3, 12, 12) and images.test_images.shape == (60, 3, 12, 12)
    assert images.class_names == tuple(f"kind {i}" for i in range(10))
    with pytest.raises(DataError, match=r"different sizes.*type dataset\.size=32"):
        folder(str(path), 0, str(tmp_path / "cache"))
    flat = faked_folder(tmp_path / "b", parts=())
    split = folder(str(flat), 0, str(tmp_path / "cache"), size=12, test_fraction=0.5)
    assert len(split.labels) == len(split.test_labels) == 30
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        folder(str(tmp_path / "none"), 0, str(tmp_path / "cache"))


def test_a_set_loaded_through_hugging_face_datasets_is_the_same(tmp_path: Path, monkeypatch) -> None:
    datasets = pytest.importorskip("datasets")
    path = faked_parquet(tmp_path / "data")
    local = hub(str(path), 0, str(tmp_path / "cache"))
    load = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config: load(str(path), cache_dir=str(tmp_path / "hf")))
    remote = hub("owner/name", 0, str(tmp_path / "cache"))
    assert torch.equal(local.images, remote.images) and torch.equal(local.test_labels, remote.test_labels)
    assert local.class_names == remote.class_names


def test_a_hub_that_cannot_be_reached_says_what_to_type(tmp_path: Path, monkeypatch) -> None:
    datasets = pytest.importorskip("datasets")

    def unreachable(name: str, config: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError, match=r"no route to host.*type dataset\.path=FOLDER"):
        hub("owner/name", 0, str(tmp_path / "cache"))


def test_paths_are_checked_before_anything_is_imported() -> None:
    assert problem_with_path("ylecun/mnist") is None and problem_with_path(str(ROOT)) is None
    assert "no such folder" in (problem_with_path("/nowhere/at/all") or "")
    assert "dataset.path" in (problem_with_path(None) or "")


def test_the_papers_splits_are_the_last_images(tmp_path: Path) -> None:
    cfg = composed("dataset=mnist", f"dataset.path={faked_parquet(tmp_path / 'd')}", f"runs_dir={tmp_path}")
    _, train, val = split(cfg["dataset"], 0)
    assert train.tolist() == list(range(50)) and val.tolist() == list(range(50, 60))


def test_a_comparison_runs_on_class_folders_and_says_what_they_hold(tmp_path: Path, capsys) -> None:
    small = ["teacher.net.widths=[8,12]", "student.net.blocks=[[4,4],[6,6],[8,8]]", "batch_size=16", "seeds=[0,1]"]
    epochs = ["epochs.teacher=1", "epochs.hint=1", "epochs.kd=1", "dataset.size=12", "teacher.recipe.batch_size=16"]
    path = faked_folder(tmp_path / "pictures")
    cfg = composed(
        "dataset=folder",
        f"dataset.path={path}",
        "stage.arms=[kd]",
        *small,
        *epochs,
        f"runs_dir={tmp_path}/runs",
        "trainer=cpu",
    )
    (path / "test" / "kind 3" / "again.png").write_bytes((path / "train" / "kind 3" / "0-3.png").read_bytes())
    go(cfg)
    said = capsys.readouterr().out
    assert "Data: folder, 10 classes, 50 + 10 + 61 pictures (train + validation + test), 12x12 colour\n" in said
    assert said.count("Data: folder") == 1 and "by class: kind 0 12, kind 1 12" in said and "sizes " in said
    repeated = "NOTE: pictures of test that are in train too: 1 (test/kind 3/again.png = train/kind 3/0-3.png)"
    (table,) = tmp_path.glob("runs/reports/compare-thin_deep-folder-*/table.md")
    assert repeated in said and repeated in table.read_text()
    page = table.with_name("page.html").read_text()
    assert "kind 3" in page and "61 test" in page and "test/kind 3/again.png" in page
    for result in tmp_path.glob("runs/*/result.json"):
        found = json.loads(result.read_text())["data"]
        assert found["classes"]["kind 3"] == {"train": 5, "validation": 1, "test": 7}
        assert found["files"]["formats"] == {"PNG": 121} and found["repeated"]["test in train"]["count"] == 1


# Pictures and splits of the real sets, by name, val_split and labels, as the tables in docs/results.md were made
REAL = {
    ("mnist", "last", 50): "e02c831c",
    ("mnist", "balanced", 500): "e5a711b4",
    ("cifar10", "last", 50): "6a2546e5",
    ("cifar10", "balanced", 500): "ceca9a04",
}


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the shared data are not beside this checkout")
@pytest.mark.parametrize(("name", "channels", "size", "train"), [("mnist", 1, 28, 60_000), ("cifar10", 3, 32, 50_000)])
def test_the_real_sets(tmp_path_factory, name: str, channels: int, size: int, train: int) -> None:
    dataset = composed(f"dataset={name}", f"dataset.path={SHARED / name}")["dataset"]
    dataset = dataset | {"cache_dir": str(tmp_path_factory.mktemp("cache"))}
    for val_split, labels in (("last", 50), ("balanced", 500)):
        data = DataModule(dataset | {"val_split": val_split}, 0, 64, 0, labels=labels)
        data.setup()
        images = data.images
        assert images.images.shape == (train, channels, size, size) and images.test_images.shape[0] == 10_000
        assert len(images.class_names) == 10 and images.test_labels.bincount().min() >= 892
        mean = images.images.float().mean().item()
        assert mean == pytest.approx({"mnist": 33.3, "cifar10": 120.7}[name], abs=1.5)
        seen = hashlib.sha256()
        for tensor in (images.images, images.labels, images.test_images, images.test_labels, *data.as_split):
            seen.update(tensor.numpy().tobytes())
        seen.update(data.labelled_index.numpy().tobytes())
        assert seen.hexdigest()[:8] == REAL[name, val_split, labels]
    found = inventory(images, *data.as_split)
    assert found["repeated"] == {} and not found["uneven"] and found["notes"] == []
