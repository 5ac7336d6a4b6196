"""Weights that change over the epochs of a stage: pure functions `f(epoch, epochs, **options)`, the epoch from 0."""


def linear(epoch: int, epochs: int, *, start: float, end: float, fraction: float = 1.0) -> float:
    """Lambda in an epoch: start -> end, linear over a fraction of the stage (paper section 2.3).

    It stands at `start` in the first epoch, reaches `end` in the last epoch of that fraction and stays there.
    Equal ends are a constant lambda, a larger `end` a rising one.
    """
    last = max(1, round(fraction * epochs) - 1)
    return start + (end - start) * min(1.0, epoch / last)


def saturating(
    epoch: int, epochs: int, *, start: float, end: float, begin: float, saturate: float, of_epochs: float | None = None
) -> float:
    """Lambda as the original code anneals it (TeacherDecayOverEpoch): from `begin`, at `end` from `saturate` on.

    step = (start - end) / (saturate - begin + 1), and lambda(n) = start - step (n - begin + 1) for begin <= n <
    saturate, never below 0. n counts monitor calls, one of which comes before the first epoch, so the epoch numbered
    0 has n = 1. `begin` and `saturate` are epochs of a stage of `of_epochs`; a shorter stage scales them along.
    """
    scale = epochs / of_epochs if of_epochs else 1.0
    n, step = (epoch + 1) / scale, (start - end) / (saturate - begin + 1)
    if n < begin:
        return start
    return max(0.0, start - step * (n - begin + 1)) if n < saturate else max(0.0, end)


def warmup(epoch: int, epochs: int, *, weight: float, fraction: float) -> float:
    """`weight`, grown from 0 over a fraction of the stage: weight * min(1, epoch / (fraction * epochs))."""
    return weight * min(1.0, epoch / (fraction * epochs)) if fraction else weight
