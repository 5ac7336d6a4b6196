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
from fitnets.data.parts import TEST, TRAIN, VALIDATION, chosen, part_in

Tables = Mapping[str, Callable[[], Any]]  # by the name of a part; only those that are used are read
SHARD = re.compile(r"(.*?)-?(\d+)-of-(\d+)(?:-[0-9a-f]+)?$")  # the hub used to write a hash at the end


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
        if names_of(found[-1], str(file)) != names_of(found[0], str(files[0])):
            raise DataError(f"{file} names its classes otherwise than {files[0].name}: make them alike")
    try:
        return pa.concat_tables(found).replace_schema_metadata(found[0].schema.metadata)
    except pa.ArrowInvalid as error:
        raise DataError(f"the {part} files in {files[0].parent} have different columns ({error})") from error


def names_of(table: Any, where: str) -> dict[str, list[str]]:
    """The names of classes that a table gives for its columns, as sets on the hub do."""
    try:
        metadata = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        features = metadata.get("info", {}).get("features", {})
        return {name: feature["names"] for name, feature in features.items() if (feature or {}).get("names")}
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{where} has metadata of Hugging Face's that cannot be read ({error})") from error


def _parquet_files(root: Path) -> dict[str, list[Path]]:
    """The files of each part: named by it (train-00000-of-00001.parquet), or in a folder of that name."""
    every = [file for file in files_below(root) if file.suffix.lower() == ".parquet"]
    if not every:
        found = ", ".join(sorted(f.name for f in root.iterdir())[:8]) or "nothing"
        raise DataError(f"{root} holds no train-*.parquet (found: {found}); type dataset.path=FOLDER with them")
    parts: dict[str, list[Path]] = {}
    places = dict[str, list[str]]()  # folders that are no part's, with the files in them
    for file in every:
        folders = list(file.relative_to(root).parts[:-1])
        of_folder = next((folder for folder in reversed(folders) if part_in(folder)), None)
        name = _without_number(file.stem)
        parts.setdefault(name if part_in(name) or of_folder is None else of_folder, []).append(file)
        places.setdefault("/".join(folder for folder in folders if folder != of_folder), []).append(file.name)
    if len(places) > 1:
        listed = ", ".join(f"{place or '.'} ({files[0]})" for place, files in sorted(places.items()))
        raise DataError(f"{root} has Parquet files in several folders, {listed}: type dataset.path={root}/FOLDER")
    if not any(map(part_in, parts)) and len(parts) == 1:  # files without a word for a part are all to train on
        return {TRAIN: every}
    for part, files in parts.items():
        shards = [shard for file in files if (shard := SHARD.match(file.stem))]
        if len({shard[3] for shard in shards}) > 1:
            raise DataError(f"{root} has {part} files of several sets, {files[0].name} and {files[-1].name}: keep one")
        missing = sorted(set(range(int(shards[0][3]))) - {int(shard[2]) for shard in shards}) if shards else []
        if missing:
            count = f"{len(missing)} of the {int(shards[0][3])} {part} files"
            raise DataError(f"{root} lacks {count}, as number {missing[0]:05d}: copy or download them all")
    return parts


def _without_number(stem: str) -> str:
    """A file's name without what counts it: train of train-00000-of-00002 and of train_1."""
    shard = SHARD.match(stem)
    return shard[1] if shard else re.sub(r"[-_. ]*\d+$", "", stem)


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
    schema, named = tables[TRAIN].schema, {part: names_of(table, where) for part, table in tables.items()}
    image_name, label_name = _column_names(schema, columns, list(named[TRAIN]))
    for part, table in tables.items():
        for name in (image_name, label_name):
            if name not in table.column_names:
                raise DataError(f"the {part} part has no column {name}; it has: {', '.join(table.column_names)}")
    if len(schema) > 2:
        said.append(f"columns {image_name} and {label_name} of {', '.join(schema.names)}")
    of_train, labels = named[TRAIN].get(label_name), dict[str, list[Any]]()
    for part, table in tables.items():
        values = _labels(table.column(label_name), label_name, part, tables)
        labels[part] = _named(values, named[part].get(label_name, of_train), label_name)
    classes, unused = _classes(labels, of_train, label_name)
    said += [f"classes without a picture: {', '.join(unused)}"] if unused else []
    number = {name: i for i, name in enumerate(classes)}
    sets = {}
    for part, table in tables.items():
        images = table.column(image_name).combine_chunks()
        if hasattr(images, "field"):  # {bytes, path}
            images = images.field("bytes")
        encoded = [partial(_bytes, images, i) for i in range(len(images))]
        sets[part] = Encoded(encoded, [number[name] for name in labels[part]], f"image {{}} of the {part} part".format)
    return Sets(sets, tuple(map(str, classes)), said)


def _column_names(schema: Any, columns: Columns, with_names: Sequence[str]) -> tuple[str, str]:
    """The columns of pictures and of labels: as the config names them, else by their types."""
    import pyarrow as pa

    types = pa.types
    binary = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    words = (types.is_string, types.is_large_string, types.is_string_view)
    numbered = (types.is_integer, types.is_boolean, types.is_dictionary)
    structs = [f.name for f in schema if types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0]
    of_bytes = [f.name for f in schema if any(is_kind(f.type) for is_kind in binary)]
    labels = [f.name for f in schema if any(is_kind(f.type) for is_kind in (*words, *numbered))]
    of_classes = [name for name in labels if name in with_names]
    usual = [name for name in schema.names if name.lower() in ("label", "labels")]  # of whatever type
    guesses = {"image": structs or of_bytes, "label": of_classes or list(dict.fromkeys([*labels, *usual]))}
    allowed = {"image": [*structs, *of_bytes], "label": [n for n in schema.names if n not in (*structs, *of_bytes)]}
    found = []
    for key, given in (("image", columns.image), ("label", columns.label)):
        possible = guesses[key] if given is None else [name for name in allowed[key] if name == given]
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
        what = f"{str(strange[0])[:40]!r} ({column.type})"
        raise DataError(f"column {name} holds {what}, no class: type dataset.label_column=NAME of another one")
    values = [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]
    if strange := [value for value in values if isinstance(value, float) and value == value]:
        raise DataError(f"column {name} holds {strange[0]!r}, a measurement: type dataset.label_column=NAME of classes")
    missing = sum(value is None or value != value or not str(value).strip() for value in values)
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


def _named(values: list[Any], names: Sequence[str] | None, column: str) -> list[Any]:
    """The labels, numbers replaced by the names that their own file gives. Raises DataError for one without."""
    if not names or any(isinstance(value, str) for value in values):
        return values
    if len(set(names)) < len(names) or not all(map(str.strip, names)):
        raise DataError(
            f"column {column} names two classes alike, or one not at all: {', '.join(map(repr, names[:9]))}"
        )
    if outside := sorted({value for value in values if not 0 <= value < len(names)}):
        missing = " (-1 stands for no label: take those rows away)" if -1 in outside else ""
        raise DataError(
            f"column {column} has labels outside 0..{len(names) - 1}, the classes that the file names: "
            f"{outside[:5]}{missing}"
        )
    return [names[value] for value in values]


def _classes(labels: Mapping[str, list[Any]], names: Sequence[str] | None, column: str) -> tuple[list[Any], list[str]]:
    """The classes in order, which are those of train, and named ones that have no picture."""
    train = set(labels[TRAIN])
    if -1 in train and len(train) > 2:
        raise DataError(f"column {column} has rows of train with -1, which stands for no label: take them away")
    for part, of_part in labels.items():
        if strange := [value for value in dict.fromkeys(of_part) if value not in train]:
            words = (", ".join(map(repr, sorted(found, key=str)[:10])) for found in (strange, train))
            raise DataError("the {} part has labels that train has not: {}; train has: {}".format(part, *words))
    if len(train) < 2:
        raise DataError(f"column {column} has one class, {train.pop()}, and a classifier needs two or more")
    if names and train <= set(names):
        return [name for name in names if name in train], [name for name in names if name not in train]
    return sorted(train, key=lambda value: (isinstance(value, str), value)), []


def _bytes(images: Any, i: int) -> bytes:
    if (encoded := images[i].as_py()) is None:
        raise ValueError("it holds no bytes, a path at most")
    return encoded
