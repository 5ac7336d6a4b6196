"""What a dataset gives (a function that returns Images), and how it is split into train and validation."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fitnets.components import build
from fitnets.data.identity import DataError
from fitnets.seeds import derive

NOT_OPTIONS = ("name", "val_fraction", "val_split", "labels", "label_noise", "content", "score_path")  # of a dataset
EVEN = 0.2  # classes are even where each lies within this share of their average size


@dataclass(frozen=True)
class Images:
    """A data set as tensors: images uint8 (N, C, H, W), labels int64 (N,); the test part stands apart.

    The rest is for sets that were read from files: the validation part where the set has one of its own (indices of
    `images`), for train and test the pictures' names and what `fingerprints` gives, and what the files turned out as.
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    val_index: Tensor | None = None
    fingerprints: tuple[Tensor, Tensor] | None = None
    names: tuple[Sequence[str], Sequence[str]] | None = None
    found: Mapping[str, Any] = field(default_factory=dict)


def gathered(rows: Tensor, index: Tensor, device: torch.device) -> Tensor:
    """rows[index] on `device`, wherever the rows lie: there, in memory, or in a mapped file."""
    return rows[index.to(rows.device)].to(device, non_blocking=True)


def fingerprints(images: Tensor) -> Tensor:
    """(N,) int64: equal for pictures with equal pixels."""
    rows = (hashlib.blake2b(image.numpy().tobytes(), digest_size=8).digest() for image in images)
    return torch.tensor([int.from_bytes(row, "little", signed=True) for row in rows], dtype=torch.int64)


def uneven(counts: Tensor) -> bool:
    """Whether some class, by the `counts` (K,), is smaller or larger than the average by more than a fifth."""
    return bool((counts / counts.double().mean() - 1).abs().max() > EVEN)


def of_each_class(labels: Tensor, count: int, seed: int, spare: int = 0) -> Tensor:
    """Indices of `count` samples, drawn with `seed`: each class by its share, at least one of each. (count,) sorted.

    Where classes are even, each gives the same number, as far as `count` can be shared out. `spare` of each class are
    left, where that many are there. `count` is raised to the number of classes.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    sizes = labels.bincount()
    present = sizes.nonzero().flatten()
    count = max(count, len(present))
    rank = torch.empty_like(order)  # how many samples of its own class come before it
    for label in present:
        of_class = order[labels[order] == label]
        rank[of_class] = torch.arange(len(of_class))
    if uneven(sizes[present]):
        return (rank < _by_share(sizes, count, spare)[labels]).nonzero().flatten()
    ties = torch.empty_like(order)  # rounds, one of each class a round
    ties[order] = torch.arange(len(order))
    return (rank * len(labels) + ties).argsort()[:count].sort().values


def _by_share(sizes: Tensor, count: int, spare: int) -> Tensor:
    """How many of each class (K,) to draw, so that there are `count` together: largest remainders, at least one."""
    most = (sizes - spare).clamp(min=1).minimum(sizes)
    exact = sizes * (count / int(sizes.sum()))
    quota = exact.floor().long().maximum(sizes.clamp(max=1)).minimum(most)
    while (missing := count - int(quota.sum())) != 0:
        free = quota < most if missing > 0 else quota > 1
        if not free.any():  # there are no more to draw
            break
        owed = torch.where(free, exact - quota if missing > 0 else quota - exact, -torch.inf)
        quota[owed.argmax()] += 1 if missing > 0 else -1
    return quota


def with_noise(labels: Tensor, index: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """The labels (N,), those of a `share` of the samples in `index` each replaced by another class at random."""
    generator = torch.Generator().manual_seed(seed)
    chosen = index[torch.randperm(len(index), generator=generator)[: round(share * len(index))]]
    noisy = labels.clone()
    noisy[chosen] = (noisy[chosen] + torch.randint(1, classes, chosen.shape, generator=generator)) % classes
    return noisy


def folds_of(labels: Tensor, folds: int, seed: int) -> Tensor:
    """A fold number (n,) in 0..folds-1 for each sample: class-balanced, at random by `seed`."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[labels[order].argsort(stable=True)]
    fold = torch.empty_like(order)
    fold[order] = torch.arange(len(order)) % folds
    return fold


def without(count: int, taken: Tensor) -> Tensor:
    """The indices below `count` that are not in `taken`."""
    left = torch.ones(count, dtype=torch.bool)
    left[taken] = False
    return left.nonzero().flatten()


def with_test_part(images: Images, test_fraction: float, split_seed: int) -> Images:
    """A data set without a test part: `test_fraction` of it is held out, by class, drawn with `split_seed`.

    A validation part of its own is not drawn from. Raises DataError for a class that is too small.
    """
    every = torch.arange(len(images.labels))
    own = images.val_index if images.val_index is not None else every[:0]
    drawable = without(len(every), own)
    parts = 2 if len(own) else 3
    _enough(images, drawable, parts, "train and test" if parts == 2 else "train, validation and test")
    count = round(test_fraction * len(drawable))
    test = drawable[of_each_class(images.labels[drawable], count, derive(split_seed, "test"), spare=parts - 1)]
    train = without(len(every), test)
    changed: dict[str, Any] = {
        "images": images.images[train],
        "labels": images.labels[train],
        "test_images": images.images[test],
        "test_labels": images.labels[test],
        "val_index": torch.arange(len(train) - len(own), len(train)) if len(own) else None,
    }
    if images.fingerprints:
        changed["fingerprints"] = (images.fingerprints[0][train], images.fingerprints[0][test])
    if images.names:
        changed["names"] = tuple([images.names[0][i] for i in part.tolist()] for part in (train, test))
    return replace(images, **changed)


def split(dataset: Mapping[str, Any], split_seed: int) -> tuple[Images, Tensor, Tensor]:
    """The data set that a config describes, and the indices of its train and validation parts, (N,) each.

    Validation is the set's own part where it has one, else `val_fraction` of the training file: `val_split` balanced
    (by class, drawn with `split_seed`, the default) or last (its last images, as in the paper's 40k/10k and 50k/10k).
    Raises DataError for a class of which a part would have no picture.
    """
    options = {key: value for key, value in dataset.items() if key not in NOT_OPTIONS}
    try:
        images = build(options, split_seed=split_seed)
    except (StopIteration, SystemExit) as error:  # the one says nothing, the other ends the command as if all were well
        raise DataError(f"{options['_target_']} ended with {type(error).__name__} {error}".rstrip()) from error
    if problem := _misshapen(images):
        raise DataError(f"{options['_target_']} gives {problem}")
    every = torch.arange(len(images.labels))
    held_out, last = round(dataset["val_fraction"] * len(every)), dataset.get("val_split", "balanced") == "last"
    if images.val_index is not None:
        val = images.val_index
    elif last:
        val = every[len(every) - held_out :]
    else:
        _enough(images, every, 2, "train and validation")
        val = of_each_class(images.labels, held_out, derive(split_seed, "val"), spare=1)
    train = without(len(every), val)
    for part, index in (("train", train), ("validation", val)):
        sizes = images.labels[index].bincount(minlength=len(images.class_names)).tolist()
        missing = [name for name, size in zip(images.class_names, sizes, strict=True) if not size]
        if missing and (part == "train" or images.val_index is None):
            why = "the last images of the file: type dataset.val_split=balanced" if last else "type a smaller fraction"
            raise DataError(f"the {part} part would have no picture of {_listed(missing)} ({why})")
    return images, train, val


def _misshapen(given: Images) -> str | None:
    """What of a function's Images is not as they must be; None where all is."""
    count = len(given.class_names)
    for part, images, labels in (
        ("", given.images, given.labels),
        ("test_", given.test_images, given.test_labels),
    ):
        shape, expected = tuple(images.shape), tuple(given.images.shape[1:])
        if images.dtype != torch.uint8 or len(shape) != 4 or shape[1:] != expected:
            like = "(N, C, H, W)" if not part else f"(N, {', '.join(map(str, expected))}) as the others are"
            return f"{part}images of {images.dtype} {shape}; expected torch.uint8 {like}"
        if labels.dtype != torch.int64 or labels.shape != shape[:1]:
            return f"{part}labels of {labels.dtype} {tuple(labels.shape)}; expected torch.int64 ({shape[0]},)"
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < count:
            found = f"{labels.min()} to {labels.max()}"
            return f"{part}labels from {found}; class_names has {count}: expected 0 to {count - 1}"
    index = given.val_index
    if index is None:
        return None
    inside = index.dtype == torch.int64 and not len(index[(index < 0) | (index >= len(given.labels))])
    if inside and index.ndim == 1 and len(index.unique()) == len(index):
        return None
    return f"a val_index that is no list of different numbers from 0 to {len(given.labels) - 1} (torch.int64)"


def _enough(images: Images, index: Tensor, parts: int, words: str) -> None:
    """DataError for classes with too few pictures for so many parts."""
    sizes = images.labels[index].bincount(minlength=len(images.class_names)).tolist()
    small = [f"{name} ({size})" for name, size in zip(images.class_names, sizes, strict=True) if size < parts]
    if small:
        raise DataError(
            f"too few pictures of {_listed(small)}: {words} need one of each class, so {parts}; add some, or take the "
            "class away"
        )


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more classes" if len(names) > most else "")
