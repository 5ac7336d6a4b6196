"""Augmentation as tensor operations on a whole batch; what is drawn is a pure function of the seed and the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor


def augmented(x: Tensor, flip: bool, crop: int, seed: int) -> Tensor:
    """Random crops and flips of a preprocessed batch (B, C, H, W), drawn with `seed`.

    `crop` is how many zero pixels are padded on each side before a window of the old size is cut, each place as
    likely (pylearn2's WindowAndFlip pads after whitening, as here); `flip` mirrors half of the samples.
    """
    generator = torch.Generator().manual_seed(seed)
    batch, _, height, width = x.shape
    if crop:
        top, left = torch.randint(2 * crop + 1, (2, batch), generator=generator)
        mirrored = torch.rand(batch, generator=generator) < 0.5 if flip else torch.zeros(batch, dtype=torch.bool)
        rows = top[:, None] + torch.arange(height)
        columns = torch.arange(width).expand(batch, width)
        columns = left[:, None] + torch.where(mirrored[:, None], width - 1 - columns, columns)
        rows, columns = rows.to(x.device), columns.to(x.device)
        each = torch.arange(batch, device=x.device)[:, None, None]
        padded = F.pad(x, (crop,) * 4).movedim(1, -1)
        return padded[each, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()
    if flip:
        mirrored = (torch.rand(batch, generator=generator) < 0.5).to(x.device)
        return torch.where(mirrored[:, None, None, None], x.flip(-1), x)
    return x
