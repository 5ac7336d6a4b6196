"""What the tests share: composing a config, running a command in-process, and one small finished comparison."""

import functools
import io
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as run.py does, and like it before torch is imported

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock
from PIL import Image

import run as door
from fitnets import commands, fingerprint
from fitnets.commands import Config, commands_of
from fitnets.plan import plan
from fitnets.store import Run, folder_of

ROOT = Path(__file__).parent.parent

# Small nets and few epochs: a whole comparison takes seconds. Sizes change nothing of what is promised.
SMALL = [
    "teacher.net.widths=[8,12]",
    "teacher.net.kernel_size=3",
    "student.net.blocks=[[4,4],[6,6],[8,8]]",
    "epochs.teacher=2",
    "epochs.hint=2",
    "epochs.kd=3",
    "trainer=cpu",
]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # small nets; and what runs beside the tests keeps its core


@functools.cache
def composed(*overrides: str) -> Config:
    """The config that `python run.py OVERRIDES` would run; composed once a session, as nobody changes it in place."""
    return commands.composed(overrides)


_named: dict[int, tuple[Config, list[Run]]] = {}  # by the config's id, which is kept so that no other has it


def named_runs(config: Config) -> list[Run]:
    """The runs that a command names, of every one of its commands where it is a list of them; without their parents."""
    if id(config) not in _named:
        commands = commands_of(config, lambda said: None)
        _named[id(config)] = config, [run for command in commands for run in plan(command.config, command.arm)]
    return list(_named[id(config)][1])


def quick(cases: Iterable[Any], also: Callable[[Any], bool]) -> list[Any]:
    """The cases of a parametrised test; those for which `also` is false run with the slow tests alone."""
    found = []
    for case in cases:
        values = case if isinstance(case, tuple) else (case,)
        found.append(pytest.param(*values, marks=() if also(case) else pytest.mark.slow))
    return found


def one_in(n: int, cases: Iterable[Any]) -> list[Any]:
    """The cases of a long table: every n-th with the default tests, the others with the slow ones."""
    number = itertools.count()
    return quick(cases, lambda _: next(number) % n == 0)


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Config]:
    """A small config that keeps its runs in this test's folder."""
    return lambda *overrides: composed(*SMALL, f"runs_dir={tmp_path}/runs", *overrides)


def go(config: Config, *words: str) -> float | None:
    """What `python run.py` does with a composed config; `words` are what is said to have been typed."""
    return door.run(config, door.Options(words))


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This test's folder, from which Python imports; what came from it is forgotten afterwards, as names come again."""
    monkeypatch.syspath_prepend(tmp_path)
    fingerprint.forget()
    yield tmp_path
    fingerprint.forget()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(f"{tmp_path}/"):
            del sys.modules[name]


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """The config and the runs_dir of one small finished stage=compare, two seeds. Tests only read it."""
    place = tmp_path_factory.getbasetemp()
    place = (place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / "compared"  # pytest-xdist: made once
    cfg = composed(*SMALL, f"runs_dir={place}/runs", "seeds=[0,1]")
    with FileLock(f"{place}.lock"):
        if not (place / "finished").exists():
            go(cfg)
            (place / "finished").touch()
    return cfg, place / "runs"


@pytest.fixture(scope="session")
def trained_arm(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[list[Run], Path]]:
    """The runs of an arm at small sizes, and where they lie; trained when first asked for. Tests only read them."""
    from tests.watched import SMALL as WITH_BATCH_NORM

    runs_dir = tmp_path_factory.mktemp("arms") / "runs"

    def trained(arm: str) -> tuple[list[Run], Path]:
        config = composed(*WITH_BATCH_NORM, f"runs_dir={runs_dir}").at_stage(arm)
        go(config)
        return plan(config), runs_dir

    return trained


@pytest.fixture(scope="session")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """The config and the runs_dir of one small stage=fitnet with W&B (offline) and TensorBoard. Tests only read it."""
    runs_dir = tmp_path_factory.mktemp("logged") / "runs"
    words = ["stage=fitnet", "logger=[wandb,tensorboard]", "logger.wandb.group=mine", "logger.wandb.tags=[first]"]
    cfg = composed(*SMALL, f"runs_dir={runs_dir}", *words)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WANDB_MODE", "offline")
        go(cfg)
    return cfg, runs_dir


@pytest.fixture(scope="session")
def logged_curriculum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs_dir of one small stage=backprop with a curriculum and W&B (offline). Tests only read it."""
    runs_dir = tmp_path_factory.mktemp("logged_curriculum") / "runs"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WANDB_MODE", "offline")
        go(composed(*SMALL, f"runs_dir={runs_dir}", "stage=backprop", "curriculum=easy_to_hard", "logger=wandb"))
    return runs_dir


def copied(source: Path, target: Path) -> Path:
    """Run folders to edit: without the hashes of what they held."""
    return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns("hashes.json")))


def faked_images(n: int, size: int, channels: int, seed: int, noise: bool = True) -> tuple[list[bytes], list[int]]:
    """PNG files of ten classes, a bright bar in a place of its own for each, with noise (or small files without)."""
    rng = np.random.default_rng(seed)
    files, labels = [], [i % 10 for i in range(n)]
    for label in labels:
        image = rng.integers(0, 120, (size, size, channels) if noise else (1, 1, channels), dtype=np.uint8)
        image = np.broadcast_to(image, (size, size, channels)).copy()
        image[label * size // 10 : label * size // 10 + 2] += 120
        buffer = io.BytesIO()
        Image.fromarray(image.squeeze()).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files, labels


def faked_parquet(
    folder: Path, size: int = 8, channels: int = 3, n: int = 60, column: str = "image", noise: bool = True
) -> Path:
    """A folder with train-*.parquet and test-*.parquet, in the layout of the public hub."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"class {i}" for i in range(10)]
    features = {column: {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    for seed, (part, count) in enumerate((("train", n), ("test", n // 2))):
        files, labels = faked_images(count, size, channels, seed, noise)
        images = [{"bytes": file, "path": None} for file in files]
        table = pa.table({column: images, "label": labels})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, folder / f"{part}-00000-of-00001.parquet")
    return folder


def faked_folder(folder: Path, sizes: tuple[int, ...] = (20, 31), parts: tuple[str, ...] = ("train", "test")) -> Path:
    """Class folders of images of several sizes, below `parts` (or none)."""
    for p, part in enumerate(parts or ("",)):
        for i, size in enumerate(sizes):
            files, labels = faked_images(30, size, 3, seed=10 * p + i)
            for j, (file, label) in enumerate(zip(files, labels, strict=True)):
                path = folder / part / f"kind {label}" / f"{i}-{j}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file)
    return folder


def plan_parents(run: Run, runs_dir: Path) -> dict[str, Path]:
    """The folders of the runs that `run` starts from, by role."""
    return {role: folder_of(parent, runs_dir) for role, parent in run.parents.items()}
