"""Encoded images decoded once: a folder of arrays beside the runs, with their hashes.

It is written whole or not at all, verified when it is read, and made again where it does not verify.
"""

import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from PIL import Image

from fitnets.data.identity import content
from fitnets.data.images import Images, with_test_part
from fitnets.fingerprint import file_hash
from fitnets.progress import tracked

GRAYSCALE = ("1", "L", "I;16", "I")  # of Pillow's modes
FORMAT = 3  # raise it when the decoded arrays change


class DataError(ValueError):
    """A data set that cannot be read; the message names the file and what to do."""


@dataclass(frozen=True)
class Encoded:
    """Encoded images and their labels: `images[i]()` gives the bytes, `name(i)` says where they came from."""

    images: Sequence[Callable[[], bytes]]
    labels: list[int]
    name: Callable[[int], str]


Sets = tuple[dict[str, Encoded], tuple[str, ...]]  # train and test by name, and the names of the classes


@dataclass(frozen=True)
class Source:
    """What is decoded, and where that is kept; `size` resizes every image to size x size."""

    path: str
    cache_dir: str
    size: int | None = None
    choices: Mapping[str, str | None] = field(default_factory=dict)


def decoded_once(read: Callable[[], Sets], source: Source, test_fraction: float, split_seed: int) -> Images:
    """The images of a source, decoded now or before; without a test part, `test_fraction` of them is held out."""
    decides = [FORMAT, content(source.path), source.size, dict(source.choices)]
    key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
    folder = Path(source.cache_dir).expanduser() / f"{Path(source.path).name}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not _verified(folder):
            sets, names = read()
            _decode(folder, sets, names, source)
    about = json.loads((folder / "about.json").read_text())
    arrays = {Path(name).stem: torch.from_numpy(np.load(folder / name, mmap_mode="c")) for name in about["sha256"]}
    classes = tuple(about["class_names"])
    if "test" in arrays:
        return Images(arrays["train"], arrays["train_labels"], arrays["test"], arrays["test_labels"], classes)
    return with_test_part(arrays["train"], arrays["train_labels"], classes, test_fraction, split_seed)


def _decode(folder: Path, sets: dict[str, Encoded], names: tuple[str, ...], source: Source) -> None:
    """Decode image by image into mapped arrays, so that the set need not fit in memory.

    uint8 (N, C, H, W) for each part, and its labels; C is 1 where all images of all parts are grayscale, else 3.
    """
    every = [(encoded, i) for encoded in sets.values() for i in range(len(encoded.images))]
    channels = 1 if all(_opened(encoded, i, source).mode in GRAYSCALE for encoded, i in every) else 3
    width, height = (source.size, source.size) if source.size else _opened(sets["train"], 0, source).size
    unfinished = folder.with_suffix(".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for name, encoded in sets.items():
        count = len(encoded.images)
        shape = (count, channels, height, width)
        rows = np.lib.format.open_memmap(unfinished / f"{name}.npy", "w+", np.uint8, shape)
        for i in tracked(range(count), f"decoding {source.path}, {name} part: {count:,} images", quiet=count < 2000):
            rows[i] = _pixels(encoded, i, shape, source)
        rows.flush()
        np.save(unfinished / f"{name}_labels.npy", np.array(encoded.labels, np.int64))
    hashes = {file.name: file_hash(file) for file in sorted(unfinished.glob("*.npy"))}
    (unfinished / "about.json").write_text(json.dumps({"class_names": names, "sha256": hashes}))
    shutil.rmtree(folder, ignore_errors=True)  # one that did not verify
    os.replace(unfinished, folder)


def _pixels(encoded: Encoded, i: int, shape: tuple[int, ...], source: Source) -> Any:
    """One image as uint8 (C, H, W)."""
    _, channels, height, width = shape
    image = _opened(encoded, i, source, whole=True)
    image = image.convert("L" if image.mode in GRAYSCALE else "RGB").convert("L" if channels == 1 else "RGB")
    if source.size is not None and image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    if image.size != (width, height):
        raise DataError(
            f"{source.path} has images of different sizes ({width}x{height}, and {image.size[0]}x{image.size[1]} "
            f"in {encoded.name(i)}): type dataset.size=32"
        )
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _opened(encoded: Encoded, i: int, source: Source, whole: bool = False) -> Any:
    """An image of which the head is read (its mode and size), or the whole."""
    try:
        image = Image.open(io.BytesIO(encoded.images[i]()))
        if whole:
            image.load()
        return image
    except Exception as error:
        raise DataError(f"{encoded.name(i)} of {source.path} cannot be decoded: {error}; restore that file") from error


def _verified(folder: Path) -> bool:
    if not (folder / "about.json").exists():
        return False
    hashes = json.loads((folder / "about.json").read_text())["sha256"]
    for name, expected in hashes.items():
        if not (folder / name).exists() or file_hash(folder / name) != expected:
            print(f"{folder / name} does not match its hash; decoding it again", file=sys.stderr)
            return False
    return True
