"""Pacing: which fraction of the samples may be drawn at an update. Pure functions; imports nothing heavy.

Each is called as `f(update, updates, batches_per_epoch, **options)` with the update's number from 0 and the stage's
total, and gives a fraction that never falls; who calls it clips it to 1 and to at least one batch. `start` is the
fraction at update 0, `full_at` the part of the training after which all samples are in (above 1: never all).
Sources: Wu et al. 2021, table 2 (linear to step); Hacohen & Weinshall 2019 and its code (the ones with `increase`, and
single_step); Platanios et al. 2019 (competence).
"""

import math
from collections.abc import Sequence


def root(
    update: int, updates: int, batches_per_epoch: int, *, start: float, full_at: float, power: float = 1.0
) -> float:
    """start + (1 - start) (t / (full_at T))^power: linear with power 1, quadratic with 2, a root with 1/2."""
    return start + (1 - start) * _done(update, updates, full_at) ** power


def exponential(update: int, updates: int, batches_per_epoch: int, *, start: float, full_at: float) -> float:
    """start + (1 - start) (e^(10 done) - 1) / (e^10 - 1): slow, then fast."""
    return start + (1 - start) * math.expm1(10 * _done(update, updates, full_at)) / math.expm1(10)


def logarithmic(update: int, updates: int, batches_per_epoch: int, *, start: float, full_at: float) -> float:
    """start + (1 - start) (1 + ln(done + e^-10) / 10): fast, then slow (at the end a hair above 1)."""
    return start + (1 - start) * (1 + 0.1 * math.log(_done(update, updates, full_at) + math.exp(-10)))


def step(update: int, updates: int, batches_per_epoch: int, *, start: float, full_at: float) -> float:
    """`start` until full_at of the training, then everything."""
    return 1.0 if update >= full_at * updates else start


def exponential_fixed(
    update: int, updates: int, batches_per_epoch: int, *, start: float, increase: float, every: float
) -> float:
    """start * increase^floor(update / L), L = `every` of the training."""
    enough = math.ceil(math.log(1 / start) / math.log(increase))  # steps after which all samples are in
    return start * increase ** min(enough, math.floor(update / max(1.0, every * updates)))


def exponential_varied(
    update: int, updates: int, batches_per_epoch: int, *, start: float, increase: float, thresholds: Sequence[float]
) -> float:
    """start * increase^k, k the number of `thresholds` (parts of the training) that are passed."""
    return start * increase ** sum(update > threshold * updates for threshold in thresholds)


def single_step(update: int, updates: int, batches_per_epoch: int, *, start: float, epochs: float) -> float:
    """`start` for the first `epochs`, then everything, however long the training."""
    return 1.0 if update >= epochs * batches_per_epoch else start


def competence(
    update: int, updates: int, batches_per_epoch: int, *, start: float, full_at: float, power: float
) -> float:
    """(done (1 - start^power) + start^power)^(1 / power): root-p competence; square-root competence with power 2."""
    return (_done(update, updates, full_at) * (1 - start**power) + start**power) ** (1 / power)


def _done(update: int, updates: int, full_at: float) -> float:
    return min(1.0, update / (full_at * updates))
