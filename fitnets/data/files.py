"""Where images come from: class folders, Parquet files and the Hugging Face hub. docs/data.md says what is read."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fitnets.data.decoded import Sets, Source, decoded_once
from fitnets.data.folders import from_folders
from fitnets.data.identity import is_folder
from fitnets.data.images import Images
from fitnets.data.tables import Columns, from_tables, hub_tables, parquet_tables


def hub(
    path: str,
    split_seed: int,
    cache_dir: str,
    *,
    size: int | None = None,
    test_fraction: float = 0.2,
    test_split: str | None = None,
    background: str | Sequence[int] = "white",
    config: str | None = None,
    label_column: str | None = None,
    image_column: str | None = None,
) -> Images:
    """A folder with train-*.parquet (and test-*.parquet), or owner/name on the Hugging Face hub.

    The image column, the label column (given by `image_column` and `label_column` where there are several), class
    names and shapes are found in the files. `size` resizes every image to size x size; needed only where their sizes
    differ. `test_split` names the part to test on; without one, `test_fraction` of train is held out, by class, drawn
    with `split_seed`. Transparent pictures lie on the `background`. Raises DataError for what cannot be used.
    """

    def read() -> Sets:
        tables = parquet_tables(Path(path).expanduser()) if is_folder(path) else hub_tables(path, config)
        return from_tables(tables, Columns(label_column, image_column), test_split, path)

    choices = {"label": label_column, "image": image_column, "config": config, "test": test_split}
    return decoded_once(read, Source(path, cache_dir, size, background, choices), test_fraction, split_seed)


def folder(
    path: str,
    split_seed: int,
    cache_dir: str,
    *,
    size: int | None = None,
    test_fraction: float = 0.2,
    test_split: str | None = None,
    background: str | Sequence[int] = "white",
) -> Images:
    """Folders of images named by their class, below train/, val/ and test/ or without those split by `split_seed`.

    The options are those of `hub`.
    """
    read = partial(from_folders, Path(path).expanduser(), test_split)
    return decoded_once(
        read, Source(path, cache_dir, size, background, {"test": test_split}), test_fraction, split_seed
    )
