"""The door: compose the config, check it, run what it asks for, print what came out.

python run.py                                     three arms on digits, five seeds, a table and a plot
python run.py stage=hint student=thin_deep        one stage; what it needs is trained or reused
python run.py stage=fitnet temperature=2          hint, then KD
"""

import os
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

# Threads of GNU OpenMP (torch's on Linux) that wait by spinning for long starve each other when two jobs share the
# cores: 90 updates took 113 s beside another job, 3 s with this, and the same 1.4 s with or without it when alone.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Our launchers' settings bear the plugins' names, so that hydra/launcher=joblib takes them.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")

refused: list[Exception] = []


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from fitnets.check import ConfigError

    told = HydraConfig.get()
    if told.mode == RunMode.MULTIRUN:
        from fitnets.sweep import as_job

        words = list(told.overrides.task)
        with as_job(Path(told.runtime.output_dir), told.job.num, words) as job:
            cfg = resolved(config)
            name_group(cfg, told.runtime.choices)
            return run(shared_out(cfg, told.launcher, told.job.num), words, tell=job.names, brief=True)
        return None  # the job has failed, which is written down
    try:
        cfg = resolved(config)
        name_group(cfg, told.runtime.choices)
        return run(cfg, sys.argv[1:])
    except ConfigError as error:
        print(error, file=sys.stderr)
        refused.append(error)
        return None


def resolved(config: DictConfig) -> dict[str, Any]:
    """The config with its references to other keys filled in."""
    from omegaconf.errors import OmegaConfBaseException

    from fitnets.check import ConfigError

    try:
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        first = str(error).splitlines()[0]
        raise ConfigError([f"{error.full_key or 'a key'} cannot be filled in: {first}"]) from error


def name_group(cfg: dict[str, Any], choices: Any) -> None:
    """W&B's group, where the user gives none, is the sweep's or the experiment's name."""
    wandb = (cfg.get("logger") or {}).get("wandb")
    if isinstance(wandb, dict) and wandb.get("group") is None:
        wandb["group"] = choices.get("sweep") or choices.get("experiment")


def shared_out(cfg: dict[str, Any], launcher: Any, number: int) -> dict[str, Any]:
    """The config of a sweep's job, with its share of the machine where jobs run side by side."""
    from fitnets.check import ConfigError
    from fitnets.sweep import ONE_DEVICE, shares

    if (devices := cfg["trainer"]["devices"]) != 1:  # where the trainer itself is swept over
        raise ConfigError([ONE_DEVICE.format(devices)])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share, trainer = shares(launcher, number, cores), cfg["trainer"]
    return cfg | {"trainer": trainer | {key: share[key] for key in share if trainer[key] is None}}


def run(
    cfg: dict[str, Any],
    overrides: list[str],
    tell: Callable[[list[Any], Path], None] = lambda named, runs_dir: None,
    watch: Callable[[Any], list[Any]] = lambda run: [],
    brief: bool = False,
) -> float | None:
    """Do what `cfg` asks for. Returns the validation accuracy of a single trained student, for sweepers.

    torch is imported only if something must be trained (or layers must be found), so a command whose work is done is
    quick. `tell` hears which runs the command names, `watch` gives more callbacks for a run that is trained.
    `brief` leaves out the summary, which tells the test accuracy, and the upload: a sweep tells both for all its jobs.
    """
    from rich.console import Console

    from fitnets.check import ConfigError, check_config, check_nets
    from fitnets.report.terminal import one_line, say_plan, summary
    from fitnets.runs import ensure, folder_of, plan, status, with_parents
    from fitnets.wandb_run import sync_command

    if problems := check_config(cfg):
        raise ConfigError(problems)
    console = Console(highlight=False, soft_wrap=True, markup=False)  # logger=[csv,wandb] is no markup
    if cfg["stage"]["name"] == "positions":
        from fitnets.positions import with_pairs

        cfg = with_pairs(cfg, console.print)
    runs_dir, named = Path(cfg["runs_dir"]), plan(cfg)
    tell(named, runs_dir)
    runs = with_parents(named)
    again = {r.fingerprint for r in named} if cfg["fresh"] else set()
    states = {r.fingerprint: "missing" if r.fingerprint in again else status(r, runs_dir) for r in runs}
    to_train = [r for r in runs if states[r.fingerprint] != "done"]
    if to_train and (problems := check_nets(cfg)):
        raise ConfigError(problems)
    # kept in every run's config.yaml, where it decides nothing; a script that calls this has set its own
    cfg = cfg | {"trainer": {"command": shlex.join(["python", "run.py", *overrides])} | cfg["trainer"]}
    say_plan(console, runs, states, runs_dir)
    if cfg["dry_run"]:
        return None

    results = {}
    try:
        for r in runs:
            number = to_train.index(r) + 1 if r in to_train else len(to_train)
            label = f"[{number}/{len(to_train)}] {r}"
            train_here = trainer_for(cfg, label, console, watch)
            result, new = ensure(r, runs_dir, train_here, r.fingerprint in again, console.print)
            results[r.fingerprint] = result
            if new:
                console.print(f"{label}: {one_line(result)}")
    finally:
        if not brief and (upload := sync_command([folder_of(r, runs_dir) for r in to_train])):
            console.print(f"W&B runs are offline; to upload them: {upload}")
    if not to_train:
        console.print("Nothing to train: every stage was done before (fresh=true trains again).")

    if cfg["stage"]["name"] in ("compare", "controls"):
        if brief:  # the sweep's own table has a row for each arm
            return None
        from fitnets.report.compare import report

        report(cfg, named, results, runs_dir, console, overrides)
        return None
    if cfg["stage"]["name"] == "positions":
        from fitnets.positions import report as report_positions

        return report_positions(cfg, named, runs_dir, console, overrides)
    result = results[named[-1].fingerprint]
    if not brief:
        console.print(summary(named[-1], result, runs_dir, overrides))
    elif named[-1] not in to_train:
        console.print(f"{named[-1]}: {one_line(result)}")
    return result["validation"].get("accuracy")


def trainer_for(cfg: dict[str, Any], label: str, console: Any, watch: Callable[[Any], list[Any]]) -> Any:
    """A function that trains one run; torch and Lightning are imported when it is called."""

    def train_here(run: Any, folder: Path, parents: dict[str, Path]) -> None:
        import torch

        from fitnets.loggers import started
        from fitnets.report.progress import StageProgress
        from fitnets.train import train

        chosen = cfg["logger"] if run.stage != "score" else {}  # a score trains nothing and has no epochs to log
        if cfg["trainer"]["devices"] > 1 and run.stage != "score":
            from fitnets.ranks import train_on_ranks

            return train_on_ranks(run, folder, parents, cfg["trainer"], label, chosen)
        if cfg["trainer"]["threads"]:
            torch.set_num_threads(cfg["trainer"]["threads"])
        with started(run, folder, parents, chosen, console.print) as loggers:
            train(run, folder, parents, cfg["trainer"], [StageProgress(console, label), *watch(run)], loggers)

    return train_here


if __name__ == "__main__":
    code = 0
    try:
        main()
    finally:  # a sweep's table comes also when Hydra has given up
        if folder := getattr(sys.modules.get("fitnets.sweep"), "launched", None):
            from fitnets.report.sweep import finish

            code = finish(folder)
    sys.exit(code or (2 if refused else 0))
