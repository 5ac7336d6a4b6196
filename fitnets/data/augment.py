"""Augmentation as tensor operations on a whole batch: what is drawn, apart from what it does to the images."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Looks(NamedTuple):
    """How each image is shown: the window's corner in the padded image (B,) int64, and whether mirrored (B,) bool."""

    top: Tensor
    left: Tensor
    mirrored: Tensor


def drawn(count: int, flip: bool, crop: int, generator: torch.Generator) -> Looks:
    """`count` random looks: each window as likely, half of them mirrored."""
    corner = torch.randint(2 * crop + 1, (2, count), generator=generator) if crop else torch.zeros(2, count).long()
    mirrored = torch.rand(count, generator=generator) < 0.5 if flip else torch.zeros(count, dtype=torch.bool)
    return Looks(corner[0], corner[1], mirrored)


def shown(x: Tensor, looks: Looks, flip: bool, crop: int) -> Tensor:
    """A preprocessed batch (B, C, H, W) as `looks` says.

    `crop` is how many zero pixels are padded on each side before a window of the old size is cut (pylearn2's
    WindowAndFlip pads after whitening, as here).
    """
    batch, _, height, width = x.shape
    top, left, mirrored = (part.to(x.device) for part in looks)
    if crop:
        columns = torch.arange(width, device=x.device).expand(batch, width)
        columns = left[:, None] + torch.where(mirrored[:, None], width - 1 - columns, columns)
        rows = top[:, None] + torch.arange(height, device=x.device)
        each = torch.arange(batch, device=x.device)[:, None, None]
        padded = F.pad(x, (crop,) * 4).movedim(1, -1)
        return padded[each, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()
    return torch.where(mirrored[:, None, None, None], x.flip(-1), x) if flip else x
