"""Train one stage: build its objects from the run's spec, fit, keep the best, test once, write the folder."""

import logging
import sys
import warnings
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from safetensors.torch import save

from fitnets import curriculum
from fitnets.assemble import compiled, epochs_of, make_data, make_stage, result_of, trained_stage
from fitnets.components import resolve
from fitnets.data.inventory import inventory
from fitnets.ending import Diverged, StageError, in_a_line
from fitnets.files import folder_at, write, write_result
from fitnets.seeds import derive
from fitnets.store import CHECKPOINT, EPOCHS, NO_CURRICULUM, Run
from fitnets.tracking.loggers import Loggers
from fitnets.training import cost
from fitnets.training.figures import learned_nothing
from fitnets.training.measurements import Measurements, costs, on_the_test_part, pictures_of
from fitnets.training.memory import keep_freed_memory
from fitnets.training.provenance import hardware, versions, write_config
from fitnets.training.recorder import Recorder, copied
from fitnets.training.refusals import refuse_what_does_not_load, refuse_what_is_not_finite, what_to_try

Measured = dict[str, Callable[[], dict[str, Any]]]


def train(
    run: Run,
    folder: Path,
    parents: dict[str, Path],
    options: dict[str, Any],
    callbacks: list[pl.Callback],
    *,
    loggers: Loggers | None = None,
) -> None:
    """Train `run` into `folder`, going on from `last.ckpt` where there is one.

    The weights and result.json are written as soon as they are known; what is measured and drawn is added after, and
    an error there loses no training. `options` is the trainer's config: what decides nothing but how it is computed.
    """
    if run.trains == "score":
        score(run, folder, parents, options)
        return
    keep_freed_memory()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    folder_at(folder)
    data = make_data(run, parents)
    of_data = inventory(data.images, *data.as_split)
    watching = [*callbacks, *curriculum.training_callbacks(run, data, folder)]
    trainer, recorder = make_trainer(run, folder, epochs_of(run, parents), options, watching)
    data.rank, data.world = trainer.global_rank, trainer.world_size
    data.move_to(trainer.strategy.root_device, images=options["images_at"] == "device")
    if trainer.is_global_zero:
        write_config(run, data, options, folder)
    with trainer.precision_plugin.forward_context():  # cached answers come out as those at each step would
        stage = make_stage(run, data, parents, trainer.strategy.root_device, options)
    for name in ("training_step", "validation_step", "test_step"):
        setattr(stage, name, not_the_end(getattr(stage, name)))
    before = {role: result_of(parent) for role, parent in parents.items()}
    measurements = Measurements(stage, before.get("student", {}).get("hint"))
    stage = compiled(stage, options["compile"])  # after the answers are cached: they need the teacher once
    if loggers:
        loggers.measure, recorder.on_row = measurements, loggers.row

    torch.set_flush_denormal(True)  # the paper's initial weights make numbers so small that a CPU crawls
    ranks = [trainer.global_rank] if trainer.global_rank else []  # each has its own dropout
    torch.manual_seed(derive(run.seed, run.stage, *ranks))
    kept = fit(run, folder, trainer, stage, recorder)
    test = figures_on_test(trainer, stage) if run.tested else {}
    if not trainer.is_global_zero:
        return
    if recorder.history:  # in case somebody else has written there (a lock removed by hand)
        recorder.write_rows(anew=True)
    for name, net in stage.nets.items():
        tensors = {key: value.contiguous() for key, value in copied(net.state_dict()).items()}
        write(folder / f"{name}.safetensors", save(tensors))
    refuse_what_does_not_load(run, folder, stage)
    result = describe(run, before) | {"data": of_data} | outcome(stage, trainer, recorder, kept, before)
    result |= {"test": test, "test_accuracy": test.get("accuracy")}
    result["learned_nothing"] = learned_nothing(result["validation"], of_data) if trainer.max_epochs else None
    write_result(folder, result | {"complete": False})  # killed from here on, it is resumed to be measured
    for name, measure in after_training(run, folder, measurements, result).items():
        result |= attempted(run, name, measure)
    write_result(folder, result | {"complete": True})
    for leftover in (CHECKPOINT, EPOCHS):
        (folder / leftover).unlink(missing_ok=True)
    if loggers:
        loggers.end(result, folder / "media")


def not_the_end(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step, whose StopIteration (a `next` that finds nothing) is an error; Lightning takes it as the data's end."""

    @wraps(step)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return step(*args, **kwargs)
        except StopIteration as error:
            raise StageError(
                f"{step.__name__}: a `next` found nothing (StopIteration): look where it is called"
            ) from error

    return called


def fit(run: Run, folder: Path, trainer: pl.Trainer, stage: Any, recorder: Recorder) -> dict[str, float]:
    """Train, and put the weights that are kept into the stage's networks; the figures of their epoch."""
    if not trainer.max_epochs:  # a teacher that stays untrained (a control)
        return {"epoch": 0.0}
    checkpoint = folder / CHECKPOINT
    ckpt_path = checkpoint if checkpoint.exists() else None
    try:
        trainer.fit(stage, datamodule=stage.inputs.data, ckpt_path=ckpt_path, weights_only=True)
        kept = recorder.keep(stage, run.spec["recipe"]["keep"])
        refuse_what_is_not_finite(stage, kept)
    except Diverged as error:
        raise Diverged(f"{run} {error}. {what_to_try(run)}") from error
    return kept


def figures_on_test(trainer: pl.Trainer, stage: Any) -> dict[str, float]:
    """Figures on the test part. This is the only place that reads it, after all choices are made."""
    figures = trainer.test(stage, datamodule=stage.inputs.data, verbose=False)[0]
    return {name.removeprefix("test/").removeprefix("match_"): value for name, value in figures.items()}


def describe(run: Run, before: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the run is, for whoever reads result.json alone."""
    spec = run.spec
    teacher = run if run.trains == "teacher" else run.parents.get("teacher")
    return {
        "stage": run.stage,
        "title": run.title,
        "arm": run.arm.name,
        "arm_title": run.arm.title,
        "trains": run.trains,
        "tested": run.tested,
        "for_score": run.for_score,
        "dataset": spec["dataset"]["name"],
        "labels": spec.get("labels", "all"),
        "teacher": teacher.spec["teacher"]["name"] if teacher else None,
        "student": spec["student"]["name"] if run.trains == "student" else None,
        "init": spec["init"]["name"] if run.trains == "student" else None,
        "temperature": spec.get("kd_loss", {}).get("temperature"),
        "seed": run.seed,
        "fingerprint": run.fingerprint,
        "parents": {role: parent.fingerprint for role, parent in run.parents.items()},
        "teacher_accuracy": before.get("teacher", {}).get("test_accuracy"),
        "patience": spec.get("patience"),
        "train_on": spec.get("train_on", "train"),
        "answers": spec.get("answers"),
        "augment": spec.get("augment"),
        "curriculum": spec.get("curriculum", NO_CURRICULUM)["name"],
    }


def outcome(
    stage: Any, trainer: pl.Trainer, recorder: Recorder, kept: dict[str, float], before: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """What came out of the training."""
    validation = {k.partition("/")[2]: v for k, v in kept.items() if k.startswith(("val/", "match/"))}
    if "searched" in before:
        validation = before["searched"]["validation"]  # of the training that found the epochs
    return {
        "validation": validation,
        "kept_epoch": int(kept["epoch"]),
        "epochs": trainer.current_epoch,
        "params": cost.parameters(stage.net),
        "multiplications": cost.multiplications(stage.net, stage.inputs.input_shape),
        "updates": trainer.global_step,
        "seconds": round(recorder.seconds, 3) if trainer.max_epochs else 0.0,
        **stage.findings(),
        "versions": versions(),
        "hardware": hardware(trainer.strategy.root_device) | {"devices": trainer.world_size},
        "observed": {},
        "details": {},
        "cost": {},
    }


def after_training(run: Run, folder: Path, measurements: Measurements, result: dict[str, Any]) -> Measured:
    """What is measured and drawn of a finished stage, by name; each gives what it adds to the result."""
    stage = measurements.stage
    return {
        "figures of the test part": lambda: on_the_test_part(stage, result["test"]),
        "pictures": lambda: pictures_of(stage, folder / "media", result["details"]),
        "figures on validation images": lambda: {"observed": measurements()},
        "costs": lambda: {"cost": costs(stage, folder / f"{run.trains}.safetensors", result)},
    }


def attempted(run: Run, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `measure` adds; nothing, and a warning, where it fails."""
    try:
        return measure()
    except Exception as error:
        print(f"{run}: {name} could not be made ({in_a_line(error)}); the training is kept", file=sys.stderr)
        return {}


def score(run: Run, folder: Path, parents: dict[str, Path], options: dict[str, Any]) -> None:
    """A run that trains nothing: its target scores the samples, and says what result.json should hold."""
    folder_at(folder)
    gpus = torch.cuda.device_count() if options["accelerator"] != "cpu" else 0
    device = torch.device("cuda", (options["gpu"] or 0) % gpus) if gpus else torch.device("cpu")
    data = make_data(run, parents)
    of_data = inventory(data.images, *data.as_split)
    data.move_to(device, images=options["images_at"] == "device")
    write_config(run, data, options, folder)
    torch.set_flush_denormal(True)
    found = resolve(run.target)(run, folder, parents, data, partial(trained_stage, options, device))
    empty: dict[str, Any] = {"test_accuracy": None, "test": {}, "validation": {}, "epochs": 0, "updates": 0}
    made_with = {"versions": versions(), "hardware": hardware(device)}
    write_result(folder, describe(run, {}) | {"data": of_data} | empty | found | made_with)


def make_trainer(
    run: Run, folder: Path, epochs: int, options: dict[str, Any], callbacks: list[pl.Callback]
) -> tuple[pl.Trainer, Recorder]:
    recorder = Recorder(folder, options["checkpoint_seconds"], run.spec.get("patience"))
    trains_on_all = run.spec.get("train_on") == "all"  # what was validation is trained on: nothing is left to validate
    trainer = pl.Trainer(
        max_epochs=epochs,
        limit_val_batches=0 if trains_on_all else 1.0,
        accelerator=options["accelerator"],
        devices=devices_of(options),
        **strategy_of(options["devices"], leaves_some_out=not run.tested),
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


def strategy_of(devices: int, leaves_some_out: bool) -> dict[str, Any]:
    """What a Trainer needs to be one of the processes. `leaves_some_out`: the stage trains a part of its network.

    Our own processes are all that there are: what SLURM or torchrun say of others in the environment is not asked.
    """
    from pytorch_lightning.plugins.environments import LightningEnvironment

    if devices == 1:
        return {"plugins": [LightningEnvironment()]}
    from pytorch_lightning.strategies import DDPStrategy

    return {"strategy": DDPStrategy(find_unused_parameters=leaves_some_out), "plugins": [LightningEnvironment()]}
