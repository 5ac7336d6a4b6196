"""The teacher's answers by sample and variant: computed once and kept by what decided them, or at every step."""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from fitnets.data.variants import variants_of
from fitnets.report.work import tracked
from fitnets.stages.teacher import FrozenTeacher

if TYPE_CHECKING:  # checks use this file without Lightning
    from fitnets.data.module import Batch, DataModule

Answers = Callable[["Batch"], Tensor]  # logits (B, K) or hint maps (B, C, H, W), float32
FORMAT = 1  # raise it when the kept file changes
FILL_BATCH = 512
BYTES = {"float32": 4, "float16": 2}


@dataclass(frozen=True)
class Store:
    """Where answers are kept, where they lie while training, and how much of that they may take."""

    folder: Path
    at: str = "device"  # the training device | memory (the host's) | disk (memory-mapped)
    gib: float = 16.0


def cache_gib(train: int, val: int, variants: int, shape: tuple[int, ...], dtype: str) -> float:
    """Size of a cache: a row for each variant of a training sample and one for each validation sample."""
    return (train * variants + val) * math.prod(shape) * BYTES[dtype] / 2**30


def online(teacher: FrozenTeacher) -> Answers:
    return lambda batch: teacher(batch.x)


def cached(
    teacher: FrozenTeacher, data: "DataModule", dtype: str, decided_by: Mapping[str, Any], store: Store
) -> Answers:
    """Answers read from the store, which is filled first where it has none for `decided_by`.

    Exact, because every variant of every training sample has a row of its own; validation samples are never
    augmented and have one. Runs and processes that agree in `decided_by` (the teacher's fingerprint, the layer, the
    data, the transform, the dtype) share the file; a lock lets one fill it while others wait.
    """
    key = hashlib.sha256(json.dumps([FORMAT, dtype, decided_by], sort_keys=True).encode()).hexdigest()[:16]
    file = store.folder / f"{key}.npy"
    store.folder.mkdir(parents=True, exist_ok=True)
    variants = variants_of(data.augment)
    assert variants is not None, "the checks refuse cached answers where variants cannot be counted"
    train = data.train_index
    val = data.val_index if data.train_on == "train" else data.val_index[:0]
    ids = torch.cat([train.repeat_interleave(variants), val])
    variant = torch.cat([torch.arange(variants).repeat(len(train)), torch.full_like(val, -1)])
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            _fill(file, teacher, data, ids, variant, dtype, decided_by)
    if store.at == "disk":
        rows = torch.from_numpy(np.load(file, mmap_mode="c"))
    else:
        rows = torch.from_numpy(np.load(file)).to(data.device if store.at == "device" else "cpu")
    first = torch.zeros(int(ids.max()) + 1, dtype=torch.long)
    first[train] = torch.arange(len(train)) * variants
    first[val] = len(train) * variants + torch.arange(len(val))
    first = first.to(rows.device)

    def answers(batch: "Batch") -> Tensor:
        row = first[batch.ids.to(first.device)] + batch.variant.to(first.device)
        return rows[row].to(data.device, non_blocking=True).float()

    return answers


def _fill(
    file: Path,
    teacher: FrozenTeacher,
    data: "DataModule",
    ids: Tensor,
    variant: Tensor,
    dtype: str,
    decided_by: Mapping[str, Any],
) -> None:
    """Whole or not at all: written beside, then moved. `.json` says what it is and how long it took."""
    started, partial = time.monotonic(), file.with_suffix(".partial")
    stored: Any = None
    what = f"teacher's answers for {len(ids):,} images"
    for at in tracked(range(0, len(ids), FILL_BATCH), what, quiet=len(ids) < 20_000):
        part = slice(at, at + FILL_BATCH)
        answer = teacher(data.variant(ids[part], variant[part])).float().cpu().numpy()
        if stored is None:
            stored = np.lib.format.open_memmap(partial, "w+", np.dtype(dtype), (len(ids), *answer.shape[1:]))
        stored[part] = answer
    if not np.isfinite(stored[:FILL_BATCH]).all():
        raise ValueError(
            f"the teacher's answers do not fit into {dtype} (infinite or NaN): type answers_dtype=float32, or look "
            "at the teacher's own accuracy"
        )
    stored.flush()
    about = {"shape": list(stored.shape), "dtype": dtype, "seconds": round(time.monotonic() - started, 3)}
    del stored
    file.with_suffix(".json").write_text(json.dumps(about | dict(decided_by), indent=2) + "\n")
    os.replace(partial, file)
