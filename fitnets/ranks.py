"""Several processes that train one stage together (trainer.devices), each on its part of every batch.

The process that plans, locks and prints the plan starts them for a stage and waits: nothing is planned twice. Rank 0
alone writes. A batch is the whole batch of one process, dealt out, so the result is one process's up to float order;
not so with batch norm, whose statistics are each rank's own, and dropout, whose masks are.
"""

import logging
import os
import socket
import warnings
from pathlib import Path
from typing import Any

import torch

from fitnets.runs import Run


def train_on_ranks(
    run: Run,
    folder: Path,
    parents: dict[str, Path],
    options: dict[str, Any],
    label: str,
    chosen: dict[str, Any],
) -> None:
    """Train `run` in `options["devices"]` processes, as fitnets.train.train does in one. Raises what a rank raises."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = options["devices"]
    torch.multiprocessing.spawn(_rank, (port, run, folder, parents, options, label, chosen), nprocs=ranks)


def _rank(
    rank: int,
    port: int,
    run: Run,
    folder: Path,
    parents: dict[str, Path],
    options: dict[str, Any],
    label: str,
    chosen: dict[str, Any],
) -> None:
    """One of the processes; on a SIGKILL of the one that plans, torch interrupts it too."""
    from rich.console import Console

    from fitnets.loggers import started
    from fitnets.report.progress import StageProgress
    from fitnets.train import train

    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)  # it greets from every rank
    warnings.filterwarnings("ignore", message="Grad strides do not match")
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(options["threads"] or max(1, torch.get_num_threads() // options["devices"]))
    callbacks: list[Any] = (
        [StageProgress(Console(highlight=False, soft_wrap=True, markup=False), label)] if rank == 0 else []
    )
    with started(run, folder, parents, chosen if rank == 0 else {}, print) as loggers:
        train(run, folder, parents, options, callbacks, loggers)


def strategy_of(devices: int, leaves_some_out: bool) -> dict[str, Any]:
    """What a Trainer needs to be one of the processes. `leaves_some_out`: the stage trains a part of its network."""
    if devices == 1:
        return {}
    from pytorch_lightning.plugins.environments import LightningEnvironment
    from pytorch_lightning.strategies import DDPStrategy

    return {"strategy": DDPStrategy(find_unused_parameters=leaves_some_out), "plugins": [LightningEnvironment()]}
