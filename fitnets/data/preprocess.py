"""Preprocessing: functions `fit(batches, **options)` that give a Preprocess; none ever sees test images.

`batches()` gives the training images again and again, uint8 (n, C, H, W) at a time (they may not fit in memory as
floats).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fitnets.components import build
from fitnets.files import beside, made_once, put_hashed


class Preprocess(nn.Module):
    """uint8 (B, C, H, W) -> float32 of the same shape; in half precision the result is too.

    `tensors` is what a loaded student needs to repeat it: mean and std, or mean and, with whitening, zca.
    """

    mean: Tensor
    std: Tensor | None
    zca: Tensor | None
    scale: Final[float]
    __jit_unused_properties__: ClassVar = ["tensors"]

    def __init__(self, kind: str, tensors: Mapping[str, Tensor], scale: float = 1.0):
        super().__init__()
        if kind not in ("standardise", "gcn_zca"):
            raise ValueError(f"there is no preprocessing {kind!r}: standardise | gcn_zca")
        self.kind, self.scale = kind, float(scale)
        for name in ("mean", "std", "zca"):
            self.register_buffer(name, tensors.get(name))

    @property
    def tensors(self) -> dict[str, Tensor]:
        return dict(self.named_buffers())

    def forward(self, images: Tensor) -> Tensor:
        x = images.float()
        std, zca = self.std, self.zca
        if std is not None:
            return ((x - self.mean) / std).to(self.mean.dtype)
        flat = contrast_normalised(x.flatten(1), self.scale) - self.mean
        if zca is not None:
            flat = flat @ zca.float()
        return flat.view_as(x).to(self.mean.dtype)


Batches = Callable[[], Iterable[Tensor]]


def standardise(batches: Batches) -> Preprocess:
    """Mean 0 and spread 1 for each channel over the images."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in batches():
        x = batch.double()
        count, total = count + x[:, 0].numel(), total + x.sum((0, 2, 3), keepdim=True)
        squares = squares + x.square().sum((0, 2, 3), keepdim=True)  # of whole numbers: exact
    mean = total / count
    std = ((squares - count * mean.square()) / max(1, count - 1)).clamp(min=0).sqrt()
    return Preprocess("standardise", {"mean": mean.float(), "std": std.float().clamp(min=1e-6)})


def contrast_normalised(flat: Tensor, scale: float) -> Tensor:
    """Each row less its mean, divided by its L2 norm, times scale (pylearn2 global_contrast_normalize)."""
    flat = flat - flat.mean(1, keepdim=True)
    norms = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return scale * flat / torch.where(norms < 1e-8, torch.ones_like(norms), norms)


def gcn_zca(batches: Batches, scale: float = 55.0, filter_bias: float = 0.1, zca: bool = True) -> Preprocess:
    """Global contrast normalisation, then ZCA whitening: the paper's CIFAR preprocessing.

    W = V diag((eigenvalues + filter_bias)^-1/2) V^T of the images' covariance (paper section 3.1; pylearn2
    make_cifar10_gcn_whitened.py). `zca=false` stops after contrast normalisation and the mean.
    """
    n, features = 0, next(iter(batches()))[0].numel()
    total, second = torch.zeros(features, dtype=torch.float64), torch.zeros(features, features)
    for batch in batches():
        n += len(batch)
        total += contrast_normalised(batch.flatten(1).float(), scale).double().sum(0)
    mean = (total / n).float()
    if not zca:
        return Preprocess("gcn_zca", {"mean": mean}, scale)
    for batch in batches():
        centred = contrast_normalised(batch.flatten(1).float(), scale) - mean
        second += centred.T @ centred
    values, vectors = torch.linalg.eigh((second / n).double())
    whiten = (vectors * (values.clamp(min=0) + filter_bias).rsqrt()) @ vectors.T
    return Preprocess("gcn_zca", {"mean": mean, "zca": whiten.float()}, scale)


def fitted(spec: Mapping[str, Any], images: Tensor, index: Tensor, cache_dir: str | None = None) -> Preprocess:
    """The Preprocess that `spec` describes, fitted on images[index], uint8 (N, C, H, W).

    Whitening takes a minute for 50,000 colour images, so its tensors are kept in `cache_dir` by what decided them.
    """
    options = {key: value for key, value in spec.items() if key not in ("name", "fit_on")}
    batch_size = max(1, min(4096, 2**22 // images[0].numel()))  # a batch takes 32 MiB in double precision

    def batches() -> Iterable[Tensor]:
        return (images[rows] for rows in index.split(batch_size))

    if cache_dir is None or images[0].numel() < 1024 or "zca" not in options["_target_"]:
        return build(options, batches)
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for batch in batches():
        digest.update(batch.numpy().tobytes())
    file = Path(cache_dir).expanduser() / f"zca-{digest.hexdigest()[:16]}.safetensors"

    def make() -> None:
        with beside(file) as partial:
            save_file(build(options, batches).tensors, partial)
            put_hashed(partial, file, options)

    made_once(file, make)
    return Preprocess("gcn_zca", load_file(file), options.get("scale", 55.0))
