"""A score run: how hard each training sample is, computed once and kept by what decided it. Trains nothing itself."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fitnets.assemble import SCORES, make_data, make_module
from fitnets.components import build
from fitnets.data.module import DataModule
from fitnets.load import load_teacher
from fitnets.provenance import hardware, versions, write_config
from fitnets.report.agreement import agreements
from fitnets.report.curriculum import easiest_and_hardest
from fitnets.runs import Run, folder_of
from fitnets.scores import Scored

SURE = 0.999  # a teacher's confidence above which it tells samples apart no more


def score(run: Run, folder: Path, parents: dict[str, Path], options: dict[str, Any]) -> None:
    """Score the run's samples into `folder`: scores.safetensors, a picture, config.yaml; result.json is last.

    `difficulty` (N,) float64 is by sample id of the training file, higher = harder, NaN outside the train part.
    """
    started = time.monotonic()
    (folder / "media").mkdir(parents=True, exist_ok=True)
    gpus = torch.cuda.device_count() if options["accelerator"] != "cpu" else 0
    device = torch.device("cuda", (options["gpu"] or 0) % gpus) if gpus else torch.device("cpu")
    data = make_data(run, parents)
    data.move_to(device, images=options["images_at"] == "device")
    write_config(run, data, options, folder)
    torch.set_flush_denormal(True)
    scored = Scored(data, parents, hint_module(run, parents, device, options) if "hint" in parents else None)
    options_of_score = {key: value for key, value in run.spec["score"].items() if key not in ("name", "content")}
    options_of_score |= {"path": run.where["score_path"]} if "score_path" in run.where else {}
    of_train = build(options_of_score, scored)
    if not torch.isfinite(of_train).all():
        raise ValueError(f"{run}: {int((~torch.isfinite(of_train)).sum())} samples have no finite score")
    difficulty = torch.full((len(data.given_labels),), torch.nan, dtype=torch.float64)
    difficulty[data.train_index] = of_train.double()
    save_file({"difficulty": difficulty}, folder / SCORES)
    easiest_and_hardest(data, difficulty, run.net_name, folder / "media" / "easiest_hardest.png")
    facts = {
        "stage": run.stage,
        "arm": run.arm,
        "dataset": run.spec["dataset"]["name"],
        "labels": "all",
        "teacher": run.parents["teacher"].net_name if "teacher" in run.parents else None,
        "student": None,
        "seed": run.seed,
        "fingerprint": run.fingerprint,
        "parents": {role: parent.fingerprint for role, parent in run.parents.items()},
        "score": {"name": run.net_name, **told(scored, of_train), "agreement": agreements(folder, run.net_name)},
        "test_accuracy": None,
        "test": {},
        "validation": {},
        "epochs": 0,
        "updates": 0,
        "seconds": round(time.monotonic() - started, 3),
        "versions": versions(),
        "hardware": hardware(device),
    }
    partial = folder / "result.partial"
    partial.write_text(json.dumps(facts, indent=2) + "\n")
    os.replace(partial, folder / "result.json")


def hint_module(run: Run, parents: dict[str, Path], device: torch.device, options: dict[str, Any]) -> Any:
    """The trained module of the hint run that a score needs: guided half, regressor and cut teacher."""
    hint = run.parents["hint"]
    hint = replace(hint, spec=hint.spec | {"answers": "online"})  # nothing is cached for this
    folders = {role: folder_of(parent, parents["hint"].parent) for role, parent in hint.parents.items()}
    data = make_data(hint, folders)
    data.move_to(device, images=options["images_at"] == "device")
    module = make_module(hint, data, folders, device)
    for name, net in module.nets.items():
        net.load_state_dict(load_file(parents["hint"] / f"{name}.safetensors"), strict=True)
    return module


def told(scored: Scored, difficulty: Tensor) -> dict[str, Any]:
    """What a person should know of a score before trusting it."""
    levels = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    quantiles = (
        difficulty.quantile(levels)
        if len(difficulty) < 2**24
        else difficulty.sort().values[(levels * (len(difficulty) - 1)).long()]
    )
    facts = {"samples": len(difficulty), "higher_is": "harder", "quantiles_0_10_50_90_100": quantiles.tolist()}
    if "teacher" in scored.folders:
        confidence = scored.logits(load_teacher(scored.folders["teacher"])).softmax(1).amax(1)
        facts["teacher_sure"] = float((confidence > SURE).double().mean())
    wrong = mislabelled(scored.data)
    if wrong.any():
        from sklearn.metrics import roc_auc_score

        facts["auroc_of_wrong_labels"] = float(roc_auc_score(wrong.numpy(), difficulty.numpy()))
    return facts


def mislabelled(data: DataModule) -> Tensor:
    """Which training samples have a wrong label through `dataset.label_noise`, (n,) bool."""
    assert data.images is not None
    clean, index = data.images.labels.cpu(), data.train_index
    return data.given_labels[index].cpu() != clean[index]
