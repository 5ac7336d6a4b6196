"""Checks of a curriculum that need the data or the planned runs; types and ranges are fitnets/config's."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from fitnets.store import NO_CURRICULUM, Run


def scoring_problems(config: Mapping[str, Any], runs: Iterable[Run], labels: Any, train: Any) -> list[str]:
    """Problems with the curriculum of `runs` on their data: (N,) labels of the training file, the train part's ids."""
    if config["curriculum"] == NO_CURRICULUM:
        return []
    problems, score = [], config["curriculum"]["score"]
    counts = labels[train].bincount()
    smallest = int(counts[counts > 0].min())
    if score.get("folds", 0) > smallest:
        how = f"type curriculum.score.folds={min(5, smallest)}" if smallest > 1 else "no number of folds will do"
        problems.append(
            f"curriculum.score.folds is {score['folds']}; the smallest class has {smallest} training images, and each "
            f"fold needs one: {how}"
        )
    if score["name"] == "file":
        problems += file_problems(score["path"], len(labels))
    ordered = [run for run in runs if run.spec.get("curriculum", NO_CURRICULUM) != NO_CURRICULUM]
    alike = {json.dumps([run.kind, run.only_labelled, run.spec["epochs"]]): run for run in ordered}  # all seeds are
    for run in alike.values():
        problems += check_pool(run, len(train))
    return list(dict.fromkeys(problems))


def file_problems(path: str, images: int) -> list[str]:
    """Problems with a file of scores, which must hold one for each image of the training file."""
    import numpy as np

    from fitnets.curriculum.scores import numbers_in

    try:
        values = numbers_in(path)
        if values.shape == (images,) and np.isfinite(values).all():
            return []
        found = f"holds numbers of shape {values.shape}"
    except (OSError, ValueError, EOFError) as error:
        found = f"cannot be read ({error})"
    expected = f"{images} finite numbers, one for each image of the training file (validation images too)"
    return [f"curriculum.score.path={path} {found}; it must hold {expected}"]


def check_pool(run: Run, samples: int) -> list[str]:
    """Problems with how the pool of `samples` grows in a stage: it must have room, must never fall, must end full."""
    from fitnets.curriculum.pool import pacing, pool_size
    from fitnets.data.batch import per_epoch

    spec = run.spec["curriculum"]["pacing"]
    batch_size, labels = run.spec["recipe"]["batch_size"], run.spec.get("labels", "all")
    batches_per_epoch = per_epoch(samples, batch_size, run.spec.get("updates_per_epoch"))
    updates = run.spec["epochs"] * batches_per_epoch
    pool = labels if run.only_labelled and labels != "all" else samples
    if batch_size >= pool:
        return [
            f"batch_size is {batch_size} and stage {run.stage} draws from {pool} samples, so its pool is full from the "
            f"start and the curriculum does nothing: type batch_size= well below {pool}, or in a comparison "
            "leave it out (stage.arms=[kd,fitnet])"
        ]
    try:
        pace = pacing(spec, updates, batches_per_epoch)
        fractions = [float(pace(update)) for update in range(updates)]
    except Exception as error:
        return [f"curriculum.pacing {spec['_target_']}: {type(error).__name__}: {error}"]
    if fractions != sorted(fractions) or not 0 < fractions[0] <= 1 or not math.isfinite(sum(fractions)):
        at = [*(updates * fifth // 5 for fifth in range(5)), updates - 1]
        gives = [round(fractions[update], 4) for update in at]
        return [
            f"curriculum.pacing {spec['_target_']} gives {gives} at updates {at} of {updates}; it must give "
            "fractions of the samples, from above 0 on, that never fall"
        ]
    let_in = pool_size(fractions[-1], pool, batch_size)
    if let_in == pool or spec.get("full_at", 0) >= 1:
        return []
    how = ("" if "full_at" in spec else "curriculum/pacing=step ") + "curriculum.pacing.full_at=2"
    return [
        f"curriculum.pacing {spec['name']} has let in {let_in:,} of {pool:,} samples when stage {run.stage} ends after "
        f"{updates} updates: change curriculum.pacing.* or the epochs; to leave samples out on purpose type {how}"
    ]
