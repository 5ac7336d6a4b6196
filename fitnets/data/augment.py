"""Augmentation as tensor operations on a whole batch: what is drawn, apart from what it does to the images."""

import torch
import torch.nn.functional as F
from torch import Tensor


def drawn(count: int, flip: bool, crop: int, generator: torch.Generator) -> Tensor:
    """How to show each of `count` images, each window as likely, half of them mirrored: (3, count) int64.

    Rows are the window's top and left corner in the padded image, and whether it is mirrored.
    """
    corner = torch.randint(2 * crop + 1, (2, count), generator=generator) if crop else torch.zeros(2, count).long()
    mirrored = torch.rand(1, count, generator=generator) < 0.5 if flip else torch.zeros(1, count)
    return torch.cat([corner, mirrored.long()])


def augmented(x: Tensor, looks: Tensor, flip: bool, crop: int) -> Tensor:
    """A preprocessed batch (B, C, H, W) shown as `looks` (3, B) says.

    `crop` is how many zero pixels are padded on each side before a window of the old size is cut (pylearn2's
    WindowAndFlip pads after whitening, as here).
    """
    batch, _, height, width = x.shape
    top, left, mirrored = looks.to(x.device)[:, :, None]
    if crop:
        columns = torch.arange(width, device=x.device)
        columns = left + torch.where(mirrored == 1, width - 1 - columns, columns)
        rows = top + torch.arange(height, device=x.device)
        each = torch.arange(batch, device=x.device)[:, None, None]
        padded = F.pad(x, (crop,) * 4).movedim(1, -1)
        return padded[each, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()
    return torch.where(mirrored[:, :, None, None] == 1, x.flip(-1), x) if flip else x
