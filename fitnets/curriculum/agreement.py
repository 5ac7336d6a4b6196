"""Rank agreement of scores of the same samples, from what is on disk. Imports no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCORES = "scores.safetensors"  # difficulty (N,) by sample id, NaN where there is none
SAME_DATA = ("dataset", "preprocess", "split_seed")  # what two scores must share to be compared


def agreements(folder: Path, own: str) -> dict[str, float]:
    """The rank correlation of the score `own` in `folder` with each other finished one of the same data and split.

    Of several by one name in the same runs_dir the newest counts.
    """
    import yaml
    from safetensors.numpy import load_file

    def data_of(run_folder: Path) -> list[Any]:
        config = yaml.safe_load((run_folder / "config.yaml").read_text(encoding="utf-8"))
        return [config[key] for key in SAME_DATA]

    found, difficulty = {}, load_file(folder / SCORES)["difficulty"]
    for path in sorted(folder.parent.glob("score-*/result.json"), key=lambda path: path.stat().st_mtime):
        name = json.loads(path.read_text(encoding="utf-8"))["score"]["name"]
        if name != own and data_of(path.parent) == data_of(folder):
            found[name] = spearman(difficulty, load_file(path.parent / SCORES)["difficulty"])
    return found


def spearman(a: Any, b: Any) -> float:
    """Rank correlation over the samples that both have a score for."""
    import numpy as np
    from scipy.stats import spearmanr

    both = np.isfinite(a) & np.isfinite(b)
    return float(spearmanr(a[both], b[both]).statistic)


def markdown(folders: Mapping[str, Path]) -> list[str]:
    """The lines of a table of rank correlations of the scores in these folders, by name."""
    from safetensors.numpy import load_file

    difficulty = {name: load_file(folder / SCORES)["difficulty"] for name, folder in folders.items()}
    lines = ["| | " + " | ".join(folders) + " |", "|---|" + "---:|" * len(folders)]
    for name in folders:
        cells = " | ".join(f"{spearman(difficulty[name], difficulty[other]):.2f}" for other in folders)
        lines.append(f"| {name} | {cells} |")
    return lines
