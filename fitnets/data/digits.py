"""The embedded dataset: real handwritten digits that come with scikit-learn."""

import torch

from fitnets.data.images import Images, with_test_part


def digits(split_seed: int, test_fraction: float) -> Images:
    """scikit-learn's 1,797 real handwritten digits, 8x8 with values 0..16; the test part is class-balanced."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.uint8).unsqueeze(1)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    names = tuple(map(str, bunch.target_names))
    return with_test_part(Images(images, labels, images[:0], labels[:0], names), test_fraction, split_seed)
