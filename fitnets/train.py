"""Train one stage: build its objects from the run's spec, fit, keep the best, test once, write the folder."""

import json
import logging
import os
import platform
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from fitnets import cost
from fitnets.components import build, derive
from fitnets.data.module import DataModule
from fitnets.layers import Cut, declared_nonlinearity, plan_regressor, resolve_layer
from fitnets.load import build_net, load_student, load_teacher
from fitnets.recorder import Recorder, copied
from fitnets.runs import Run
from fitnets.stages.classify import ClassifierModule
from fitnets.stages.hint import HintModule
from fitnets.stages.kd import KDModule
from fitnets.stages.teacher import Answers, FrozenTeacher, teacher_answers

PROBED = 512  # training images that decide whether a hint layer is ever negative


def train(
    run: Run, folder: Path, parents: dict[str, Path], options: dict[str, Any], callbacks: list[pl.Callback]
) -> None:
    """Train `run` into `folder`, going on from `last.ckpt` where there is one; result.json is written last.

    `options` is the trainer's config: what decides nothing but where and how the work is done.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    folder.mkdir(parents=True, exist_ok=True)
    trainer, recorder = make_trainer(run, folder, options, callbacks)
    data = make_data(run)
    data.move_to(trainer.strategy.root_device)
    module = make_module(run, data, parents, trainer.strategy.root_device)
    write_config(run, data, options, folder)

    torch.manual_seed(derive(run.seed, run.stage))
    checkpoint = folder / "last.ckpt"
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint if checkpoint.exists() else None, weights_only=True)
    seconds = recorder.seconds
    kept = recorder.keep(module, run.spec["keep"])
    test = test_figures(trainer, module, data) if run.stage != "hint" else {}

    for name, net in module.nets.items():
        tensors = {key: value.contiguous() for key, value in copied(net.state_dict()).items()}
        save_file(tensors, folder / f"{name}.safetensors")
    net = module.nets.get("student", module.nets.get("teacher"))
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
        "test": test,
        "validation": {k.partition("/")[2]: v for k, v in kept.items() if k.startswith(("val/", "match/"))},
        "kept_epoch": int(kept["epoch"]),
        "params": cost.parameters(net),
        "multiplications": cost.multiplications(net, data.input_shape),
        "updates": trainer.global_step,
        "seconds": round(seconds, 3),
        **module.findings(),
        "versions": versions(),
        "hardware": hardware(trainer.strategy.root_device),
    }
    partial = folder / "result.partial"
    partial.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(partial, folder / "result.json")
    checkpoint.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------- from spec to objects


def make_trainer(
    run: Run, folder: Path, options: dict[str, Any], callbacks: list[pl.Callback]
) -> tuple[pl.Trainer, Recorder]:
    recorder = Recorder(folder, options["checkpoint_seconds"])
    trainer = pl.Trainer(
        max_epochs=run.spec["epochs"],
        accelerator=options["accelerator"],
        devices=1,
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


def make_data(run: Run) -> DataModule:
    """The run's data; a KD stage goes on in the data order where its hint stage ended."""
    recipe = run.spec["teacher" if run.stage == "teacher" else "recipe"]
    recipe = recipe["recipe"] if run.stage == "teacher" else recipe
    data = DataModule(
        run.spec["dataset"],
        run.spec["split_seed"],
        recipe["batch_size"],
        seed=run.seed,
        labels=run.spec.get("labels", "all"),
        only_labelled=run.stage == "backprop",
        first_epoch=run.parents["hint"].spec["epochs"] if "hint" in run.parents else 0,
    )
    data.setup()
    return data


def make_module(run: Run, data: DataModule, parents: dict[str, Path], device: torch.device) -> Any:
    """The LightningModule of the run's stage."""
    spec, classes = run.spec, data.num_classes
    updates = spec["epochs"] * data.batches_per_epoch
    if run.stage == "teacher":
        teacher = new_net(spec["teacher"]["net"], spec["teacher"]["init"], run.seed, "teacher", data)
        return ClassifierModule(teacher, "teacher", classes, spec["teacher"]["recipe"], updates)
    student = new_net(spec["student"]["net"], spec["init"]["student"], run.seed, "student", data)
    if run.stage == "backprop":
        return ClassifierModule(student, "student", classes, spec["recipe"], updates)
    teacher = load_teacher(parents["teacher"]).to(device)
    if run.stage == "hint":
        return hint_module(run, data, student, teacher, updates)
    if "hint" in parents:
        student.load_state_dict(load_student(parents["hint"]).state_dict(), strict=True)
    frozen = FrozenTeacher(teacher)
    return KDModule(
        student,
        frozen,
        teacher_answers(frozen, data, spec["answers"]),
        classes,
        spec["temperature"],
        spec.get("lambda_schedule", {}),
        spec["kd_loss"],
        spec["epochs"],
        spec["recipe"],
        updates,
    )


def hint_module(run: Run, data: DataModule, student: nn.Module, teacher: nn.Module, updates: int) -> HintModule:
    """Both networks cut at their layer, and the regressor that their two shapes ask for."""
    hint, shape = run.spec["hint"], data.input_shape
    hint_layer, hint_shape = resolve_layer(teacher, hint["teacher_layer"], shape, "teacher", "hint.teacher_layer")
    guided_layer, guided_shape = resolve_layer(
        student, hint["student_layer"], shape, "student", "hint.student_layer"
    )
    frozen = FrozenTeacher(Cut(teacher, hint_layer))
    hints = teacher_answers(frozen, data, run.spec["answers"])
    probe = data.train_index[:PROBED]
    nonlinearity, pieces, why = choose_nonlinearity(
        hint["nonlinearity"], teacher, hint_layer, hints(probe, data.standardised(probe))
    )
    plan = plan_regressor(guided_shape, hint_shape, hint["regressor"], nonlinearity, pieces)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(run.seed, "regressor"))
        regressor = plan.build()
        build(run.spec["init"]["regressor"], regressor)
    facts = {
        "hint_layer": hint_layer,
        "guided_layer": guided_layer,
        "regressor": str(plan),
        "regressor_nonlinearity": plan.nonlinearity,
        "nonlinearity_because": why,
        "regressor_params": cost.parameters(regressor),
        "reduction": hint["reduction"],
    }
    return HintModule(
        student, guided_layer, hints, regressor, hint["reduction"], shape, run.spec["recipe"], updates, facts
    )


def choose_nonlinearity(choice: str, teacher: nn.Module, layer: str, hints: Tensor) -> tuple[str, int, str]:
    """The regressor's non-linearity, its maxout pieces, and why: the hint layer's own (paper section 2.2)."""
    declared = declared_nonlinearity(teacher, layer)
    pieces = declared[1] if declared else 2
    if choice != "auto":
        return choice, pieces, "as asked"
    if declared:
        return declared[0], pieces, "as the hint layer declares"
    if bool((hints >= 0).all()):
        return "relu", pieces, f"no negative output on {len(hints)} training images"
    return "linear", pieces, f"negative outputs on {len(hints)} training images"


def new_net(net: dict[str, Any], init: dict[str, Any], seed: int, role: str, data: DataModule) -> nn.Module:
    """A network with fresh weights that depend on (net, init, seed) alone, whatever was built before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, role))
        built = build_net(net, data.input_shape, data.num_classes)
        build(init, built)
    return built


# --------------------------------------------------------------------------------------- what is written


def test_figures(trainer: pl.Trainer, module: pl.LightningModule, data: DataModule) -> dict[str, float]:
    """Figures on the test part. This is the only place that reads it, after all choices are made."""
    figures = trainer.test(module, datamodule=data, verbose=False)[0]
    return {name.removeprefix("test/").removeprefix("match_"): value for name, value in figures.items()}


def write_config(run: Run, data: DataModule, options: dict[str, Any], folder: Path) -> None:
    """config.yaml: what decided the result, what the data turned out to be, and where it was computed."""
    config = {
        "stage": run.stage,
        "arm": run.arm,
        "seed": run.seed,
        "fingerprint": run.fingerprint,
        "parents": {role: parent.name for role, parent in run.parents.items()},
        **run.spec,
        "data": {
            "input_shape": list(data.input_shape),
            "num_classes": data.num_classes,
            "mean": data.mean.flatten().tolist(),
            "std": data.std.flatten().tolist(),
        },
        "trainer": options,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def teacher_name(run: Run) -> str | None:
    return run.parents["teacher"].spec["teacher"]["name"] if "teacher" in run.parents else None


def versions() -> dict[str, str]:
    packages = ("fitnets", "torch", "pytorch-lightning", "torchmetrics", "hydra-core")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def hardware(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": device.type, "name": name, "threads": torch.get_num_threads()}
