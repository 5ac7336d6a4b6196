"""Trainings and loops in processes of their own that take turns, so that what is compared is measured side by side.

A machine's speed drifts within seconds. Only one process works at a time: it runs one step or one epoch, then waits.
"""

import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent.resolve()
ROOT = HERE.parent


class Steps:
    """Seconds of the steps of one training or loop, by epoch; `next` is called at the start of each step.

    An epoch's last step includes what lies between epochs: validation, figures, checkpoints.
    """

    def __init__(self, give_way: Callable[[], None] = lambda: None, by_epoch: bool = False) -> None:
        self.epochs_: list[list[float]] = []
        self.give_way = give_way
        self.by_epoch = by_epoch
        self.since = time.perf_counter()

    def next(self, new_epoch: bool) -> None:
        now = time.perf_counter()
        if self.epochs_:
            self.epochs_[-1].append(now - self.since)
        if new_epoch:
            self.epochs_.append([])
        if new_epoch or not self.by_epoch:
            self.give_way()
        self.since = time.perf_counter()

    def steps(self) -> list[float]:
        """Of the steps within epochs, the first epoch left out: it warms up."""
        return [seconds for epoch in self.epochs_[1:] for seconds in epoch[:-1]]

    def epochs(self) -> list[float]:
        """Of whole epochs, without the first and the unfinished last one."""
        return [sum(epoch) for epoch in self.epochs_[1:-1]]


Work = Callable[[Steps], None] | Sequence[str]  # a function, or a command that is given the number of its pipe


def in_turns(work: Mapping[str, Work], threads: int, by_epoch: bool = False) -> dict[str, Steps]:
    """Do all `work`, a step (or an epoch) of each in turn, and return their times."""
    os.environ.update(quiet(threads))
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["benchmark_work"])  # imported once, for all
    pipes: dict[str, Connection] = {}
    for name, job in work.items():
        pipes[name], theirs = processes.Pipe()
        if callable(job):
            processes.Process(target=_function, args=(job, theirs, threads, by_epoch), daemon=True).start()
        else:
            command = [*job, str(theirs.fileno())]
            subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL)
        theirs.close()
    heard(pipes)  # all are ready
    found: dict[str, Steps] = {}
    while waiting := [name for name in pipes if name not in found]:
        for name in waiting:
            pipes[name].send(None)
            if times := heard({name: pipes[name]})[name]:
                found[name] = Steps()
                found[name].epochs_ = times
    return found


def heard(pipes: Mapping[str, Connection]) -> dict[str, list[list[float]] | None]:
    """What each says: None as it waits for its next turn, its times as it ends."""
    said = {}
    for name, pipe in pipes.items():
        try:
            said[name] = pipe.recv()
        except EOFError:
            raise RuntimeError(f"{name} stopped; its error stands above") from None
    return said


def taking_turns(job: Callable[[Steps], None], pipe: Connection, by_epoch: bool = False) -> None:
    """Do `job` in this process, a turn whenever the other end of the pipe says so."""
    clock, waited = time.monotonic, 0.0

    def give_way() -> None:
        nonlocal waited
        stopped = clock()
        pipe.send(None)
        pipe.recv()
        waited += clock() - stopped

    time.monotonic = lambda: clock() - waited  # who saves every so many seconds must not count others' turns
    give_way()
    steps = Steps(give_way, by_epoch)
    job(steps)
    pipe.send(steps.epochs_)


def _function(job: Callable[[Steps], None], pipe: Connection, threads: int, by_epoch: bool) -> None:
    import torch

    from fitnets.memory import keep_freed_memory

    keep_freed_memory()  # as `train` does: loops by hand have it too
    torch.set_num_threads(threads)
    taking_turns(job, pipe, by_epoch)


def quiet(threads: int) -> dict[str, str]:
    """The environment of a process that has so many threads and finds this folder's files."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}


def over(a: Sequence[float], b: Sequence[float]) -> float:
    """The median of the ratios of neighbours in time."""
    return median(x / y for x, y in zip(a, b, strict=False))


def ms(seconds: Sequence[float]) -> float:
    return round(1000 * median(seconds), 3)
