"""The teacher's answers by sample and variant: computed once and kept by what decided them, or at every step."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fitnets.data.batch import Batch
from fitnets.data.variants import variants_of
from fitnets.files import beside, made_once, put_hashed, reserve
from fitnets.losses.objective import Outputs
from fitnets.models.layers import Cut, Tap
from fitnets.progress import tracked
from fitnets.stages.teacher import FrozenTeacher

FORMAT = 2  # raise it when the kept file changes
FILL_BATCH = 512
BYTES = {"float32": 4, "float16": 2}


@dataclass(frozen=True)
class AnswerStore:
    """How a teacher answers, and for kept answers where they lie while training and what decided them."""

    how: str  # cached | online
    folder: Path
    decided_by: Mapping[str, Any]
    dtype: str = "float32"
    at: str = "device"  # the training device | memory (the host's) | disk (memory-mapped)


def cache_gib(rows: int, shape: tuple[int, ...], dtype: str) -> float:
    """Size of a cache: a row for each variant of a training sample and one for each validation sample."""
    return rows * math.prod(shape) * BYTES[dtype] / 2**30


def teacher_answers(
    teacher: nn.Module, data: Any, store: AnswerStore, layers: Sequence[str], logits: bool
) -> Callable[[Batch], Outputs]:
    """What the teacher gives for a batch at `layers` and, with `logits`, at its end; float32."""
    if store.how == "online":
        online = FrozenTeacher(Tap(teacher, layers, data.input_shape, to_end=logits))

        def ask(batch: Batch) -> Outputs:
            return Outputs(*online(batch.x))

        return ask
    features = [cached(FrozenTeacher(Cut(teacher, layer)), data, store, layer) for layer in layers]
    at_the_end = cached(FrozenTeacher(teacher), data, store, "") if logits else None

    def look_up(batch: Batch) -> Outputs:
        return Outputs(at_the_end(batch) if at_the_end else None, tuple(rows(batch) for rows in features))

    return look_up


def cached(teacher: FrozenTeacher, data: Any, store: AnswerStore, layer: str) -> Callable[[Batch], Tensor]:
    """Answers read from the store, which is filled first where it has none for what decides them.

    Exact, because every variant of every training sample has a row of its own; validation samples are never
    augmented and have one. Runs and processes that agree in `decided_by` (the teacher's fingerprint, the data, the
    transform), the layer and the dtype share the file; a lock lets one fill it while others wait.
    """
    decided_by = dict(store.decided_by) | {"layer": layer}
    key = hashlib.sha256(json.dumps([FORMAT, store.dtype, decided_by], sort_keys=True).encode()).hexdigest()[:16]
    file = store.folder / f"{key}.npy"
    variants = variants_of(data.augment)
    assert variants is not None, "the checks refuse cached answers where variants cannot be counted"
    train = data.train_index
    val = data.val_index if data.train_on == "train" else data.val_index[:0]
    samples = torch.stack(
        [
            torch.cat([train.repeat_interleave(variants), val]),
            torch.cat([torch.arange(variants).repeat(len(train)), torch.full_like(val, -1)]),
        ]
    )
    made_once(file, lambda: _fill(file, teacher, data, samples, {"dtype": store.dtype} | decided_by))
    if store.at == "disk":
        rows = torch.from_numpy(np.load(file, mmap_mode="c"))
    else:
        rows = torch.from_numpy(np.load(file)).to(data.device if store.at == "device" else "cpu")
    first = torch.zeros(int(samples[0].max()) + 1, dtype=torch.long)
    first[train] = torch.arange(len(train)) * variants
    first[val] = len(train) * variants + torch.arange(len(val))
    first = first.to(rows.device)

    def answers(batch: Batch) -> Tensor:
        row = first[batch.ids.to(first.device)] + batch.variant.to(first.device)
        return rows[row].to(data.device, non_blocking=True).float()

    return answers


def _fill(file: Path, teacher: FrozenTeacher, data: Any, samples: Tensor, about: dict[str, Any]) -> None:
    """Write the answers for `samples`, ids and variants (2, n), whole or not at all; `.json` says what they are."""
    started = time.monotonic()
    ids, variant = samples
    stored: Any = None
    what = f"teacher's answers for {len(ids):,} images"
    with beside(file) as partial:
        for at in tracked(range(0, len(ids), FILL_BATCH), what, quiet=len(ids) < 20_000):
            batch = slice(at, at + FILL_BATCH)
            answer = teacher(data.variant(ids[batch], variant[batch])).float().cpu().numpy()
            if stored is None:
                stored = _mapped(partial, about["dtype"], (len(ids), *answer.shape[1:]))
            stored[batch] = answer
            if not np.isfinite(stored[batch]).all():
                raise ValueError(
                    f"the teacher's answers do not fit into {about['dtype']} (infinite or NaN): type "
                    "answers_dtype=float32, or look at the teacher's own accuracy"
                )
        stored.flush()
        about = {"shape": list(stored.shape), "seconds": round(time.monotonic() - started, 3)} | about
        del stored
        put_hashed(partial, file, about)


def _mapped(path: Path, dtype: str, shape: tuple[int, ...]) -> Any:
    """A new .npy file to fill, its space taken."""
    rows = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
    with open(path, "rb+") as file:
        reserve(file, path.stat().st_size)
    return rows
