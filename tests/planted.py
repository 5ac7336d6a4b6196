"""Digits of which a known share is hard: heavy noise on the image. A data set for tests, named by its dotted path."""

import math

import torch

from fitnets.data.digits import digits
from fitnets.data.images import Images

SHARE = 0.2


def hard_ones(count: int) -> torch.Tensor:
    """Which training-file images are made hard, (count,) bool."""
    return torch.rand(count, generator=torch.Generator().manual_seed(7)) < SHARE


def planted(split_seed: int, test_fraction: float) -> Images:
    easy = digits(split_seed, test_fraction)
    generator = torch.Generator().manual_seed(11)
    noise = torch.randint(0, 17, easy.images.shape, generator=generator, dtype=torch.uint8)
    keep = torch.rand(easy.images.shape, generator=generator) < 0.35
    images = torch.where(hard_ones(len(easy.labels))[:, None, None, None] & ~keep, noise, easy.images)
    return Images(images, easy.labels, easy.test_images, easy.test_labels, easy.class_names)


def rising(update: int, updates: int, batches_per_epoch: int, start: float) -> float:
    """A pacing that has no value after the stage's last update."""
    return 1 - (1 - start) * math.sqrt(1 - update / (updates - 1))


def per_cent(update: int, updates: int, batches_per_epoch: int, start: float) -> float:
    """A pacing that gives per cent where fractions are wanted."""
    return 100 * update / updates + 40
