"""What a dataset gives (a function that returns Images), and how it is split into train and validation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fitnets.components import build
from fitnets.seeds import derive

NOT_OPTIONS = ("name", "val_fraction", "val_split", "labels", "label_noise", "content", "score_path")  # of a dataset


@dataclass(frozen=True)
class Images:
    """A data set as tensors: images uint8 (N, C, H, W), labels int64 (N,); the test part stands apart."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]


def gathered(rows: Tensor, index: Tensor, device: torch.device) -> Tensor:
    """rows[index] on `device`, wherever the rows lie: there, in memory, or in a mapped file."""
    return rows[index.to(rows.device)].to(device, non_blocking=True)


def class_balanced(labels: Tensor, count: int, seed: int) -> Tensor:
    """Indices of `count` samples, as many of each class as the counts allow, drawn with `seed`. (count,) sorted.

    Samples are taken in rounds, one of each class a round, so classes differ by at most one while they last.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    rank = torch.empty_like(order)  # how many samples of its own class come before it
    for label in labels.unique():
        of_class = order[labels[order] == label]
        rank[of_class] = torch.arange(len(of_class))
    ties = torch.empty_like(order)
    ties[order] = torch.arange(len(order))
    return (rank * len(labels) + ties).argsort()[:count].sort().values


def with_noise(labels: Tensor, index: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """The labels (N,), those of a `share` of the samples in `index` each replaced by another class at random."""
    generator = torch.Generator().manual_seed(seed)
    chosen = index[torch.randperm(len(index), generator=generator)[: round(share * len(index))]]
    noisy = labels.clone()
    noisy[chosen] = (noisy[chosen] + torch.randint(1, classes, chosen.shape, generator=generator)) % classes
    return noisy


def folds_of(labels: Tensor, folds: int, seed: int) -> Tensor:
    """A fold number (n,) in 0..folds-1 for each sample: class-balanced, at random by `seed`."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[labels[order].argsort(stable=True)]
    fold = torch.empty_like(order)
    fold[order] = torch.arange(len(order)) % folds
    return fold


def without(count: int, taken: Tensor) -> Tensor:
    """The indices below `count` that are not in `taken`."""
    left = torch.ones(count, dtype=torch.bool)
    left[taken] = False
    return left.nonzero().flatten()


def with_test_part(
    images: Tensor, labels: Tensor, class_names: tuple[str, ...], test_fraction: float, split_seed: int
) -> Images:
    """A data set without a test part: `test_fraction` of it is held out, class-balanced, drawn with `split_seed`."""
    test = class_balanced(labels, round(test_fraction * len(labels)), derive(split_seed, "test"))
    train = without(len(labels), test)
    return Images(images[train], labels[train], images[test], labels[test], class_names)


def split(dataset: Mapping[str, Any], split_seed: int) -> tuple[Images, Tensor, Tensor]:
    """The data set that a config describes, and the indices of its train and validation parts, (N,) each.

    Validation is `val_fraction` of the training file: `val_split` balanced (class-balanced, drawn with
    `split_seed`, the default) or last (its last images, as in the paper's 40k/10k and 50k/10k).
    """
    options = {key: value for key, value in dataset.items() if key not in NOT_OPTIONS}
    images = build(options, split_seed=split_seed)
    total, held_out = len(images.labels), round(dataset["val_fraction"] * len(images.labels))
    if dataset.get("val_split", "balanced") == "last":
        val = torch.arange(total - held_out, total)
    else:
        val = class_balanced(images.labels, held_out, derive(split_seed, "val"))
    return images, without(total, val), val
