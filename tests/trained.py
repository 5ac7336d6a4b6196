"""What tests ask of trained runs: which one, its stage before training, its weights, its figures over time."""

import csv
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from fitnets.assemble import make_data, make_stage
from fitnets.commands import Config
from fitnets.plan import plan
from fitnets.store import Run, folder_of
from tests.conftest import named_runs, plan_parents

CPU = torch.device("cpu")


def finished(config: Config) -> tuple[Run, Path]:
    """The last run that a finished command named, and its folder."""
    run = plan(config)[-1]
    return run, folder_of(run, Path(config["runs_dir"]))


def pick(config: Config, stage: str, arm: str, seed: int = 0) -> Run:
    """A run of a finished list of commands."""
    return next(r for r in named_runs(config) if (r.stage, r.arm.name, r.seed) == (stage, arm, seed))


def stage_of(run: Run, runs_dir: Path) -> tuple[Any, Any]:
    """The run's stage as it is before training, and its data."""
    parents = plan_parents(run, runs_dir)
    data = make_data(run, parents)
    return make_stage(run, data, parents, CPU), data


def trained_stage(run: Run, runs_dir: Path) -> tuple[Any, Any]:
    """The run's stage with its trained weights, in eval mode, and its data."""
    stage, data = stage_of(run, runs_dir)
    for name, net in stage.nets.items():
        net.load_state_dict(weights(run, runs_dir, name))
    return stage.eval(), data


def weights(run: Run, runs_dir: Path, name: str = "student") -> dict[str, Tensor]:
    return load_file(folder_of(run, runs_dir) / f"{name}.safetensors")


def state(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> set[str]:
    """The names of the tensors that are not bit-equal, of two networks alike."""
    assert a.keys() == b.keys()
    return {name for name in a if not torch.equal(a[name], b[name])}


def figures(run: Run, runs_dir: Path, name: str) -> list[float]:
    """A column of metrics.csv, one value an epoch."""
    with open(folder_of(run, runs_dir) / "metrics.csv") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def contents(runs_dir: Path) -> dict[str, bytes]:
    """What decides anything: the weights and the figures of all runs."""
    found = [*runs_dir.glob("*/*.safetensors"), *runs_dir.glob("*/metrics.csv")]
    return {str(path.relative_to(runs_dir)): path.read_bytes() for path in found}
