"""Where images come from: Parquet files, class folders and the Hugging Face hub."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from fitnets.data.decoded import DataError, Encoded, Sets, Source, decoded_once
from fitnets.data.identity import is_folder
from fitnets.data.images import Images

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".tif", ".tiff")


def hub(
    path: str,
    split_seed: int,
    cache_dir: str,
    *,
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

    def read() -> Sets:
        tables = _parquet_tables(Path(path).expanduser()) if is_folder(path) else _hub_tables(path, config)
        return _from_tables(tables, label_column)

    choices = {"label": label_column, "c": config}
    return decoded_once(read, Source(path, cache_dir, size, choices), test_fraction, split_seed)


def folder(
    path: str, split_seed: int, cache_dir: str, *, size: int | None = None, test_fraction: float = 0.2
) -> Images:
    """Folders of images named by their class, below train/ and test/, or without those split by `split_seed`."""
    read = partial(_from_folders, Path(path).expanduser())
    return decoded_once(read, Source(path, cache_dir, size), test_fraction, split_seed)


def _parquet_tables(root: Path) -> dict[str, Any]:
    """An Arrow table for each part."""
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
    """An Arrow table for each part, with the features (class names) where Parquet files have them."""
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
    tables = {}
    for part, source in {"train": "train", "test": "test" if "test" in loaded else "validation"}.items():
        if source in loaded:
            of_part = loaded[source]
            for feature_name, feature in of_part.features.items():
                if isinstance(feature, datasets.Image):
                    of_part = of_part.cast_column(feature_name, datasets.Image(decode=False))
            features = json.dumps({"info": {"features": of_part.features.to_dict()}})
            tables[part] = of_part.with_format("arrow")[:].replace_schema_metadata({"huggingface": features})
    return tables


def _from_tables(tables: dict[str, Any], label_column: str | None) -> Sets:
    """Encoded images by part, and class names; columns are found by what they hold."""
    schema = tables["train"].schema
    image_name, label_name = _column_names(schema, label_column)
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})
    values = {part: table.column(label_name).to_pylist() for part, table in tables.items()}
    distinct = {value for of_part in values.values() for value in of_part}
    if None in distinct:
        raise DataError(f"column {label_name} has rows without a label")
    named = features.get(label_name, {}).get("names")
    names = named or sorted(distinct)
    numbered = bool(named) and not isinstance(values["train"][0], str)
    if numbered and not all(0 <= label < len(names) for label in distinct):
        raise DataError(f"column {label_name} has labels outside 0..{len(names) - 1}, the classes that the file names")
    number = {name: i for i, name in enumerate(names)}
    sets = {}
    for part, table in tables.items():
        images = table.column(image_name).combine_chunks()
        if hasattr(images, "field"):  # {bytes, path}
            images = images.field("bytes")
        encoded = [partial(_bytes, images, i) for i in range(len(images))]
        labels = values[part] if numbered else [number[value] for value in values[part]]
        sets[part] = Encoded(encoded, labels, f"image {{}} of the {part} part".format)
    return sets, tuple(str(name) for name in names)


def _column_names(schema: Any, label_column: str | None) -> tuple[str, str]:
    """The columns of images and of labels, by their types."""
    import pyarrow as pa

    images = [f.name for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0]
    images = images or [f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)]
    labels = [f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_string(f.type)]
    if label_column is not None:
        labels = [name for name in labels if name == label_column]
    if len(images) != 1 or len(labels) != 1:
        columns = ", ".join(f"{f.name} ({f.type})" for f in schema)
        raise DataError(
            f"need one column of images and one of labels among: {columns}; where several hold labels type "
            "dataset.label_column=NAME"
        )
    return images[0], labels[0]


def _bytes(images: Any, i: int) -> bytes:
    return images[i].as_py() or b""


def _from_folders(root: Path) -> Sets:
    """Encoded images by part, and class names, which are those of the folders."""
    if not root.is_dir():
        raise DataError(f"{root} is no folder; dataset=folder needs dataset.path=FOLDER with a folder per class")
    roots = {name: root / name for name in ("train", "test") if (root / name).is_dir()}
    if "train" not in roots:
        roots = {"train": root}
    names = sorted({f.name for r in roots.values() for f in r.iterdir() if f.is_dir() and f.name[0] != "."})
    if not names:
        raise DataError(f"{root} holds no class folders; expected FOLDER/class/image.png or FOLDER/train/class/...")
    sets = {}
    for part, above in roots.items():
        files = [f for name in names for f in sorted((above / name).glob("**/*")) if f.suffix.lower() in SUFFIXES]
        if not files:
            raise DataError(f"{above} holds no images in its class folders (known endings: {' '.join(SUFFIXES)})")
        labels = [names.index(file.relative_to(above).parts[0]) for file in files]
        sets[part] = Encoded([file.read_bytes for file in files], labels, list(map(str, files)).__getitem__)
    return sets, tuple(names)
