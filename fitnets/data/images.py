"""Where samples come from: a dataset is a function that returns Images. This file has the embedded one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fitnets.components import derive


@dataclass(frozen=True)
class Images:
    """A data set as tensors: images uint8 (N, C, H, W), labels int64 (N,); the test part stands apart."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]


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


def without(count: int, taken: Tensor) -> Tensor:
    """The indices below `count` that are not in `taken`."""
    left = torch.ones(count, dtype=torch.bool)
    left[taken] = False
    return left.nonzero().flatten()


def digits(split_seed: int, test_fraction: float) -> Images:
    """scikit-learn's 1,797 real handwritten digits, 8x8 with values 0..16; the test part is class-balanced."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.uint8).unsqueeze(1)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    test = class_balanced(labels, round(test_fraction * len(labels)), derive(split_seed, "test"))
    train = without(len(labels), test)
    names = tuple(str(name) for name in bunch.target_names)
    return Images(images[train], labels[train], images[test], labels[test], names)
