"""Several processes that train one stage together (trainer.devices), each on its part of every batch.

The process that plans, locks and prints the plan starts them for a stage and waits: nothing is planned twice. Rank 0
alone writes. A batch is the whole batch of one process, dealt out, so the result is one process's up to float order;
not so with batch norm, whose statistics are each rank's own, and dropout, whose masks are.
"""

import logging
import os
import socket
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fitnets.store import Run


@dataclass(frozen=True)
class Training:
    """What each process is given: the arguments of fitnets.training.engine.train, and what it shows and logs."""

    run: Run
    folder: Path
    parents: dict[str, Path]
    options: dict[str, Any]  # the trainer's config
    label: str  # what its progress is called
    loggers: dict[str, Any]  # the config's `logger`


def train_on_ranks(training: Training) -> None:
    """Train in `trainer.devices` processes, as the engine does in one. Raises what a rank raises."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_rank, (port, training), nprocs=training.options["devices"])


def _rank(rank: int, port: int, training: Training) -> None:
    """One of the processes; on a SIGKILL of the one that plans, torch interrupts it too."""
    from rich.console import Console

    from fitnets.tracking.loggers import started
    from fitnets.training.engine import train
    from fitnets.training.progress import StageProgress

    run, folder, parents, options = training.run, training.folder, training.parents, training.options
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)  # it greets from every rank
    warnings.filterwarnings("ignore", message="Grad strides do not match")
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(options["threads"] or max(1, torch.get_num_threads() // options["devices"]))
    callbacks: list[Any] = []
    if rank == 0:
        callbacks = [StageProgress(Console(highlight=False, soft_wrap=True, markup=False), training.label)]
    with started(run, folder, parents, training.loggers if rank == 0 else {}, print) as loggers:
        train(run, folder, parents, options, callbacks, loggers=loggers)
    # Gloo's threads may still hold tensors, which a thread that outlives the interpreter can't release: it aborts.
    torch.distributed.destroy_process_group()
