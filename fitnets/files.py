"""Files that outlive a kill and a full disk: written whole, with a hash beside them, and checked when they are read.

A file of its own has its hash in a .json of the same name, those of a finished run in its folder's hashes.json. What
does not match is set aside, never used. Imports no torch.
"""

import errno
import hashlib
import json
import math
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

HASHES = "hashes.json"
SET_ASIDE = ".set_aside"
PARTIAL = ".partial"
MOST_CONFIG_BYTES, MOST_CONFIG_ENTRIES = 2**20, 100_000
SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}


class StorageError(OSError):
    """A file or folder that cannot be written; the message names it and the reason."""


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Inside, what the system has against writing `path` is a StorageError."""
    try:
        yield
    except StorageError:
        raise
    except (OSError, NotImplementedError) as error:  # filelock's, where a file system has no locks
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        number = error.errno if isinstance(error, OSError) else None
        hint = "make it writable, or type another runs_dir (or dataset.cache_dir)"
        hint = "make space" if number in SPACE else "something is in the way: move it" if number in IN_THE_WAY else hint
        raise StorageError(f"{path} cannot be written: {reason}; {hint}") from error


def folder_at(path: Path) -> Path:
    """The folder, made where it is missing."""
    with told(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to inside, which ends as it does; what is still there at the end is removed."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}{PARTIAL}{path.suffix}")
    with told(path):
        try:
            yield partial
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def put(partial: Path, path: Path) -> None:
    """Flush a written file to disk and give it its name."""
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    with suppress(OSError):  # not every system lets a folder be flushed
        of_folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(of_folder)
        finally:
            os.close(of_folder)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file to write inside; at the end it is flushed and becomes `path`, or else nothing is left of it."""
    with beside(path) as partial:
        yield partial
        put(partial, path)


def reserve(file: IO[bytes], size: int) -> None:
    """Take the space of a file that is then written through memory, where a full disk would kill the process."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        file.truncate(size)


def clear_partials(folder: Path, stem: str = "") -> None:
    """Remove what a killed process has begun to write: under a lock, so that nobody is writing it now."""
    for leftover in folder.glob(f".{stem}*{PARTIAL}*"):
        with suppress(OSError):
            leftover.unlink()


def write(path: Path, content: str | bytes) -> None:
    with whole(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def as_json(record: Any) -> str:
    """JSON as every program reads it: a number that is not finite is null."""
    return json.dumps(finite(record), indent=2, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any] | None:
    """What a JSON file of ours holds; None where it is missing or broken."""
    if not path.is_file():  # nor a folder, or a pipe that nobody writes to
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def read_config(folder: Path) -> dict[str, Any]:
    """A run folder's config.yaml, plain data of a bounded size. Raises ValueError for what is none."""
    import yaml

    path = folder / "config.yaml"
    if path.stat().st_size > MOST_CONFIG_BYTES:
        raise ValueError(f"{path} is larger than {MOST_CONFIG_BYTES:,} bytes, which no config is")
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        count = _entries(found, MOST_CONFIG_ENTRIES)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as plain YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or count <= 0:
        raise ValueError(f"{path} is no config of a run")
    return found


def _entries(value: Any, left: int) -> int:
    """What is left of a number of entries after those of a nested value: aliases make few bytes into many of them."""
    inside = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    for entry in inside:
        left = _entries(entry, left - 1)
        if left <= 0:
            return 0
    return left


# ------------------------------------------------------------------------------------------- hashes


def sha256(path: Path) -> str:
    """Hash of a file's bytes, read once a process as long as the file is not touched; a new name is no touch."""
    seen = path.stat()
    key = seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns
    if key not in _hashes:
        with open(path, "rb") as file:
            _hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashes[key]


_hashes: dict[tuple[int, ...], str] = {}


def made_once(path: Path, make: Callable[[], None]) -> None:
    """Have `make` write a file (by `put_hashed`), unless there is one that matches its hash, which is only read then.

    A lock lets one process make it while others wait. What does not match is said and set aside.
    """
    with told(path):  # what is kept there may be a colleague's
        if matches(path):
            return
    with locked(path.with_suffix(".lock")):
        if matches(path):
            return
        if path.exists():
            kept = set_aside(path, path.parent / SET_ASIDE)
            broken = f"{path} is not as it was written (its hash differs)"
            print(f"{broken}: set aside as {kept}, made again", file=sys.stderr)
        clear_partials(path.parent, path.stem)
        make()


def matches(path: Path) -> bool:
    about = read_json(path.with_suffix(".json"))
    return about is not None and sealed(about) == about and path.is_file() and sha256(path) == about.get("sha256")


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with its own hash under `record`."""
    rest = finite({key: value for key, value in record.items() if key != "record"})
    return rest | {"record": hashlib.sha256(json.dumps(rest).encode()).hexdigest()}


def put_hashed(partial: Path, path: Path, about: Mapping[str, Any]) -> None:
    """Give a written file its name, and first a .json of what it is with its hash: there is no file without."""
    write(path.with_suffix(".json"), as_json(sealed({"sha256": sha256(partial), **about})))
    put(partial, path)


def set_aside(path: Path, place: Path) -> Path:
    """Move a file or folder to where nothing reads it."""
    with told(path):
        place.mkdir(parents=True, exist_ok=True)
        number = 1
        while (kept := place / f"{path.name}.{number}").exists():
            number += 1
        os.replace(path, kept)
    return kept


# ------------------------------------------------------------------------------- a finished run's folder


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """result.json, and before it the hashes of all that the folder holds: a kill between leaves what matches."""
    text, path = as_json(result), folder / "result.json"
    own = [hashlib.sha256(text.encode()).hexdigest(), *([sha256(path)] if path.exists() else [])]
    write(folder / HASHES, as_json(sealed({**hashes_of(folder), "result.json": " ".join(own)})))
    write(path, text)


def hashes_of(folder: Path) -> dict[str, str]:
    """Of the files that are read later, by their path in the folder; a note that somebody has put there is none."""
    named = [folder / name for name in ("config.yaml", "metrics.csv")]
    found = [*named, *sorted(folder.glob("[!.]*.safetensors")), *sorted(folder.glob("media/[!.]*.png"))]
    return {str(file.relative_to(folder)): sha256(file) for file in found if file.is_file()}


def broken_in(folder: Path) -> str | None:
    """Why a finished run is not as it was written; None where it is."""
    hashes = read_json(folder / HASHES)
    if hashes is None:
        return f"{HASHES} is missing or cannot be read"
    if "result.json" not in hashes or sealed(hashes) != hashes:
        return f"{HASHES} is not as it was written"
    names = [name for name in hashes if name != "record"]
    return next((problem for name in names if (problem := problem_with(folder, name, hashes))), None)


def problem_with(folder: Path, name: str, hashes: Mapping[str, Any] | None = None) -> str | None:
    """Why a file of a finished run is not as it was written; None where it is, or where no hash says how it was."""
    known = (hashes or read_json(folder / HASHES) or {}).get(name)
    if known is None:
        return None
    if not (folder / name).is_file():
        return f"{name} is missing"
    same = sha256(folder / name) in str(known).split()
    return None if same else f"{name} is not as it was written (its hash differs)"


# -------------------------------------------------------------------------------------------- locks


@contextmanager
def locked(path: Path, waiting: Callable[[str], None] = lambda holder: None) -> Iterator[bool]:
    """Hold a lock inside; gives whether another process held it before. `waiting` is told who does.

    The system releases a lock when its holder dies. Only a network folder may keep that of a dead machine: its name
    is told, and the file can be removed.
    """
    holder, waited = path.with_suffix(".holder"), False
    folder_at(path.parent)
    with told(path):
        lock = FileLock(path, mode=0o666)  # a colleague's command may hold it next
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waited = True
    if waited:
        who = "another process"
        with suppress(OSError):
            who = holder.read_text(encoding="utf-8").strip() or who
        waiting(f"{who} (if that machine is gone for good, remove {path})")
        lock.acquire()
    try:
        with suppress(OSError):
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield waited
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()
