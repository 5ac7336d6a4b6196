"""What a dataset's path is, which files below it are data, and a hash of them: a moved folder is the same data.

Imports no torch.
"""

import functools
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from fitnets.files import sha256

JUNK = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini")  # what other systems leave in folders


class DataError(ValueError):
    """A data set that cannot be used as it is; the message names the file or class and what to do."""


def is_folder(path: str) -> bool:
    return Path(path).expanduser().is_dir()


def problem_with_path(path: object) -> str | None:
    """Why `dataset.path` is neither a readable folder here nor the name of a dataset on the hub."""
    if not isinstance(path, str) or not path:
        return f"dataset.path is {path!r}; type dataset.path=FOLDER or dataset.path=owner/name (Hugging Face)"
    if os.path.isdir(os.path.expanduser(path)):  # Path's would stumble over names that no file can have
        try:
            content(path)
        except DataError as error:
            return f"dataset.path is {path!r}; {error}"
        return None
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", path):
        return None
    there = "that is a file" if os.path.isfile(os.path.expanduser(path)) else "there is no such folder"
    return f"dataset.path is {path!r}; {there}: type dataset.path=FOLDER, or owner/name (Hugging Face)"


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


def entries(folder: Path) -> list[Path]:
    """Files and folders that are no hidden ones, by name; symbolic links stand for what they lead to."""
    try:
        found = sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error
    for path in found:
        if path.is_symlink() and not path.exists():
            raise DataError(f"{path} is a link to {os.readlink(path)}, which is not there: restore it, or remove it")
        if not (path.is_file() or path.is_dir()):
            raise DataError(f"{path} is neither a file nor a folder: remove it")
        if not path.name.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in path.name):
            raise DataError(f"a name in {folder} is not in UTF-8, {path.name!a}: rename it")
    return found


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Every file below that is not hidden, also behind symbolic links, by name."""
    above = (*above, folder.resolve())
    for path in entries(folder):
        if not path.is_dir():
            yield path
        elif path.resolve() in above:
            raise DataError(f"{path} is a link to a folder that it lies in ({path.resolve()}): remove it")
        else:
            yield from files_below(path, above)


@functools.cache
def content(path: str) -> str:
    """The hub's name, or for a folder a hash over the names and bytes of all its files. Raises DataError."""
    if not is_folder(path):
        return path
    root, digest = Path(path).expanduser(), hashlib.sha256()
    for file in files_below(root):
        try:
            digest.update(str(file.relative_to(root)).encode("utf-8", "surrogateescape") + bytes.fromhex(sha256(file)))
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def refuse_changed(path: str) -> None:
    """DataError where a folder is not what it was when it was hashed: what was read may be neither."""
    if content.__wrapped__(path) != content(path):
        raise DataError(
            f"{path} has changed while it was read; wait until nobody writes there, and type the same again"
        )


def content_of_file(path: str) -> str:
    """A hash of a file's bytes; its name where there is none (the checks say so)."""
    file = Path(path).expanduser()
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else path
