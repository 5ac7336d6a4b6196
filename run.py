"""The door: compose the config, check it, run what it asks for, print what came out.

    python run.py                                     three arms on digits, five seeds, a table and a plot
    python run.py stage=hint student=thin_deep        one stage; what it needs is trained or reused
    python run.py stage=fitnet temperature=2          hint, then KD
"""

import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    from hydra.core.hydra_config import HydraConfig

    from fitnets.check import ConfigError

    cfg: Any = OmegaConf.to_container(config, resolve=True)
    try:
        return run(cfg, list(HydraConfig.get().overrides.task))
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def run(cfg: dict[str, Any], overrides: list[str]) -> float | None:
    """Do what `cfg` asks for. Returns the validation accuracy of a single trained student, for sweepers.

    torch is imported only if something must be trained or drawn, so a command whose work is done is quick.
    """
    from rich.console import Console

    from fitnets.check import ConfigError, check_config
    from fitnets.runs import STAGE_VERSIONS, ensure, plan, read_result, status, with_parents

    console = Console(highlight=False, soft_wrap=True)
    problems = check_config(cfg)
    if problems:
        raise ConfigError(problems)
    runs_dir = Path(cfg["runs_dir"])
    named = plan(cfg)
    runs = with_parents(named)
    asked_again = {run.fingerprint for run in named} if cfg["fresh"] else set()
    to_train = [r for r in runs if r.fingerprint in asked_again or status(r, runs_dir) != "done"]
    say_plan(console, runs, to_train, asked_again, runs_dir)
    if to_train:
        from fitnets.check import check_nets

        problems = check_nets(cfg)
        if problems:
            raise ConfigError(problems)
    if cfg["dry_run"]:
        return None

    results, trained = {}, 0
    for run in runs:
        label = f"[{trained + 1}/{max(len(to_train), trained + 1)}] {run}"
        fresh = run.fingerprint in asked_again
        result, new = ensure(run, runs_dir, trainer_for(cfg, label, console), fresh, console.print)
        results[run.fingerprint] = result
        if new:
            trained += 1
            console.print(f"{label}: {one_line(result)}")
    if not trained:
        console.print("Nothing to train: every stage was done before (fresh=true trains again).")

    if cfg["stage"]["name"] == "compare":
        from fitnets.report.compare import report

        report(cfg, named, results, runs_dir, console, overrides)
        return None
    from fitnets.report.summary import summary

    last = named[-1]
    console.print(summary(last, read_result(last, runs_dir) or {}, runs_dir, overrides))
    return results[last.fingerprint]["validation"].get("accuracy")


def say_plan(console: Any, runs: list, to_train: list, asked_again: set[str], runs_dir: Path) -> None:
    """One line a stage where there are few, one line a kind where there are many."""
    from collections import Counter

    from fitnets.runs import status

    words = {"done": "reused", "half-finished": "resumes", "missing": "to train"}
    states = [
        (run, "to train again" if run.fingerprint in asked_again else words[status(run, runs_dir)]) for run in runs
    ]
    console.print(f"Plan ({len(runs)} stages, {len(to_train)} to train), in {runs_dir}/:")
    if len(runs) <= 4:
        for run, state in states:
            console.print(f"  {str(run):40} {state:15} {run.name}")
        return
    counts = Counter((f"{r.stage}{' after hint' if 'hint' in r.parents else ''} {r.net_name}", s) for r, s in states)
    for (kind, state), count in counts.items():
        console.print(f"  {kind:40} {state} x {count}")


def trainer_for(cfg: dict[str, Any], label: str, console: Any) -> Any:
    """A function that trains one run; torch and Lightning are imported when it is called."""

    def train_run(run: Any, folder: Path, parents: dict[str, Path]) -> None:
        import torch

        from fitnets.report.progress import StageProgress
        from fitnets.train import train

        if cfg["trainer"]["threads"]:
            torch.set_num_threads(cfg["trainer"]["threads"])
        train(run, folder, parents, cfg["trainer"], [StageProgress(console, label)])

    return train_run


def one_line(result: dict[str, Any]) -> str:
    figures = result["validation"]
    if result["stage"] == "hint":
        told = f"hint loss {figures['hint_loss']:.4g}, R2 {figures['r2']:.3f}"
    else:
        told = f"val accuracy {figures['accuracy']:.2%}"
        if "agreement" in figures:
            told += f", agreement {figures['agreement']:.2%}"
    return f"{told}, {result['seconds']:.1f} s"


if __name__ == "__main__":
    main()
