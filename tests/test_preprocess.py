"""Preprocessing and augmentation: the paper's whitening, never fitted on test; crops and flips that repeat."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fitnets.data import augment
from fitnets.data.module import DataModule
from fitnets.data.preprocess import fitted, gcn_zca, standardise
from fitnets.load import load_student
from fitnets.plan import plan
from fitnets.store import folder_of, read_result
from tests.conftest import composed, faked_parquet, go

pytestmark = pytest.mark.fast


def correlated(n: int = 400) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, 1, 3, 3, generator=generator)
    x[:, :, 1:] = 0.7 * x[:, :, :2] + 0.3 * x[:, :, 1:]
    return (255 * x).to(torch.uint8)


def test_contrast_normalised_images_have_mean_0_and_the_scale_as_norm() -> None:
    images = correlated()
    plain = gcn_zca(lambda: [images], scale=55.0, zca=False)
    flat = (plain(images).flatten(1) + plain.tensors["mean"]).double()
    assert flat.mean(1).abs().max() < 1e-4
    assert torch.allclose(flat.norm(dim=1), torch.full((400,), 55.0, dtype=torch.double), rtol=1e-5)
    assert torch.isfinite(plain(torch.zeros(2, 1, 3, 3, dtype=torch.uint8))).all(), "a blank image has norm 0"


def test_whitening_is_the_inverse_root_of_the_covariance_with_its_bias() -> None:
    images = correlated()
    flat = 55 * torch.nn.functional.normalize(images.flatten(1).double() - images.flatten(1).double().mean(1, True))
    covariance = torch.cov(flat.T, correction=0)
    expected = torch.linalg.inv(torch.linalg.cholesky(torch.eye(9) * 0.1 + covariance))  # any root whitens
    white = gcn_zca(lambda: images.split(7))(images).flatten(1).double()
    other = (flat - flat.mean(0)) @ expected.T
    assert torch.allclose(torch.cov(white.T, correction=0), gcn_covariance(covariance), atol=1e-3)
    assert torch.allclose(other.norm(dim=1), white.norm(dim=1), rtol=1e-3), "the same up to a rotation"
    zca = gcn_zca(lambda: images.split(7)).tensors["zca"]
    assert torch.allclose(zca, zca.T, atol=1e-6), "ZCA, not PCA: symmetric"


def gcn_covariance(covariance: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors @ torch.diag(values / (values + 0.1)) @ vectors.T


@pytest.mark.parametrize(("fit_on", "parts"), [("train", "train"), ("all", "train and validation")])
def test_fitted_on_what_it_says_and_never_on_test(tmp_path: Path, fit_on: str, parts: str) -> None:
    cfg = composed("dataset=hub", f"dataset.path={faked_parquet(tmp_path / 'd')}", f"runs_dir={tmp_path}")
    data = DataModule(cfg["dataset"], 0, 8, 0, preprocess=cfg["preprocess"] | {"fit_on": fit_on})
    data.setup()
    assert data.images is not None
    index = data.train_index if parts == "train" else torch.arange(60)
    images = data.images.images
    assert torch.equal(data.preprocess.tensors["mean"], standardise(lambda: [images[index]]).tensors["mean"])


def test_whitening_is_kept_on_disk_by_what_decided_it(tmp_path: Path) -> None:
    images = torch.randint(0, 255, (40, 1, 32, 32), dtype=torch.uint8)
    spec = {"_target_": "fitnets.data.preprocess.gcn_zca", "name": "gcn_zca", "scale": 55.0, "fit_on": "all"}
    first = fitted(spec, images, torch.arange(len(images)), str(tmp_path))
    (kept,) = tmp_path.glob("zca-*.safetensors")
    assert torch.equal(fitted(spec, images, torch.arange(len(images)), str(tmp_path))(images), first(images))
    fitted(spec | {"filter_bias": 1.0}, images, torch.arange(len(images)), str(tmp_path))
    fitted(spec, images, torch.arange(30), str(tmp_path))
    assert len(list(tmp_path.glob("zca-*.safetensors"))) == 3 and kept.exists()


def test_a_student_trained_on_whitened_images_loads_with_its_preprocessing(tmp_path: Path) -> None:
    small = ["student.net.blocks=[[4,4],[6,6],[8,8]]", "batch_size=16", "epochs.hint=1", "epochs.kd=2"]
    cfg = composed("stage=backprop", "preprocess=gcn_zca", *small, f"runs_dir={tmp_path}", "trainer=cpu")
    go(cfg)
    run = plan(cfg)[0]
    data = DataModule(cfg["dataset"], 0, 8, 0)
    data.setup()
    assert data.images is not None
    answers = load_student(folder_of(run, tmp_path))(data.images.test_images).argmax(1)
    result = read_result(run, tmp_path)
    assert result is not None
    assert (answers == data.images.test_labels).float().mean().item() == pytest.approx(result["test_accuracy"])


def augmented(x: torch.Tensor, flip: bool, crop: int, seed: int) -> torch.Tensor:
    looks = augment.drawn(len(x), flip, crop, torch.Generator().manual_seed(seed))
    return augment.augmented(x, looks, flip, crop)


def test_standardise_is_the_mean_and_spread_of_all_pixels_of_a_channel() -> None:
    images = torch.randint(256, (50, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    fit = standardise(lambda: images.split(7))
    assert torch.allclose(fit.tensors["mean"].flatten(), images.float().mean((0, 2, 3)))
    assert torch.allclose(fit.tensors["std"].flatten(), images.float().transpose(0, 1).flatten(1).std(1))


@settings(deadline=None, max_examples=30)
@given(crop=st.integers(0, 3), flip=st.booleans(), seed=st.integers(0, 99), size=st.integers(3, 7))
def test_augmented_images_are_windows_of_the_padded_image(crop: int, flip: bool, seed: int, size: int) -> None:
    x = torch.arange(1.0, 1 + 4 * 2 * size * size).view(4, 2, size, size)
    out = augmented(x, flip, crop, seed)
    assert torch.equal(out, augmented(x, flip, crop, seed)), "the same draw for the same seed"
    padded = torch.nn.functional.pad(x, (crop,) * 4)
    for before, after in zip(padded, out, strict=True):
        windows = [
            window if not mirrored else window.flip(-1)
            for top in range(2 * crop + 1)
            for left in range(2 * crop + 1)
            for window in [before[:, top : top + size, left : left + size]]
            for mirrored in ((False, True) if flip else (False,))
        ]
        assert any(torch.equal(after, window) for window in windows)


def test_every_shift_and_side_is_drawn_about_equally() -> None:
    x = torch.zeros(6000, 1, 5, 5)
    x[:, 0, 2, 1] = 1.0
    out = augmented(x, True, 1, seed=3)
    places = out.flatten(1).argmax(1)
    rows = (places // 5).bincount(minlength=5).float() / len(x)
    assert torch.allclose(rows[1:4], torch.full((3,), 1 / 3), atol=0.03)
    assert (places % 5 >= 3).float().mean().item() == pytest.approx(1 / 3, abs=0.03)  # mirrored: columns 2, 3, 4


def test_arms_and_resumed_trainings_see_the_same_augmented_batches() -> None:
    def batches(first_epoch: int) -> list[torch.Tensor]:
        cfg = composed()
        shown = {"flip": True, "crop": 2}
        data = DataModule(cfg["dataset"], 0, 64, 5, augment=shown, first_epoch=first_epoch)
        data.setup()
        return [batch.x for batch in data.train_dataloader()]

    assert all(torch.equal(a, b) for a, b in zip(batches(0), batches(0), strict=True))
    assert not torch.equal(batches(0)[0], batches(1)[0])


def test_evaluation_is_never_augmented() -> None:
    data = DataModule(composed()["dataset"], 0, 64, 0, augment={"flip": True, "crop": 4})
    data.setup()
    plain = DataModule(composed()["dataset"], 0, 64, 0)
    plain.setup()
    for one, other in (
        (data.val_dataloader(), plain.val_dataloader()),
        (data.test_dataloader(), plain.test_dataloader()),
    ):
        assert all(torch.equal(a.x, b.x) for a, b in zip(one, other, strict=True))
