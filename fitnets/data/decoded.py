"""Encoded pictures decoded once, into a file of tensors beside the runs, with its hash.

It is written whole or not at all, verified when it is read, and made again where it does not verify.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from fitnets.data.identity import DataError, content, refuse_changed
from fitnets.data.images import Images, fingerprints, with_test_part
from fitnets.data.parts import TEST, TRAIN, VALIDATION
from fitnets.data.pixels import Head, colour_of, head_of, is_grey_colour, levels_of, shown
from fitnets.files import beside, made_once, put_hashed, reserve, told
from fitnets.fingerprint import code_hash
from fitnets.progress import tracked

CODE = ("fitnets.data.files.folder", "fitnets.data.files.hub")  # when it changes, all is decoded again
NAMED = 5  # pictures in an error's message


@dataclass(frozen=True)
class Encoded:
    """Encoded pictures and their labels: `images[i]()` gives the bytes, `name(i)` says where they came from."""

    images: Sequence[Callable[[], bytes]]
    labels: list[int]
    name: Callable[[int], str]


@dataclass(frozen=True)
class Sets:
    """What a source holds: train, validation and test by name as far as there are, the classes, and what to say."""

    parts: dict[str, Encoded]
    class_names: tuple[str, ...]
    said: list[str]

    def each(self) -> Iterator[tuple[Encoded, int]]:
        return ((part, i) for part in self.parts.values() for i in range(len(part.images)))


@dataclass(frozen=True)
class Source:
    """What is decoded, and where that is kept; `size` resizes every picture to size x size."""

    path: str
    cache_dir: str
    size: int | None = None
    background: Any = "white"
    choices: Mapping[str, str | None] = field(default_factory=dict)


def decoded_once(read: Callable[[], Sets], source: Source, test_fraction: float, split_seed: int) -> Images:
    """The pictures of a source, decoded now or before; without a test part, `test_fraction` of them is held out."""
    background = list(colour_of(source.background))
    decides = [*map(code_hash, CODE), content(source.path), source.size, background, dict(source.choices)]
    key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
    file = Path(source.cache_dir).expanduser() / f"{Path(source.path).name}-{key}.safetensors"
    made_once(file, lambda: _decode(file, read(), source))
    tensors, about = load_file(file), json.loads(file.with_suffix(".json").read_text())  # mapped, not read
    validation = about["found"]["own_validation"]
    total = len(tensors["train_labels"])
    images = Images(
        tensors["train"],
        tensors["train_labels"],
        tensors.get("test", tensors["train"][:0]),
        tensors.get("test_labels", tensors["train_labels"][:0]),
        tuple(about["class_names"]),
        val_index=torch.arange(total - validation, total) if validation else None,
        fingerprints=(tensors["train_fingerprints"], tensors.get("test_fingerprints", torch.empty(0).long())),
        names=(about["names"]["train"], about["names"]["test"]),
        found=about["found"],
    )
    return images if len(images.test_labels) else with_test_part(images, test_fraction, split_seed)


def _decode(file: Path, sets: Sets, source: Source) -> None:
    """Decode picture by picture into a mapped file, so that the set need not fit in memory.

    train (with its own validation part at its end) and test are uint8 (N, C, H, W); C is 1 where all pictures are
    grey, else 3. Beside each stand its labels and fingerprints.
    """
    heads = _heads(sets, source)
    coloured = any(head.alpha for head in heads) and not is_grey_colour(source.background)
    grey, levels, size = all(head.grey for head in heads) and not coloured, levels_of(heads), _size(sets, heads, source)
    training = [part for name, part in sets.parts.items() if name != TEST]
    together = {TRAIN: training} | ({TEST: [sets.parts[TEST]]} if TEST in sets.parts else {})
    counts = {name: sum(len(part.images) for part in parts) for name, parts in together.items()}
    with beside(file) as unfinished:
        rows = _mapped(unfinished, counts, (1 if grey else 3, *reversed(size)))
        names, failed = dict[str, list[str]](), list[str]()
        for name, parts in together.items():
            every = [(part, i) for part in parts for i in range(len(part.images))]
            what = f"decoding {source.path}, {name} part: {len(every):,} pictures"
            for row in tracked(range(len(every)), what, quiet=len(every) < 2000):
                part, i = every[row]
                try:
                    picture = shown(part.images[i](), grey, levels, source.background)
                    rows[name][row] = _resized(picture, size)
                except Exception as error:
                    failed.append(f"{part.name(i)}: {error}")
            names[name] = [part.name(i) for part, i in every]
            rows[f"{name}_labels"][:] = [label for part in parts for label in part.labels]
            rows[f"{name}_fingerprints"][:] = fingerprints(torch.from_numpy(rows[name])).numpy()
        for mapped in rows.values():
            mapped.flush()
        if failed:
            raise _unreadable(failed, source)
        found = _found(sets, heads, levels, source) | {"values": _values_used(rows[TRAIN])}
        refuse_changed(source.path)
        about = {"class_names": sets.class_names, "names": {TEST: []} | names, "found": found}
        put_hashed(unfinished, file, about)


def _values_used(rows: Any) -> list[int]:
    """The values of pixels below which are 0.5 % of them, and 99.5 %."""
    chunks = np.array_split(rows, max(1, len(rows) // 1000))
    shares = np.cumsum(sum(np.bincount(chunk.reshape(-1), minlength=256) for chunk in chunks)) / rows.size
    return [int(np.searchsorted(shares, share)) for share in (0.005, 0.995)]


def _resized(picture: Any, size: tuple[int, int]) -> Any:
    """Pixels (C, H, W) of a picture in L or RGB."""
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _size(sets: Sets, heads: list[Head], source: Source) -> tuple[int, int]:
    """Width and height of all pictures. Raises DataError where they differ and are not resized."""
    if source.size:
        return source.size, source.size
    first = heads[0].size
    for (part, i), head in zip(sets.each(), heads, strict=True):
        if head.size != first:
            sizes = f"{first[0]}x{first[1]}, and {head.size[0]}x{head.size[1]} in {part.name(i)}"
            raise DataError(f"{source.path} has pictures of different sizes ({sizes}): type dataset.size=32")
    return first


def _heads(sets: Sets, source: Source) -> list[Head]:
    """What is known of each picture before it is shown."""
    heads, failed = [], list[str]()
    for part, i in sets.each():
        try:
            heads.append(head_of(part.images[i]()))
        except Exception as error:
            failed.append(f"{part.name(i)}: {error}")
    if failed:
        raise _unreadable(failed, source)
    return heads


def _unreadable(failed: list[str], source: Source) -> DataError:
    listed = "; ".join(failed[:NAMED]) + (f" (and {len(failed) - NAMED:,} more)" if len(failed) > NAMED else "")
    files = "1 picture" if len(failed) == 1 else f"{len(failed):,} pictures"
    return DataError(f"{files} of {source.path} cannot be read: {listed}. Restore these files, or take them away")


def _found(sets: Sets, heads: list[Head], levels: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """What the files turned out to be, for result.json."""
    drawn = [part for part in (VALIDATION, TEST) if part not in sets.parts]
    sizes = sorted({head.size for head in heads}, key=lambda size: size[0] * size[1])
    return {
        "pictures": len(heads),
        "formats": dict(Counter(head.format for head in heads).most_common()),
        "modes": dict(Counter(head.mode for head in heads).most_common()),
        "smallest": list(sizes[0]),
        "largest": list(sizes[-1]),
        "alpha": sum(head.alpha for head in heads),
        "background": source.background,
        "animated": sum(head.animated for head in heads),
        "levels": dict(levels),
        "own_validation": len(sets.parts[VALIDATION].labels) if VALIDATION in sets.parts else 0,
        "said": [*sets.said, *([f"drawn from train: {', '.join(drawn)}"] if drawn else [])],
    }


def _mapped(path: Path, counts: Mapping[str, int], shape: tuple[int, ...]) -> dict[str, Any]:
    """A new safetensors file of pictures (count, *shape), their labels and fingerprints, as mapped arrays to fill."""
    kinds = {"": (np.uint8, "U8", shape), "_labels": (np.int64, "I64", ()), "_fingerprints": (np.int64, "I64", ())}
    header, arrays, at = dict[str, Any](), dict[str, Any](), 0
    for ending in ("_labels", "_fingerprints", ""):  # 8 bytes a number first: all are aligned
        for name, count in counts.items():
            kind, word, of_one = kinds[ending]
            size = count * int(np.prod(of_one)) * np.dtype(kind).itemsize
            header[name + ending] = {"dtype": word, "shape": [count, *of_one], "data_offsets": [at, at + size]}
            arrays[name + ending], at = (kind, at, (count, *of_one)), at + size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with told(path), open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        reserve(file, 8 + len(text) + at)
    start = 8 + len(text)
    return {name: np.memmap(path, kind, "r+", start + at, of) for name, (kind, at, of) in arrays.items()}
