"""Parquet files and the Hugging Face hub: which columns hold pictures and labels, and which classes there are."""

import importlib.util
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fitnets.data.decoded import Encoded, Sets
from fitnets.data.identity import DataError, files_below
from fitnets.data.parts import TEST, TRAIN, VALIDATION, chosen, part_of

Tables = Mapping[str, Callable[[], Any]]  # by the name of a part; only those that are used are read
SHARD = re.compile(r"(.*?)-?(\d+)-of-(\d+)$")


@dataclass(frozen=True)
class Columns:
    """What a config says of a table's columns; null: they are found by what they hold."""

    label: str | None = None
    image: str | None = None


def parquet_tables(root: Path) -> Tables:
    """What reads the Arrow table of each part, by the name that the files give it."""
    if not importlib.util.find_spec("pyarrow"):
        raise DataError(f"the Parquet files in {root} need pyarrow: pip install 'fitnets[data]'")
    return {part: partial(_read, files, part) for part, files in _parquet_files(root).items()}


def _read(files: Sequence[Path], part: str) -> Any:
    """One Arrow table of a part's files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = []
    for file in files:
        try:
            found.append(pq.read_table(file, partitioning=None))
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{file} is no readable Parquet file ({error}); copy or download it again") from error
    try:
        return pa.concat_tables(found).replace_schema_metadata(found[0].schema.metadata)
    except pa.ArrowInvalid as error:
        raise DataError(f"the {part} files in {files[0].parent} have different columns ({error})") from error


def _parquet_files(root: Path) -> dict[str, list[Path]]:
    """The files of each part: named by it (train-00000-of-00001.parquet), or in a folder of that name."""
    every = [file for file in files_below(root) if file.suffix.lower() == ".parquet"]
    if not every:
        found = ", ".join(sorted(f.name for f in root.iterdir())[:8]) or "nothing"
        raise DataError(f"{root} holds no train-*.parquet (found: {found}); type dataset.path=FOLDER with them")
    parts: dict[str, list[Path]] = {}
    for file in every:
        shard = SHARD.match(file.stem)
        name = (shard[1] if shard else file.stem) or file.stem
        folders = [folder for folder in file.relative_to(root).parts[:-1] if part_of(folder)]
        word = re.split(r"[^A-Za-z]+", name)[0]
        parts.setdefault(word if part_of(word) else folders[-1] if folders else name, []).append(file)
    if not any(map(part_of, parts)):  # files without a word for a part are all to train on
        parts = {TRAIN: every}
    for part, files in parts.items():
        folders = sorted({str(file.parent.relative_to(root)) for file in files})
        if len(folders) > 1:
            raise DataError(f"{root} has {part} files in {', '.join(folders)}: type dataset.path={root}/FOLDER")
        shards = [shard for file in files if (shard := SHARD.match(file.stem))]
        missing = sorted(set(range(int(shards[0][3]))) - {int(shard[2]) for shard in shards}) if shards else []
        if missing:
            count = f"{len(missing)} of the {int(shards[0][3])} {part} files"
            raise DataError(f"{root} lacks {count}, as number {missing[0]:05d}: copy or download them all")
    return parts


def hub_tables(name: str, config: str | None) -> Tables:
    """What reads the Arrow table of each part, with the features (class names) where Parquet files have them."""
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
    return {part: partial(_from_hub, of_part) for part, of_part in loaded.items()}


def _from_hub(of_part: Any) -> Any:
    import datasets

    for name, feature in of_part.features.items():
        if isinstance(feature, datasets.Image):
            of_part = of_part.cast_column(name, datasets.Image(decode=False))
    features = json.dumps({"info": {"features": of_part.features.to_dict()}})
    return of_part.with_format("arrow")[:].replace_schema_metadata({"huggingface": features})


def from_tables(given: Tables, columns: Columns, test_split: str | None, where: str) -> Sets:
    """Encoded pictures by part, and class names; columns are found by what they hold."""
    used, said = chosen(given, test_split, where)
    tables = {part: read() for part, read in used.items()}
    schema = tables[TRAIN].schema
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})
    image_name, label_name = _column_names(schema, columns, features)
    for part, table in tables.items():
        for name in (image_name, label_name):
            if name not in table.column_names:
                raise DataError(f"the {part} part has no column {name}; it has: {', '.join(table.column_names)}")
    if len(schema) > 2:
        said.append(f"columns {image_name} and {label_name} of {', '.join(schema.names)}")
    values = {part: _labels(table.column(label_name), label_name, part, tables) for part, table in tables.items()}
    names, numbers, unused = _classes(values, features.get(label_name, {}).get("names"), label_name)
    if len(names) < 2:
        raise DataError(f"column {label_name} has one class, {names[0]}, and a classifier needs two or more")
    said += [f"classes without a picture: {', '.join(unused)}"] if unused else []
    sets = {}
    for part, table in tables.items():
        images = table.column(image_name).combine_chunks()
        if hasattr(images, "field"):  # {bytes, path}
            images = images.field("bytes")
        encoded = [partial(_bytes, images, i) for i in range(len(images))]
        sets[part] = Encoded(
            encoded, [numbers[value] for value in values[part]], f"image {{}} of the {part} part".format
        )
    return Sets(sets, names, said)


def _column_names(schema: Any, columns: Columns, features: Mapping[str, Any]) -> tuple[str, str]:
    """The columns of pictures and of labels: as the config names them, else by their types."""
    import pyarrow as pa

    types = pa.types
    binary = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    words = (types.is_string, types.is_large_string, types.is_string_view)
    numbered = (types.is_integer, types.is_boolean, types.is_dictionary)
    structs = [f.name for f in schema if types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0]
    images = structs or [f.name for f in schema if any(is_kind(f.type) for is_kind in binary)]
    labels = [f.name for f in schema if any(is_kind(f.type) for is_kind in (*words, *numbered))]
    of_classes = [name for name in labels if "names" in (features.get(name) or {})]
    found = []
    for key, given, possible in (("image", columns.image, images), ("label", columns.label, of_classes or labels)):
        if given is not None:
            possible = [name for name in schema.names if name == given]
        if len(possible) != 1:
            listed = ", ".join(f"{f.name} ({f.type})" for f in schema)
            which = f"dataset.{key}_column is {given!r}" if given else f"{len(possible)} columns could hold the {key}s"
            choices = f", one of: {', '.join(possible)}" if len(possible) > 1 else ""
            raise DataError(
                f"need one column of images and one of labels among: {listed}; {which}: type "
                f"dataset.{key}_column=NAME{choices}"
            )
        found += possible
    return found[0], found[1]


def _labels(column: Any, name: str, part: str, tables: Mapping[str, Any]) -> list[Any]:
    """A part's labels as Python's own strings, whole numbers or booleans. Raises DataError for other things."""
    values = column.to_pylist()
    if not values:
        raise DataError(f"the {part} part has no rows")
    if strange := [value for value in values if value is not None and not isinstance(value, str | int | float)]:
        raise DataError(f"column {name} holds {strange[0]!r} ({column.type}), no class: type dataset.label_column=NAME")
    values = [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]
    if strange := [value for value in values if isinstance(value, float) and value == value]:
        raise DataError(f"column {name} holds {strange[0]!r}, a measurement: type dataset.label_column=NAME of classes")
    missing = sum(value is None or value != value for value in values)
    if missing == len(values) or set(values) == {-1}:
        raise _hidden(name, part, tables)
    if missing:
        raise DataError(f"column {name} has rows without a label ({missing:,} of {part}): take them away")
    return values


def _hidden(name: str, part: str, tables: Mapping[str, Any]) -> DataError:
    others = [VALIDATION] * (part == TEST and VALIDATION in tables)
    choice = " or ".join(f"dataset.test_split={other}" for other in [*others, "none (a part of train)"])
    hint = f"type {choice}" if part == TEST else "no classes can be learned from it"
    return DataError(f"the labels of the {part} part are hidden (column {name}): {hint}")


def _classes(
    values: Mapping[str, list[Any]], named: Sequence[str] | None, name: str
) -> tuple[tuple[str, ...], dict[Any, int], list[str]]:
    """The classes' names, the number of each label, and named classes that have no picture."""
    train = set(values[TRAIN])
    if named and not any(isinstance(value, str) for value in train):
        every = {value for of_part in values.values() for value in of_part}
        if outside := sorted(value for value in every if not 0 <= value < len(named)):
            without = " (-1 stands for no label: take those rows away)" if -1 in outside else ""
            raise DataError(
                f"column {name} has labels outside 0..{len(named) - 1}, the classes that the file names: "
                f"{outside[:5]}{without}"
            )
        title = dict(enumerate(map(str, named)))
    else:
        if -1 in train and len(train) > 2:
            raise DataError(f"column {name} has rows of train with -1, which stands for no label: take them away")
        title = {value: str(value) for value in sorted(train, key=lambda value: (isinstance(value, str), value))}
    for part, of_part in values.items():
        if strange := [title.get(value, str(value)) for value in dict.fromkeys(of_part) if value not in train]:
            known = ", ".join(title[value] for value in title if value in train)
            raise DataError(f"the {part} part has labels that train has not: {', '.join(strange)}; train has: {known}")
    numbers = {value: number for number, value in enumerate(value for value in title if value in train)}
    return tuple(title[value] for value in numbers), numbers, [title[v] for v in title if v not in train]


def _bytes(images: Any, i: int) -> bytes:
    if (encoded := images[i].as_py()) is None:
        raise ValueError("it holds no bytes, a path at most")
    return encoded
