"""What a dataset's path is, and a hash of what lies there: a moved folder is the same data. Imports no torch."""

import functools
import hashlib
import re
from pathlib import Path

from fitnets.fingerprint import file_hash


def is_folder(path: str) -> bool:
    return Path(path).expanduser().is_dir()


def problem_with_path(path: object) -> str | None:
    """Why `dataset.path` is neither a folder here nor the name of a dataset on the hub."""
    if not isinstance(path, str) or not path:
        return f"dataset.path is {path!r}; type dataset.path=FOLDER or dataset.path=owner/name (Hugging Face)"
    if is_folder(path) or re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", path):
        return None
    return f"dataset.path is {path!r}; there is no such folder, and a name on the Hugging Face hub is owner/name"


@functools.cache
def content(path: str) -> str:
    """The hub's name, or for a folder a hash over the names and bytes of all its files."""
    if not is_folder(path):
        return path
    root, digest = Path(path).expanduser(), hashlib.sha256()
    for file in sorted(root.rglob("*")):
        inside = file.relative_to(root)
        if file.is_file() and not any(name.startswith(".") for name in inside.parts):
            digest.update(str(inside).encode() + bytes.fromhex(file_hash(file)))
    return digest.hexdigest()


def content_of_file(path: str) -> str:
    """A hash of a file's bytes; its name where there is none (the checks say so)."""
    file = Path(path).expanduser()
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else path
