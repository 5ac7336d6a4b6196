"""The door: compose the config, check it, run what it asks for, print what came out.

python run.py                                     three arms on digits, five seeds, a table and a plot
python run.py stage=hint student=thin_deep        one stage; what it needs is trained or reused
python run.py stage=fitnet temperature=2          hint, then KD
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

# Threads of GNU OpenMP (torch's on Linux) that wait by spinning for long starve each other when two jobs share the
# cores: 90 updates took 113 s beside another job, 3 s with this, and the same 1.4 s with or without it when alone.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

refused: list[Exception] = []


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from fitnets.check import ConfigError

    sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        cfg = resolved(config)
        name_group(cfg, HydraConfig.get().runtime.choices)
        return run(cfg, list(HydraConfig.get().overrides.task) if sweeping else sys.argv[1:])
    except ConfigError as error:
        print(error, file=sys.stderr)
        refused.append(error)  # a sweep goes on with its other jobs; the exit code is 2 in the end
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


def run(cfg: dict[str, Any], overrides: list[str]) -> float | None:
    """Do what `cfg` asks for. Returns the validation accuracy of a single trained student, for sweepers.

    torch is imported only if something must be trained, so a command whose work is done is quick.
    """
    from rich.console import Console

    from fitnets.check import ConfigError, check_config, check_nets
    from fitnets.report.terminal import one_line, say_plan, summary
    from fitnets.runs import ensure, folder_of, plan, status, with_parents
    from fitnets.wandb_run import sync_command

    if problems := check_config(cfg):
        raise ConfigError(problems)
    runs_dir, named = Path(cfg["runs_dir"]), plan(cfg)
    runs = with_parents(named)
    again = {r.fingerprint for r in named} if cfg["fresh"] else set()
    states = {r.fingerprint: "missing" if r.fingerprint in again else status(r, runs_dir) for r in runs}
    to_train = [r for r in runs if states[r.fingerprint] != "done"]
    if to_train and (problems := check_nets(cfg)):
        raise ConfigError(problems)
    # kept in every run's config.yaml, where it decides nothing; a script that calls this has set its own
    cfg = cfg | {"trainer": {"command": shlex.join(["python", "run.py", *overrides])} | cfg["trainer"]}
    console = Console(highlight=False, soft_wrap=True, markup=False)  # logger=[csv,wandb] is no markup
    say_plan(console, runs, states, runs_dir)
    if cfg["dry_run"]:
        return None

    results = {}
    try:
        for r in runs:
            number = to_train.index(r) + 1 if r in to_train else len(to_train)
            label = f"[{number}/{len(to_train)}] {r}"
            train_here = trainer_for(cfg, label, console)
            result, new = ensure(r, runs_dir, train_here, r.fingerprint in again, console.print)
            results[r.fingerprint] = result
            if new:
                console.print(f"{label}: {one_line(result)}")
    finally:
        if upload := sync_command([folder_of(r, runs_dir) for r in to_train]):
            console.print(f"W&B runs are offline; to upload them: {upload}")
    if not to_train:
        console.print("Nothing to train: every stage was done before (fresh=true trains again).")

    if cfg["stage"]["name"] in ("compare", "controls"):
        from fitnets.report.compare import report

        report(cfg, named, results, runs_dir, console, overrides)
        return None
    result = results[named[-1].fingerprint]
    console.print(summary(named[-1], result, runs_dir, overrides))
    return result["validation"].get("accuracy")


def trainer_for(cfg: dict[str, Any], label: str, console: Any) -> Any:
    """A function that trains one run; torch and Lightning are imported when it is called."""

    def train_here(run: Any, folder: Path, parents: dict[str, Path]) -> None:
        import torch

        from fitnets.loggers import started
        from fitnets.report.progress import StageProgress
        from fitnets.train import train

        if cfg["trainer"]["threads"]:
            torch.set_num_threads(cfg["trainer"]["threads"])
        chosen = cfg["logger"] if run.stage != "score" else {}  # a score has no epochs to log
        with started(run, folder, parents, chosen, console.print) as loggers:
            train(run, folder, parents, cfg["trainer"], [StageProgress(console, label)], loggers)

    return train_here


if __name__ == "__main__":
    main()
    sys.exit(2 if refused else 0)
