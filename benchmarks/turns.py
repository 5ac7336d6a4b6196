"""Trainings and loops in processes of their own that take turns, so that what is compared is measured side by side.

A machine's speed drifts within seconds. Only one process works at a time: it runs one step or one epoch, then waits.
"""

import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import mean, median
from typing import Any

HERE = Path(__file__).parent.resolve()
ROOT = HERE.parent


class Steps:
    """Seconds of the steps of one training or loop, by epoch; `next` is called at the start of each step.

    A turn is a step, or so many epochs if `turn` is given.
    """

    def __init__(self, give_way: Callable[[], None] = lambda: None, turn: int = 0) -> None:
        self.epochs_: list[list[float]] = []
        self.waits: list[float] = []  # for data, where that is measured
        self.give_way = give_way
        self.turn = turn
        self.since = time.perf_counter()

    def next(self, new_epoch: bool) -> None:
        now = time.perf_counter()
        if self.epochs_:
            self.epochs_[-1].append(now - self.since)
        if not self.turn or (new_epoch and len(self.epochs_) % self.turn == 0):
            self.give_way()
        if new_epoch:
            self.epochs_.append([])
        self.since = time.perf_counter()

    def warm(self) -> list[list[float]]:
        """The epochs that count: whole ones, and neither the first nor, in later turns, the first of the turn.

        A first epoch meets caches that others have filled with their own.
        """
        turn = self.turn or len(self.epochs_)
        return [epoch for number, epoch in enumerate(self.epochs_[:-1]) if number >= self.turn and number % turn]


Job = Callable[[Steps], None] | Sequence[str]  # a function, or a command that is given the number of its pipe


@dataclass
class Times:
    """Seconds of one training or loop."""

    steps: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)  # an epoch's last step and what lies between epochs
    length: int = 0  # steps in an epoch
    waits: list[float] = field(default_factory=list)

    @property
    def epoch(self) -> float:
        """An epoch of median steps, which are many and so steadier than the median epoch, and a mean end.

        Not all ends do the same: what is done at some of them only counts as well.
        """
        return (self.length - 1) * median(self.steps) + mean(self.ends)


def in_turns(jobs: Mapping[str, Job], threads: int, turn: int = 0, rounds: int = 1) -> dict[str, Times]:
    """Do all `jobs`, a step (or `turn` epochs) of each in turn, in new processes each round; their times."""
    found = {name: Times() for name in jobs}
    for _ in range(rounds):
        for name, steps in _one_round(jobs, threads, turn).items():
            found[name].waits += steps.waits
            for epoch in steps.warm():
                found[name].steps += epoch[:-1]
                found[name].ends.append(epoch[-1])
                found[name].length = len(epoch)
    return found


def _one_round(jobs: Mapping[str, Job], threads: int, turn: int) -> dict[str, Steps]:
    os.environ.update(quiet(threads))
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["trainings"])  # imported once, for all
    pipes: dict[str, Connection] = {}
    started: list[Any] = []
    for name, job in jobs.items():
        pipes[name], theirs = processes.Pipe()
        if callable(job):
            started.append(processes.Process(target=_function, args=(job, theirs, threads, turn), daemon=True))
            started[-1].start()
        else:
            command = [*job, str(theirs.fileno())]
            started.append(subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL))
        theirs.close()
    try:
        return _in_turns(pipes, turn)
    except RuntimeError:
        for process in started:  # they wait for their turn, and Lightning would not let them be terminated
            process.kill()
        raise


def _in_turns(pipes: Mapping[str, Connection], turn: int) -> dict[str, Steps]:
    """Give each its turn until all have ended."""
    heard(pipes)  # all are ready
    found: dict[str, Steps] = {}
    while waiting := [name for name in pipes if name not in found]:
        for name in waiting:
            pipes[name].send(None)
            if times := heard({name: pipes[name]})[name]:
                found[name] = Steps(turn=turn)
                found[name].epochs_, found[name].waits = times
    return found


def heard(pipes: Mapping[str, Connection]) -> dict[str, tuple[list[list[float]], list[float]] | None]:
    """What each says: None as it waits for its next turn, its times as it ends."""
    said = {}
    for name, pipe in pipes.items():
        try:
            said[name] = pipe.recv()
        except EOFError:
            raise RuntimeError(f"{name} stopped; its error stands above") from None
    return said


def taking_turns(job: Callable[[Steps], None], pipe: Connection, turn: int = 0) -> None:
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
    steps = Steps(give_way, turn)
    job(steps)
    pipe.send((steps.epochs_, steps.waits))


def _function(job: Callable[[Steps], None], pipe: Connection, threads: int, turn: int) -> None:
    import torch

    torch.set_num_threads(threads)
    taking_turns(job, pipe, turn)


def quiet(threads: int) -> dict[str, str]:
    """The environment of a process that has so many threads and finds this folder's files."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}


def ms(seconds: Sequence[float]) -> float:
    return round(1000 * median(seconds), 3)
