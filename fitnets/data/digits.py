"""The embedded dataset: real handwritten digits that come with scikit-learn."""

import torch

from fitnets.data.images import Images, class_balanced, without
from fitnets.seeds import derive


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
