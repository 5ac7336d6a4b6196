"""Reads W&B's own file back: LevelDB's log framing round protobuf records."""

import json
import math
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32 * 1024, 7


def records(path: Path) -> Iterator[Record]:
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, parts = HEADER, b""
    while at + HEADER <= len(data):
        if (left := BLOCK - at % BLOCK) < HEADER:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + HEADER])
        if at + HEADER + length > len(data):  # it is being written
            return
        parts += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


@dataclass
class OfflineRun:
    path: Path
    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    def finite(self) -> set[str]:
        """Keys of the history whose last value is a finite number."""
        last = {key: value for row in self.history for key, value in row.items()}
        return {k for k, v in last.items() if isinstance(v, int | float) and math.isfinite(v)}


def read(path: Path) -> OfflineRun:
    found = OfflineRun(path)

    def items(entries: Any) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for entry in entries:  # a picture comes as several entries, one for each of its properties
            first, *inner = entry.nested_key or [entry.key]
            value = json.loads(entry.value_json)
            if inner:
                flat.setdefault(first, {})[inner[-1]] = value
            else:
                flat[first] = value
        return flat

    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.run = record.run
            found.config |= items(record.run.config.update)
        elif kind == "config":
            found.config |= items(record.config.update)
        elif kind == "history":
            found.history.append(items(record.history.item))
        elif kind == "summary":
            found.summary |= items(record.summary.update)
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


def runs_in(runs_dir: Path) -> list[OfflineRun]:
    """Every offline W&B run below, in the order in which they were started."""
    paths = sorted(runs_dir.rglob("*.wandb"), key=lambda path: path.parent.name)  # it starts with the time
    return [settled(path) for path in paths]


def settled(path: Path) -> OfflineRun:
    """The run, once its end is in the file: W&B's own process writes it, a little after `finish` has returned."""
    for _ in range(600):
        if (found := read(path)).exit_code is not None:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end after a minute")
