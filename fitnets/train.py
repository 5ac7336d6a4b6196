"""Train one stage: build its objects from the run's spec, fit, keep the best, test once, write the folder."""

import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from safetensors.torch import save_file

from fitnets import cost
from fitnets.assemble import compiled, epochs_of, make_data, make_module, result_of
from fitnets.data.module import DataModule
from fitnets.loggers import Loggers
from fitnets.memory import keep_freed_memory
from fitnets.provenance import hardware, versions, write_config
from fitnets.ranks import strategy_of
from fitnets.recorder import Recorder, copied
from fitnets.report.curriculum import pool_picture
from fitnets.report.observe import Observer, at_the_end, compared_layers, costs
from fitnets.runs import Run
from fitnets.seeds import derive
from fitnets.stages.observers import observers
from fitnets.stages.score import score


def train(
    run: Run,
    folder: Path,
    parents: dict[str, Path],
    options: dict[str, Any],
    callbacks: list[pl.Callback],
    loggers: Loggers | None = None,
) -> None:
    """Train `run` into `folder`, going on from `last.ckpt` where there is one; result.json is written last.

    `options` is the trainer's config: what decides nothing but where and how the work is done.
    """
    if run.stage == "score":
        score(run, folder, parents, options)
        return
    keep_freed_memory()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    folder.mkdir(parents=True, exist_ok=True)
    data = make_data(run, parents)
    watching = [*callbacks, *observers(run, data, folder)]
    trainer, recorder = make_trainer(run, folder, epochs_of(run, parents), options, watching)
    data.rank, data.world = trainer.global_rank, trainer.world_size
    data.move_to(trainer.strategy.root_device, images=options["images_at"] == "device")
    if trainer.is_global_zero:
        write_config(run, data, options, folder)
    with trainer.precision_plugin.forward_context():  # cached answers come out as those at each step would
        module = make_module(run, data, parents, trainer.strategy.root_device, options)
    module = compiled(module, options["compile"])  # after the answers are cached: they need the teacher once

    before = {role: result_of(parent) for role, parent in parents.items()}
    observer = Observer(module, data, compared_layers(module, before.get("hint", {}).get("hint")))
    if loggers:
        loggers.observe, recorder.tell = observer, loggers.row

    torch.set_flush_denormal(True)  # the paper's initial weights make numbers so small that a CPU crawls
    torch.manual_seed(derive(run.seed, run.stage, *[trainer.global_rank][: trainer.global_rank]))  # each its dropout
    checkpoint = folder / "last.ckpt"
    seconds, kept = 0.0, {"epoch": 0.0}  # of a teacher that stays untrained (a control)
    if trainer.max_epochs:
        ckpt_path = checkpoint if checkpoint.exists() else None
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        seconds, kept = recorder.seconds, recorder.keep(module, run.spec["recipe"]["keep"])
    test = figures_on_test(trainer, module, data) if run.stage not in ("hint", "label_hint") else {}
    validation = {k.partition("/")[2]: v for k, v in kept.items() if k.startswith(("val/", "match/"))}
    if "found" in parents:
        validation = before["found"]["validation"]  # of the training that found the epochs

    if not trainer.is_global_zero:
        return
    for name, net in module.nets.items():
        tensors = {key: value.contiguous() for key, value in copied(net.state_dict()).items()}
        save_file(tensors, folder / f"{name}.safetensors")
    if data.curriculum["name"] != "none":
        (folder / "media").mkdir(exist_ok=True)
        pool_picture(run, data, recorder.history, folder / "media" / "curriculum.png")
    role = "student" if "student" in module.nets else "teacher"
    net, teacher = module.nets[role], before.get("teacher", {})
    calibration, details = at_the_end(module, data, folder)
    result = {
        "stage": run.stage,
        "arm": run.arm,
        "dataset": run.spec["dataset"]["name"],
        "labels": run.spec.get("labels", "all"),
        "teacher": run.spec["teacher"]["name"] if run.stage == "teacher" else teacher_name(run),
        "student": run.spec["student"]["name"] if run.stage != "teacher" else None,
        "init": run.spec["init"]["name"] if run.stage != "teacher" else None,
        "temperature": run.spec.get("temperature"),
        "seed": run.seed,
        "fingerprint": run.fingerprint,
        "parents": {role: parent.fingerprint for role, parent in run.parents.items()},
        "test_accuracy": test.get("accuracy"),
        "teacher_accuracy": teacher.get("test_accuracy"),
        "test": test | calibration,
        "validation": validation,
        "kept_epoch": int(kept["epoch"]),
        "epochs": trainer.current_epoch,
        "patience": run.spec.get("patience"),
        "train_on": run.spec.get("train_on", "train"),
        "answers": run.spec.get("answers"),
        "augment": run.spec["augment"],
        "curriculum": run.spec.get("curriculum", {"name": "none"})["name"],
        "params": cost.parameters(net),
        "multiplications": cost.multiplications(net, data.input_shape),
        "updates": trainer.global_step,
        "seconds": round(seconds, 3),
        **module.findings(),
        "versions": versions(),
        "hardware": hardware(trainer.strategy.root_device) | {"devices": trainer.world_size},
        "observed": observer(),  # of the weights that are kept, on fixed validation images
        "details": details,
    }
    result["cost"] = costs(module, net, data, folder / f"{role}.safetensors", result, teacher.get("params"))
    partial = folder / "result.partial"
    partial.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(partial, folder / "result.json")
    checkpoint.unlink(missing_ok=True)
    if loggers:
        loggers.end(result, folder / "media")


def make_trainer(
    run: Run, folder: Path, epochs: int, options: dict[str, Any], callbacks: list[pl.Callback]
) -> tuple[pl.Trainer, Recorder]:
    recorder = Recorder(folder, options["checkpoint_seconds"], run.spec.get("patience"))
    retrained = run.spec.get("train_on") == "all"  # what was validation is trained on: there is nothing to validate
    trainer = pl.Trainer(
        max_epochs=epochs,
        limit_val_batches=0 if retrained else 1.0,
        accelerator=options["accelerator"],
        devices=devices_of(options),
        **strategy_of(options["devices"], leaves_some_out=run.stage in ("hint", "label_hint")),
        precision=options["precision"],
        callbacks=[*callbacks, recorder],  # the recorder writes the checkpoints
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    return trainer, recorder


def devices_of(options: dict[str, Any]) -> int | list[int]:
    """How many processes, or for one process which GPU where there is a choice."""
    gpus = torch.cuda.device_count() if options["accelerator"] != "cpu" else 0
    return [(options["gpu"] or 0) % gpus] if gpus and options["devices"] == 1 else options["devices"]


def figures_on_test(trainer: pl.Trainer, module: pl.LightningModule, data: DataModule) -> dict[str, float]:
    """Figures on the test part. This is the only place that reads it, after all choices are made."""
    figures = trainer.test(module, datamodule=data, verbose=False)[0]
    return {name.removeprefix("test/").removeprefix("match_"): value for name, value in figures.items()}


def teacher_name(run: Run) -> str | None:
    return run.parents["teacher"].spec["teacher"]["name"] if "teacher" in run.parents else None
