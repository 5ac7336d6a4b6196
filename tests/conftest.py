"""What the tests share: composing a config, running a command in-process, and one small finished comparison."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import run as door

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


def composed(*overrides: str) -> dict[str, Any]:
    """The resolved config that `python run.py OVERRIDES` would run."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return OmegaConf.to_container(compose("config", list(overrides)), resolve=True)  # type: ignore[return-value]


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A small config that keeps its runs in this test's folder."""
    return lambda *overrides: composed(*SMALL, f"runs_dir={tmp_path}/runs", *overrides)


def go(cfg: dict[str, Any], *overrides: str) -> float | None:
    """What `python run.py` does with a composed config."""
    return door.run(cfg, list(overrides))


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The config and the runs_dir of one small finished stage=compare, two seeds. Tests only read it."""
    runs_dir = tmp_path_factory.mktemp("compared") / "runs"
    cfg = composed(*SMALL, f"runs_dir={runs_dir}", "seeds=[0,1]")
    go(cfg)
    return cfg, runs_dir
