"""Several processes that train one stage together (trainer.devices), each on its part of every batch.

The process that plans, locks and prints the plan starts them for a stage and waits: nothing is planned twice. Rank 0
alone writes. A batch is the whole batch of one process, dealt out, so the result is one process's up to float order;
not so with batch norm, whose statistics are each rank's own, and dropout, whose masks are.
"""

import logging
import multiprocessing
import os
import pickle
import signal
import socket
import time
import warnings
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch

from fitnets.ending import StageError
from fitnets.files import StorageError
from fitnets.store import Run

GRACE = 5.0  # seconds in which the other processes may end by themselves
LOST = (
    "{}: process {} of {} was ended by {}, as happens where memory runs out; the others were stopped. The same command "
    "goes on from the last checkpoint"
)


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
    """Train in `trainer.devices` processes, as the engine does in one. Raises what a rank raises.

    When one ends before its end, or this process is stopped, the others are killed: they may wait for it in a
    collective call, where no signal reaches them.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = multiprocessing.get_context("spawn").SimpleQueue()  # errors that are told in a line
    count = training.options["devices"]
    context = torch.multiprocessing.start_processes(_rank, (port, training, said), nprocs=count, join=False)
    processes = context.processes
    try:
        failed = _first_failed(processes)
        if failed is None:
            return
        end = time.monotonic() + GRACE  # the cause may not be the first that is seen
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in processes]
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()
    if not said.empty():
        raise said.get()
    for rank, code in enumerate(codes):
        if code is not None and code < 0:
            raise StageError(LOST.format(training.run, rank + 1, count, signal.Signals(-code).name))
    text = Path(context.error_files[failed])
    trace = pickle.loads(text.read_bytes()) if text.stat().st_size else f"exit code {codes[failed]}"  # our own file
    raise RuntimeError(f"process {failed + 1} of {count} ended with:\n\n{trace}")


def _first_failed(processes: list[Any]) -> int | None:
    """Wait; the rank that ended before its end, None when all have come to theirs."""
    running = {process.sentinel: rank for rank, process in enumerate(processes)}
    while running:
        for sentinel in connection.wait(list(running)):
            rank = running.pop(sentinel)
            processes[rank].join()
            if processes[rank].exitcode:
                return rank
    return None


def _rank(rank: int, port: int, training: Training, said: Any) -> None:
    """One of the processes; on a SIGKILL of the one that plans, torch interrupts it too."""
    try:
        _train(rank, port, training)
    except (StageError, StorageError) as error:
        said.put(error)
        raise


def _train(rank: int, port: int, training: Training) -> None:
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
