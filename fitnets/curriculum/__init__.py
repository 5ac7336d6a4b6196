"""The curriculum: how hard a sample is, which come first, how fast the pool grows. The rest knows it by this door.

Planning imports no torch: what needs it is imported when it is asked for.
"""

from typing import Any

from fitnets.curriculum.agreement import agreements
from fitnets.curriculum.planning import score_needed, score_run, spec
from fitnets.store import NO_CURRICULUM

__all__ = ["NO_CURRICULUM", "agreements", "sampler", "score_needed", "score_run", "spec", "training_callbacks"]


def sampler(given: Any, difficulty: Any) -> Any:
    """What draws a training's batches in the order of a curriculum; None without one."""
    if given == NO_CURRICULUM:
        return None
    from fitnets.curriculum.pool import Curriculum

    return Curriculum(given, difficulty)


def training_callbacks(run: Any, data: Any, folder: Any) -> list[Any]:
    """The Lightning callbacks that a run's curriculum needs, in the order in which they must run."""
    from fitnets.curriculum.callbacks import callbacks_of

    return callbacks_of(run, data, folder)
