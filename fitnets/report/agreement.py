"""Rank agreement of scores of the same samples, from what is on disk. Imports no torch."""

import json
from pathlib import Path
from typing import Any

import numpy as np

SAME = ("dataset", "preprocess", "split_seed")  # what two scores must share to be compared


def scores_beside(folder: Path) -> dict[str, Any]:
    """Difficulties (N,) by score name of the same data and split in the same runs_dir, the newest of each name."""
    import yaml
    from safetensors.numpy import load_file

    def data_of(path: Path) -> list[Any]:
        config = yaml.safe_load((path / "config.yaml").read_text())
        return [config[key] for key in SAME]

    wanted, found = data_of(folder), {}
    for path in sorted(folder.parent.glob("score-*/result.json"), key=lambda p: p.stat().st_mtime):
        if data_of(path.parent) == wanted:
            name = json.loads(path.read_text())["score"]["name"]
            found[name] = load_file(path.parent / "scores.safetensors")["difficulty"]
    return found


def spearman(a: Any, b: Any) -> float:
    """Rank correlation over the samples that both have a score for."""
    from scipy.stats import spearmanr

    both = np.isfinite(a) & np.isfinite(b)
    return float(spearmanr(a[both], b[both]).statistic)


def agreements(folder: Path, own: str) -> dict[str, float]:
    """The rank correlation of the score `own` in `folder` with each other finished score of the same data."""
    from safetensors.numpy import load_file

    difficulty = load_file(folder / "scores.safetensors")["difficulty"]
    return {name: spearman(difficulty, other) for name, other in scores_beside(folder).items() if name != own}
