"""Arms as tables and plots name and colour them, and the difference of two."""

import math
from statistics import mean, stdev

FIRST_STAGES = ("hint", "label_hint")
ARM_NAMES = {
    "backprop": "backprop",
    "kd": "KD",
    "fitnet": "hint then KD",
    "label_hint_backprop": "label hint then labels",
    "label_hint_kd": "label hint then KD",
    "joint_label_backprop": "labels twice, jointly",
    "joint_label_kd": "KD and label hint, jointly",
    "joint_hint_kd": "KD and teacher hint, jointly",
    "random_teacher": "random hint then KD",
    "frozen_guided": "hint then KD, frozen",
    "iid": "i.i.d.",
    "random": "random order",
    "hard_to_easy": "hard to easy",
    "easy_to_hard": "easy to hard",
}
COLORS = {"backprop": "#7f7f7f", "kd": "#1f77b4", "fitnet": "#d62728"}
OTHER_COLORS: tuple[str, ...] = ("#2ca02c", "#98df8a", "#9467bd", "#c5b0d5", "#8c564b", "#e377c2", "#bcbd22")
OTHER_COLORS += ("#7f7f7f", "#9467bd", "#d62728", "#1f77b4")  # orders of a curriculum
COLORS |= dict(zip(list(ARM_NAMES)[3:], OTHER_COLORS, strict=True))


def paired_difference(arm: dict[int, float], baseline: dict[int, float]) -> tuple[float, float]:
    """Mean over seeds of arm - baseline, and the half width of its 95 % interval (Student's t, n - 1)."""
    from scipy.stats import t

    differences = [arm[seed] - baseline[seed] for seed in sorted(arm)]
    n = len(differences)
    return mean(differences), float(t.ppf(0.975, n - 1)) * stdev(differences) / math.sqrt(n)


def versus(difference: float | None, half: float | None) -> str:
    """A paired difference of accuracies and half its interval in points, as tables tell it; "" for the baseline."""
    return "" if difference is None or half is None else f"{100 * difference:+.2f} ± {100 * half:.2f}"
