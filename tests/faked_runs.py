"""Finished runs made of nothing, for tests of reports: the files that a training leaves, with figures of one's own."""

import csv
import json
from pathlib import Path
from typing import Any

import yaml

VERSIONS = {"fitnets": "0", "torch": "2"}
HARDWARE = {"device": "cpu", "name": "a processor", "threads": 1}
RECIPE = {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.002}, "lr_schedule": "cosine", "batch_size": 64}
DATA = {  # what the inventory of a data set says
    "train": 8,
    "validation": 2,
    "test": 2,
    "shape": [1, 8, 8],
    "classes": {name: {"train": 4, "validation": 1, "test": 1} for name in ("0", "1")},
    "uneven": False,
    "repeated": {},
    "files": {},
    "notes": [],
}
DATASET = {"name": "digits", "_target_": "fitnets.data.digits.digits"}


def faked_run(
    runs_dir: Path,
    arm: str,
    seed: int = 0,
    accuracy: float = 0.9,
    parents: dict[str, Path] | None = None,
    config: dict[str, Any] | None = None,
    result: dict[str, Any] | None = None,
    metrics: list[dict[str, float]] | None = None,
) -> Path:
    """The folder of a finished run of `arm`, a tested student; `config` and `result` say what is otherwise.

    `accuracy` is that on validation; the test part has 0.01 less.
    """
    said = config or {}
    trains = said.get("trains", "student")
    seen = {
        "stage": said.get("stage", "mine"),
        "title": arm,
        "arm": {"name": arm.replace(" ", "_"), "title": arm},
        "trains": trains,
        "tested": True,
        "for_score": False,
        "seed": seed,
        "parents": {role: folder.name for role, folder in (parents or {}).items()},
        "dataset": DATASET,
        "split_seed": 0,
        trains: {"name": "net"},
        "init": {"name": "scaled"},
        "curriculum": {"name": "none"},
        "patience": None,
        "recipe": RECIPE | {"keep": "last"},
        "data": {"input_shape": [1, 8, 8], "num_classes": 10},
        "trainer": {},
    } | said
    found = {
        "stage": seen["stage"],
        "dataset": "digits",
        "data": DATA,
        "labels": "all",
        "student": "net" if trains == "student" else None,
        "teacher": "net" if trains == "teacher" or "teacher" in (parents or {}) else None,
        "seed": seed,
        "validation": {"accuracy": accuracy, "nll": 1 - accuracy},
        "test": {"accuracy": accuracy - 0.01},
        "test_accuracy": accuracy - 0.01,
        "params": 1000,
        "multiplications": 2000,
        "updates": 10,
        "epochs": 2,
        "seconds": 1.0,
        "versions": VERSIONS,
        "hardware": HARDWARE,
    } | (result or {})
    number = len(list(runs_dir.glob("*")))
    folder = runs_dir / f"{seen['stage']}-net-digits-s{seed}-{number:010}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(seen, sort_keys=False))
    (folder / "result.json").write_text(json.dumps(found))
    epochs = [{"epoch": e, "updates": 5 * e, "val/accuracy": accuracy - 0.1 * (2 - e)} for e in (1, 2)]
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list((metrics or epochs)[0]))
        writer.writeheader()
        writer.writerows(metrics or epochs)
    return folder


def faked_teacher(runs_dir: Path) -> Path:
    return faked_run(runs_dir, "teacher", 0, 0.95, config={"stage": "teacher", "trains": "teacher"})


def faked_hint(runs_dir: Path, seed: int, teacher: Path) -> Path:
    """A step before a student: its hint stage, which is not tested."""
    return faked_run(
        runs_dir,
        "hint stage",
        seed,
        parents={"teacher": teacher},
        config={"stage": "hint", "tested": False},
        result={
            "validation": {"hint_loss": 5.0, "r2": 0.5},
            "test": {},
            "test_accuracy": None,
            "hint": {"hint_layer": "conv2", "guided_layer": "conv6", "regressor": "a map", "reduction": "example"},
        },
        metrics=[{"epoch": e, "updates": 5 * e, "val/hint_loss": 10.0 / e} for e in (1, 2)],
    )
