"""Splits, which labels may be seen, and the order of samples."""

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fitnets.data.batch import UNLABELLED, ShuffledBatches
from fitnets.data.images import of_each_class, uneven
from fitnets.data.module import DataModule
from tests.conftest import composed

pytestmark = pytest.mark.fast


def digits_data(**options) -> DataModule:
    dataset = {k: v for k, v in composed()["dataset"].items() if k != "labels"} | options.pop("dataset", {})
    data = DataModule(dataset, options.pop("split_seed", 0), 64, options.pop("seed", 0), **options)
    data.setup()
    return data


def test_the_parts_are_disjoint_complete_and_balanced() -> None:
    data = digits_data()
    assert len(data.train_index) + len(data.val_index) + len(data.images.test_labels) == 1797
    assert not set(data.train_index.tolist()) & set(data.val_index.tolist())
    for labels in (data.images.labels[data.val_index], data.images.test_labels):
        counts = labels.bincount(minlength=10)
        assert counts.max() - counts.min() <= 1


def test_no_test_image_is_among_the_training_images() -> None:
    data = digits_data()
    train = {tuple(image.flatten().tolist()) for image in data.images.images}
    assert not any(tuple(image.flatten().tolist()) in train for image in data.images.test_images)


def test_split_seed_moves_the_split_and_seed_does_not() -> None:
    a, b, c = digits_data(), digits_data(seed=7), digits_data(split_seed=1)
    assert torch.equal(a.val_index, b.val_index) and torch.equal(a.images.test_images, b.images.test_images)
    assert not torch.equal(a.val_index, c.val_index)
    assert not torch.equal(a.images.test_images, c.images.test_images)


def test_mean_and_spread_come_from_the_train_part_only() -> None:
    data = digits_data()
    pixels = data.images.images[data.train_index].float()
    assert data.preprocess.tensors["mean"].item() == pytest.approx(pixels.mean().item())
    x = data.preprocessed(data.train_index)
    assert x.mean().item() == pytest.approx(0, abs=1e-5) and x.std().item() == pytest.approx(1, abs=1e-3)


def test_few_labels_are_balanced_and_the_others_hidden() -> None:
    data = digits_data(labels=50)
    seen = (data.visible_labels != UNLABELLED).nonzero().flatten()
    assert torch.equal(seen, data.labelled_index) and len(seen) == 50
    assert set(seen.tolist()) <= set(data.train_index.tolist()), "validation labels are not for training"
    assert data.images.labels[seen].bincount().tolist() == [5] * 10
    assert torch.equal(data.visible_labels[seen], data.images.labels[seen])
    assert torch.equal(seen, digits_data(labels=50, seed=3).labelled_index), "one draw for all seeds"
    for batch in data.train_dataloader():
        hidden = ~torch.isin(batch.ids, seen)
        assert (batch.y[hidden] == UNLABELLED).all() and (batch.y[~hidden] >= 0).all()


def test_backprop_draws_from_labelled_samples_with_as_many_updates() -> None:
    all_images, labelled = digits_data(labels=50), digits_data(labels=50, only_labelled=True)
    assert len(all_images.train_dataloader()) == len(labelled.train_dataloader()) == 18
    for batch in labelled.train_dataloader():
        assert torch.isin(batch.ids, labelled.labelled_index).all() and len(batch.ids) == 50


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(3, 300), min_size=2, max_size=6),
    part=st.floats(0.05, 0.9),
    spare=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_each_class_gives_its_share_and_at_least_one(counts: list[int], part: float, spare: int, seed: int) -> None:
    labels = torch.cat([torch.full((n,), label) for label, n in enumerate(counts)])
    count = round(part * len(labels))
    chosen = of_each_class(labels, count, seed, spare)
    taken = labels[chosen].bincount(minlength=len(counts)).tolist()
    assert min(taken) >= 1 and len(set(chosen.tolist())) == len(chosen)
    if not uneven(torch.tensor(counts)):
        assert len(chosen) == max(count, len(counts))
        assert max(taken) - min(taken) <= 1 or any(got == n for n, got in zip(counts, taken, strict=True))
        return
    room = sum(n - spare for n in counts)
    assert len(chosen) == min(max(count, len(counts)), room)
    assert all(n - got >= spare for n, got in zip(counts, taken, strict=True))
    if all(1 <= n * part <= n - spare for n in counts):  # nothing binds: each class within one of its share
        assert all(abs(got - n * part) <= 1.5 for n, got in zip(counts, taken, strict=True))


# The splits of the data sets that the tables of README and docs/results.md are made of. A change here means new tables.
SPLITS = {(0, "all"): "70d29bd4", (0, 50): "acefb795", (7, 50): "186deffd", (7, 100): "b945df52"}


@pytest.mark.parametrize(("split_seed", "labels"), SPLITS)
def test_the_splits_of_digits_stay_as_they_are(split_seed: int, labels: int | str) -> None:
    data = digits_data(split_seed=split_seed, labels=labels, dataset={"label_noise": 0.2})
    seen = hashlib.sha256()
    for tensor in (data.images.images, data.images.test_images, data.images.test_labels, data.train_index):
        seen.update(tensor.numpy().tobytes())
    for tensor in (data.val_index, data.labelled_index, data.visible_labels):
        seen.update(tensor.numpy().tobytes())
    assert seen.hexdigest()[:8] == SPLITS[split_seed, labels]


def batches(n: int, size: int, per_epoch: int, seed: int = 0, first: int = 0) -> ShuffledBatches:
    return ShuffledBatches(torch.arange(100, 100 + n), size, per_epoch, seed, lambda index, _t: index, first=first)


@settings(deadline=None)
@given(n=st.integers(1, 40), size=st.integers(1, 50), epochs=st.integers(1, 4), seed=st.integers(0, 9))
def test_every_pass_shows_every_sample_once(n: int, size: int, epochs: int, seed: int) -> None:
    loader = batches(n, size, per_epoch=7, seed=seed)
    stream = torch.cat([index for _ in range(epochs) for index in loader]).tolist()
    assert len(stream) == epochs * 7 * min(n, size)
    for start in range(0, len(stream) - n + 1, n):
        assert sorted(stream[start : start + n]) == list(range(100, 100 + n))


@settings(deadline=None)
@given(n=st.integers(2, 40), size=st.integers(1, 50), stop=st.integers(0, 20))
def test_resumed_at_any_batch_the_next_one_is_the_same(n: int, size: int, stop: int) -> None:
    whole, broken, resumed = (batches(n, size, 7) for _ in range(3))
    expected = [index for _ in range(3) for index in whole]
    seen: list[torch.Tensor] = []
    while len(seen) < stop:
        for index in broken:
            seen.append(index)
            if len(seen) == stop:
                break
    resumed.load_state_dict(broken.state_dict())
    while len(seen) < 21:
        seen += list(resumed)
    assert all(torch.equal(a, b) for a, b in zip(expected, seen, strict=True))


def test_a_kd_stage_goes_on_where_its_hint_stage_ended() -> None:
    whole = batches(23, 5, per_epoch=4)
    expected = [index for _ in range(5) for index in whole]
    later = batches(23, 5, per_epoch=4, first=2 * 4)
    assert all(torch.equal(a, b) for a, b in zip(expected[8:], [i for _ in range(3) for i in later], strict=True))


def test_seeds_give_different_orders() -> None:
    assert not torch.equal(next(iter(batches(40, 40, 1, seed=0))), next(iter(batches(40, 40, 1, seed=1))))
