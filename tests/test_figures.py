"""Calibration, confusion, CKA and shares against values by hand, invariances and torchmetrics; the pictures' files."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error

from fitnets.drawing import brightest, tile
from fitnets.training import cost, pictures
from fitnets.training.figures import (
    BINS,
    brier,
    cka,
    confused,
    confusion,
    ece,
    of_predictions,
    per_class,
    reliability,
    shares,
)
from fitnets.training.measurements import answers_on_test
from tests.trained import pick, trained_stage

SEEDS = st.integers(0, 10_000)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_reliability_and_ece_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.85, 0.15], [0.25, 0.75], [1.0, 0.0]])
    bins = reliability(probabilities, torch.tensor([0, 1, 1, 0]), bins=4)
    assert bins["count"] == [0, 0, 1, 3]  # a bin holds its upper edge: 0.75 is in the third, 1.0 in the last
    assert bins["accuracy"] == pytest.approx([0, 0, 1, 2 / 3])
    assert bins["confidence"] == pytest.approx([0, 0, 0.75, 2.75 / 3])
    assert ece(bins) == pytest.approx((1 * 0.25 + 3 * (2.75 / 3 - 2 / 3)) / 4)


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_ece_is_that_of_torchmetrics(seed: int) -> None:
    probabilities = (2 * drawn(seed, 200, 7)).softmax(1)
    labels = torch.randint(7, (200,), generator=torch.Generator().manual_seed(seed))
    theirs = multiclass_calibration_error(probabilities, labels, 7, n_bins=BINS)
    assert ece(reliability(probabilities, labels)) == pytest.approx(theirs.item(), abs=1e-6)


def test_brier_by_hand() -> None:
    labels = torch.tensor([0, 1])
    assert brier(torch.eye(2), labels) == 0
    assert brier(torch.eye(2).flip(0), labels) == 2
    assert brier(torch.full((2, 2), 0.5), labels) == 0.5


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_calibration_does_not_depend_on_the_order_of_samples(seed: int) -> None:
    logits, labels = drawn(seed, 60, 4), torch.arange(60) % 4
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    first, details = of_predictions(logits, labels)
    second, again = of_predictions(logits[order], labels[order])
    assert second == pytest.approx(first) and again["confusion"] == details["confusion"]
    assert 0 <= first["ece"] <= 1 and 0 <= first["brier"] <= 2
    assert sum(details["reliability"]["count"]) == 60


def test_confusion_and_accuracy_by_class() -> None:
    answers, labels = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 1])
    assert confusion(answers, labels, 3).tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert per_class(answers, labels, 3) == [0.5, 1.0, None]
    assert confused(answers, labels) == [(0, 1, 1)] and confused(labels, labels) == []


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_the_most_confused_pairs_are_the_largest_of_the_matrix(seed: int) -> None:
    answers, labels = torch.randint(5, (2, 90), generator=torch.Generator().manual_seed(seed))
    matrix = confusion(answers, labels, 5)
    found = confused(answers, labels)
    assert all(matrix[true, answer] == count > 0 for true, answer, count in found)
    largest = (matrix - matrix.diag().diag()).flatten().sort(descending=True)[0]
    assert [count for _, _, count in found] == largest[: len(found)].tolist() and largest[len(found) :].sum() == 0


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.floats(0.01, 100))
def test_cka_is_blind_to_turning_scale_and_shift_and_symmetric(seed: int, scale: float) -> None:
    x, y = drawn(seed, 30, 6), drawn(seed + 1, 30, 9)
    turn = torch.linalg.qr(drawn(seed + 2, 6, 6).double())[0].float()
    assert cka(x, scale * (x @ turn) + 3) == pytest.approx(1, abs=1e-4)
    assert cka(x, y) == pytest.approx(cka(y, x))
    assert cka(scale * x, y) == pytest.approx(cka(x, y), abs=1e-4)


def test_cka_of_unrelated_wide_layers_is_about_zero() -> None:
    assert abs(cka(drawn(0, 200, 5000), drawn(1, 200, 10, 20, 20))) < 0.02
    assert cka(torch.ones(10, 3), drawn(0, 10, 3)) == 0, "a layer that never moves has no likeness, and no NaN"
    x = drawn(2, 200, 20)
    assert 0.2 < cka(x, x + 1.0 * drawn(3, 200, 20)) < 0.9


def test_cka_by_hand() -> None:
    """The unbiased HSIC written out from its definition over indices (Song et al. 2012, eq. 5)."""
    x, y = drawn(0, 6, 3).double(), drawn(1, 6, 2).double()
    k, l = x @ x.T, y @ y.T  # noqa: E741

    def hsic(k: torch.Tensor, l: torch.Tensor) -> float:  # noqa: E741
        n, at = 6, range(6)
        one = sum(k[i, j] * l[i, j] for i in at for j in at if i != j) / math.perm(n, 2)
        two = sum(k[i, j] * l[i, q] for i in at for j in at for q in at if len({i, j, q}) == 3) / math.perm(n, 3)
        four = sum(
            k[i, j] * l[q, r] for i in at for j in at for q in at for r in at if len({i, j, q, r}) == 4
        ) / math.perm(n, 4)
        return float(one + four - 2 * two)

    expected = hsic(k, l) / (hsic(k, k) * hsic(l, l)) ** 0.5
    assert cka(x, y) == pytest.approx(expected)


def test_shares_by_hand() -> None:
    assert shares({"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([15.0])}) == pytest.approx({"a": 0.25, "b": 0.75})
    assert shares({"a": torch.zeros(2), "b": torch.zeros(2)}) == {"a": 0, "b": 0}


def test_latency_is_ordered_and_leaves_the_net_alone() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    p50, p95 = cost.latency(net, drawn(0, 8, 1, 8, 8), seconds=0.01)
    assert 0 < p50 <= p95 < 1000
    assert all(module.training for module in net.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_where_several_processes_have_tested_the_missing_answers_are_computed(compared) -> None:
    config, runs_dir = compared
    stage, data = trained_stage(pick(config, "kd", "kd"), runs_dir)
    with torch.no_grad():
        for batch in data.test_dataloader():
            stage.answered.append((stage.net(batch.x), batch.y, stage.teacher(batch.x)))
    whole = answers_on_test(stage)
    logits, labels, teacher = stage.answered[0]
    stage.answered = [(logits[::2], labels[::2], teacher[::2])]
    for computed, left in zip(answers_on_test(stage), whole, strict=True):
        assert torch.allclose(computed, left)


def test_pictures_that_are_black_can_be_drawn() -> None:
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    assert tile(images[0], brightest(images)).getextrema() == ((0, 0),) * 3


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("vectors", [False, True])
def test_hint_maps_of_maps_and_of_vectors(tmp_path: Path, channels: int, vectors: bool) -> None:
    images = torch.randint(0, 255, (8, channels, 32, 32), dtype=torch.uint8)
    hints = drawn(0, 8, 10) if vectors else drawn(0, 8, 5, 4, 4)
    pictures.hint_maps(tmp_path / "maps.png", images, 255, hints, hints + 1)
    with Image.open(tmp_path / "maps.png") as picture:
        assert len(picture.getcolors(maxcolors=10**6)) > 100


def test_pictures_of_many_classes_with_long_names(tmp_path: Path) -> None:
    names = [f"a rather long name {i}" for i in range(100)]
    logits, labels = drawn(0, 300, 100), torch.arange(300) % 100
    _, details = of_predictions(logits, labels)
    images = torch.randint(0, 255, (300, 3, 32, 32), dtype=torch.uint8)
    tested = pictures.Tested(images, 255, names, logits, labels, drawn(1, 300, 100))
    pictures.of_predictions(tmp_path / "media", tested, details)
    assert {p.name for p in (tmp_path / "media").iterdir()} == {
        *("confusion.png", "disagreed.png", "hardest.png", "reliability.png")
    }


def test_a_diverged_network_has_its_pictures_too(tmp_path: Path) -> None:
    """Its accuracy is chance and its NLL is NaN: that is the result, not an error at the end of a long training."""
    logits, labels = torch.full((30, 3), float("nan")), torch.arange(30) % 3
    calibration, details = of_predictions(logits, labels)
    assert math.isnan(calibration["brier"]) and details["reliability"]["count"][0] == 30
    images = torch.zeros(30, 1, 8, 8, dtype=torch.uint8)
    tested = pictures.Tested(images, 255, ["a", "b", "c"], logits, labels, logits)
    pictures.of_predictions(tmp_path / "media", tested, details)
    nothing = torch.full((8, 2, 4, 4), float("nan"))
    pictures.hint_maps(tmp_path / "media" / "hint_maps.png", images[:8], 255, drawn(0, 8, 2, 4, 4), nothing)
    assert len(list((tmp_path / "media").glob("*.png"))) == 5
    assert cka(logits, drawn(0, 30, 2)) == 0 and shares({"a": logits}) == {"a": 0}


def test_the_hardest_images_are_those_with_the_highest_loss(tmp_path: Path) -> None:
    """One bright image among dark ones, wrong with certainty: it stands first."""
    images = torch.zeros(20, 1, 8, 8, dtype=torch.uint8)
    images[7] = 255
    logits = torch.zeros(20, 2)
    logits[7] = torch.tensor([0.0, 9.0])
    tested = pictures.Tested(images, 255, ["a", "b"], logits, torch.zeros(20, dtype=torch.long))
    pictures.hardest(tmp_path / "hardest.png", tested)
    with Image.open(tmp_path / "hardest.png") as picture:
        assert picture.getpixel((pictures.GAP + 48, 34 + 48)) == (255, 255, 255)
        assert picture.getpixel((pictures.GAP + 124 + 48, 34 + 48)) == (0, 0, 0)
