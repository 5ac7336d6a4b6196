"""Image classification sets from Parquet files, class folders and the Hugging Face hub, decoded once.

The decoded set is one safetensors file of uint8 images beside the runs, with its hash; it is written whole or not
at all, verified when it is read, and made again where it does not verify.
"""

import hashlib
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import safe_open

from fitnets.data.identity import content, is_folder
from fitnets.data.images import Images, class_balanced, without
from fitnets.report.work import tracked
from fitnets.seeds import derive

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".tif", ".tiff")
GRAYSCALE = ("1", "L", "I;16", "I")  # of Pillow's modes
FORMAT = 2  # raise it when the decoded file changes


class DataError(ValueError):
    """A data set that cannot be read; the message names the file and what to do."""


@dataclass(frozen=True)
class Part:
    """Encoded images and their labels: `images[i]()` gives the bytes, `where[i]` says where they came from."""

    images: Sequence[Callable[[], bytes]]
    labels: list[int]
    where: Callable[[int], str]


def hub(
    path: str,
    split_seed: int,
    cache_dir: str,
    size: int | None = None,
    test_fraction: float = 0.2,
    config: str | None = None,
    label_column: str | None = None,
) -> Images:
    """A folder with train-*.parquet (and test-*.parquet), or owner/name on the Hugging Face hub.

    The image column, the label column (given by `label_column` where there are several), class names and shapes
    are found in the files. `size` resizes every image to size x size; needed only where their sizes differ. Without
    a test part, `test_fraction` of the images is held out, class-balanced, by `split_seed`.
    """

    def read() -> tuple[dict[str, Part], tuple[str, ...]]:
        tables = _parquet_tables(Path(path).expanduser()) if is_folder(path) else _hub_tables(path, config)
        return _from_tables(tables, label_column)

    return _decoded_once(read, path, split_seed, cache_dir, size, test_fraction, {"label": label_column, "c": config})


def folder(path: str, split_seed: int, cache_dir: str, size: int | None = None, test_fraction: float = 0.2) -> Images:
    """Folders of images named by their class, below train/ and test/, or without those split by `split_seed`."""

    def read() -> tuple[dict[str, Part], tuple[str, ...]]:
        root = Path(path).expanduser()
        if not root.is_dir():
            raise DataError(f"{root} is no folder; dataset=folder needs dataset.path=FOLDER with a folder per class")
        parts = {name: root / name for name in ("train", "test") if (root / name).is_dir()}
        roots = parts if "train" in parts else {"train": root}
        names = sorted({f.name for r in roots.values() for f in r.iterdir() if f.is_dir() and f.name[0] != "."})
        if not names:
            raise DataError(f"{root} holds no class folders; expected FOLDER/class/image.png or FOLDER/train/class/...")
        return {part: _from_folder(r, names) for part, r in roots.items()}, tuple(names)

    return _decoded_once(read, path, split_seed, cache_dir, size, test_fraction, {})


# ------------------------------------------------------------------------------------------ sources


def _parquet_tables(root: Path) -> dict[str, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError(f"the Parquet files in {root} need pyarrow: pip install 'fitnets[data]'") from error

    tables: dict[str, Any] = {}
    for part in ("train", "test"):
        files = sorted(root.glob(f"{part}-*.parquet"))
        if not files and part == "train":
            found = ", ".join(sorted(f.name for f in root.iterdir())[:8]) or "nothing"
            raise DataError(f"{root} holds no train-*.parquet (found: {found}); type dataset.path=FOLDER with them")
        for file in files:
            try:
                table = pq.read_table(file)
            except (pa.ArrowInvalid, OSError) as error:
                raise DataError(f"{file} is no readable Parquet file ({error}); copy or download it again") from error
            tables[part] = pa.concat_tables([tables[part], table]) if part in tables else table
    return tables


def _hub_tables(name: str, config: str | None) -> dict[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{name} on the hub needs Hugging Face datasets: pip install 'fitnets[data]'") from error
    try:
        loaded = datasets.load_dataset(name, config)
    except Exception as error:
        raise DataError(
            f"{name} could not be loaded from the hub ({type(error).__name__}: {str(error)[:200]}); with no network "
            "type dataset.path=FOLDER with train-*.parquet and test-*.parquet"
        ) from error
    if "train" not in loaded:
        raise DataError(f"{name} has no train part; it has: {', '.join(loaded)}")
    parts = {"train": "train", "test": "test" if "test" in loaded else "validation"}
    tables = {}
    for part, source in parts.items():
        if source in loaded:
            of_part = loaded[source]
            for column, feature in of_part.features.items():
                if isinstance(feature, datasets.Image):
                    of_part = of_part.cast_column(column, datasets.Image(decode=False))
            tables[part] = of_part.with_format("arrow")[:].replace_schema_metadata(
                {"huggingface": json.dumps({"info": {"features": of_part.features.to_dict()}})}
            )
    return tables


def _from_tables(tables: dict[str, Any], label_column: str | None) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Parts and class names; columns are found by what they hold."""
    import pyarrow as pa

    schema = tables["train"].schema
    images = [f.name for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0]
    images = images or [f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)]
    labels = [f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_string(f.type)]
    labels = [label_column] if label_column in labels else labels if label_column is None else []
    if len(images) != 1 or len(labels) != 1:
        columns = ", ".join(f"{f.name} ({f.type})" for f in schema)
        raise DataError(
            f"need one column of images and one of labels among: {columns}; where several hold labels type "
            "dataset.label_column=NAME"
        )
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})
    values = {part: table.column(labels[0]).to_pylist() for part, table in tables.items()}
    if any(value is None for of_part in values.values() for value in of_part):
        raise DataError(f"column {labels[0]} has rows without a label")
    names = features.get(labels[0], {}).get("names") or sorted({v for of_part in values.values() for v in of_part})
    numbered = not isinstance(values["train"][0], str) and bool(features.get(labels[0], {}).get("names"))
    number = {name: i for i, name in enumerate(names)}
    parts = {}
    for part, table in tables.items():
        column = table.column(images[0]).combine_chunks()
        if pa.types.is_struct(column.type):
            column = column.field("bytes")
        encoded = [partial(_bytes, column, i) for i in range(len(column))]
        kept = [v if numbered else number[v] for v in values[part]]
        if numbered and not all(0 <= label < len(names) for label in kept):
            raise DataError(
                f"column {labels[0]} has labels outside 0..{len(names) - 1}, the classes that the file names"
            )
        parts[part] = Part(encoded, kept, f"image {{}} of the {part} part".format)
    return parts, tuple(str(name) for name in names)


def _bytes(column: Any, i: int) -> bytes:
    return column[i].as_py() or b""


def _from_folder(root: Path, names: list[str]) -> Part:
    files = [
        (f, i) for i, n in enumerate(names) for f in sorted((root / n).glob("**/*")) if f.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise DataError(f"{root} holds no images in its class folders (known endings: {' '.join(SUFFIXES)})")
    return Part([f.read_bytes for f, _ in files], [i for _, i in files], lambda i: str(files[i][0]))


# ------------------------------------------------------------------------------------------- decode


def _decoded_once(
    read: Callable[[], tuple[dict[str, Part], tuple[str, ...]]],
    path: str,
    split_seed: int,
    cache_dir: str,
    size: int | None,
    test_fraction: float,
    choices: dict[str, Any],
) -> Images:
    key = hashlib.sha256(json.dumps([FORMAT, content(path), size, choices]).encode()).hexdigest()[:16]
    file = Path(cache_dir).expanduser() / f"{Path(path).name}-{key}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        if not _verified(file):
            parts, names = read()
            _decode(file, parts, names, size, path)
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        names = tuple(json.loads(opened.metadata()["class_names"]))
    train, labels = tensors["train"], tensors["train_labels"]
    if "test" in tensors:
        return Images(train, labels, tensors["test"], tensors["test_labels"], names)
    test = class_balanced(labels, round(test_fraction * len(labels)), derive(split_seed, "test"))
    kept = without(len(labels), test)
    return Images(train[kept], labels[kept], train[test], labels[test], names)


def _decode(file: Path, parts: dict[str, Part], names: tuple[str, ...], size: int | None, path: str) -> None:
    """Decode image by image into a safetensors file that is mapped, so that the set need not fit in memory.

    uint8 (N, C, H, W) for each part, and its labels; C is 1 where all images of all parts are grayscale, else 3.
    """
    import numpy as np

    channels = 1 if all(_is_gray(part, i, path) for part in parts.values() for i in range(len(part.images))) else 3
    shape = _shape_of(parts, size, path)
    sizes = {name: len(part.images) for name, part in parts.items()}
    header: dict[str, Any] = {"__metadata__": {"class_names": json.dumps(names)}}
    start = 0
    for name, count in sizes.items():
        for key, kind, of_one in ((f"{name}_labels", "I64", [8]), (name, "U8", [channels, *shape])):
            end = start + count * math.prod(of_one)
            header[key] = {"dtype": kind, "shape": [count, *(of_one if kind == "U8" else [])]}
            header[key]["data_offsets"] = [start, end]
            start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # safetensors wants its data aligned
    unfinished = file.with_suffix(".partial")
    with open(unfinished, "wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        opened.truncate(8 + len(text) + start)
    for name, part in parts.items():
        at = {key: 8 + len(text) + header[key]["data_offsets"][0] for key in (name, f"{name}_labels")}
        labels = np.memmap(unfinished, "<i8", "r+", at[f"{name}_labels"], (sizes[name],))
        labels[:] = part.labels
        rows = np.memmap(unfinished, np.uint8, "r+", at[name], (sizes[name], channels, *shape))
        what = f"decoding {path}, {name} part: {sizes[name]:,} images"
        for i in tracked(range(sizes[name]), what, quiet=sizes[name] < 2000):
            rows[i] = _pixels(part, i, channels, shape, size, path)
        rows.flush()
        labels.flush()
    with open(unfinished, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    os.replace(unfinished, file)
    file.with_suffix(".sha256").write_text(digest)


def _shape_of(parts: dict[str, Part], size: int | None, path: str) -> tuple[int, int]:
    """(H, W) of every image: `size`, or what the first image has."""
    return (size, size) if size is not None else _image(parts["train"], 0, path).size[::-1]


def _pixels(part: Part, i: int, channels: int, shape: tuple[int, int], size: int | None, path: str) -> Any:
    """One image as uint8 (C, H, W)."""
    import numpy as np
    from PIL import Image

    image = _image(part, i, path).convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    if image.size[::-1] != shape:
        raise DataError(
            f"{path} has images of different sizes ({shape[1]}x{shape[0]}, and {image.size[0]}x{image.size[1]} "
            f"in {part.where(i)}): type dataset.size=32"
        )
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _image(part: Part, i: int, path: str) -> Any:
    """The decoded image, grayscale or colour."""
    with _readable(part, i, path) as image:
        return image.convert("L" if image.mode in GRAYSCALE else "RGB")


def _is_gray(part: Part, i: int, path: str) -> bool:
    """Judged by the file's head alone."""
    with _readable(part, i, path) as image:
        return image.mode in GRAYSCALE


@contextmanager
def _readable(part: Part, i: int, path: str) -> Iterator[Any]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(part.images[i]())) as image:
            yield image
    except Exception as error:
        raise DataError(f"{part.where(i)} of {path} cannot be decoded: {error}; restore that file") from error


def _verified(file: Path) -> bool:
    if not file.exists() or not file.with_suffix(".sha256").exists():
        return False
    with open(file, "rb") as opened:
        same = hashlib.file_digest(opened, "sha256").hexdigest() == file.with_suffix(".sha256").read_text()
    if not same:
        print(f"{file} does not match its hash; decoding it again", file=sys.stderr)
    return same
