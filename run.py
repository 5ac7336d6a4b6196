"""The door: compose the config, check it, plan, run what is missing, print what came out.

python run.py                                     three arms on digits, five seeds, a table and a plot
python run.py stage=hint student=thin_deep        one stage; what it needs is trained or reused
python run.py stage=fitnet temperature=2          hint, then KD
"""

import hashlib
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
said: set[str] = set()  # of the data


@dataclass
class Options:
    """How a command is run by whoever calls it: a person, a sweep, a script."""

    words: Sequence[str] = ()  # as typed after `python run.py`, flags too
    on_plan: Callable[[list[Any], list[Any], Path], None] = lambda commands, plans, runs_dir: None
    callbacks: Callable[[Any], list[Any]] = lambda run: []  # Lightning callbacks for a run that is trained
    brief: bool = False  # no summary, which tells the test accuracy, and no table: a sweep tells both for all its jobs


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(node: DictConfig) -> float | None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from fitnets.commands import Config
    from fitnets.config import ConfigError
    from fitnets.ending import StageError
    from fitnets.files import StorageError

    job = HydraConfig.get()
    words: Any = OmegaConf.to_container(job.overrides.task, resolve=False)  # a word may hold a reference
    config = Config(node, words)
    if job.mode != RunMode.MULTIRUN:
        try:
            return run(with_group(config, job.runtime.choices), Options(sys.argv[1:]))
        except (ConfigError, StageError, StorageError) as error:  # Hydra would put its own words before it
            refused.append(error)
            return None
    from fitnets.sweep import as_job, with_share

    with as_job(Path(job.runtime.output_dir), job.job.num, words) as record:
        config = with_share(with_group(config, job.runtime.choices), job.launcher, job.job.num)
        return run(config, Options(words, on_plan=record.name_runs, brief=True))
    return None  # the job has failed, which is written down


def with_group(config: Any, choices: Any) -> Any:
    """W&B's group, where the user gives none, is the sweep's or the experiment's name."""
    wandb = (config.get("logger") or {}).get("wandb")
    if isinstance(wandb, dict) and wandb.get("group") is None:
        return config.changed({"logger.wandb.group": choices.get("sweep") or choices.get("experiment")})
    return config


def run(config: Any, options: Options) -> float | None:
    """Do what the config asks for. Returns the validation accuracy of a single trained student, for sweepers.

    torch is imported only if something must be trained (or layers must be found), so a command whose work is done is
    quick.
    """
    from rich.console import Console

    from fitnets import curriculum
    from fitnets.commands import arm_names, commands_of
    from fitnets.config import ConfigError, check
    from fitnets.ending import Diverged
    from fitnets.files import StorageError
    from fitnets.idle import idle_keys
    from fitnets.plan import plan
    from fitnets.report.terminal import one_line, say_plan, summary
    from fitnets.store import folder_of, mark_version, problem_with_writing, states_of, with_parents
    from fitnets.tracking.wandb import sync_command

    if problems := check(config.resolved, arm_names()):
        raise ConfigError(problems)
    console = Console(highlight=False, soft_wrap=True, markup=False)  # logger=[csv,wandb] is no markup
    commands = commands_of(config, console.print)
    of_arms = {command.name: command.config for command in commands}
    if problems := list(dict.fromkeys(p for each in of_arms.values() for p in check(each.resolved))):
        raise ConfigError(problems)
    plans = [plan(command.config, command.arm) for command in commands]
    runs_dir, named = Path(config["runs_dir"]), [run for runs in plans for run in runs]
    options.on_plan(commands, plans, runs_dir)
    runs = with_parents(named)
    again = {r.fingerprint for r in named} if config["fresh"] else set()
    try:
        states = states_of(runs, runs_dir, again)
    except StorageError as error:
        raise ConfigError([str(error)]) from error
    to_train = [r for r in runs if states[r.fingerprint] != "done"]

    def say(lines: str) -> None:  # of the data: once a command, of a sweep's jobs once a process
        if lines not in said:
            console.print(lines)
            said.add(lines)

    if not options.brief:
        said.clear()
    if to_train and not config["dry_run"] and (problem := problem_with_writing(runs_dir)):
        raise ConfigError([problem])
    if idle := idle_keys(config, commands, plans):
        say(f"NOTE: {', '.join(idle)}: nothing that stage={config['stage']['name']} trains here depends on it")
    if to_train and (problems := problems_before_training(commands, plans, to_train, say)):
        raise ConfigError(problems)
    say_plan(console, runs, states, runs_dir)
    if config["dry_run"]:
        return None

    if to_train:
        mark_version(runs_dir, console.print)
    try:
        results, lost = in_turn(runs, to_train, again, config, console, options)
    finally:
        if not options.brief and (upload := sync_command([folder_of(r, runs_dir) for r in to_train])):
            console.print(f"W&B runs are offline; to upload them: {upload}")
    if not to_train:
        console.print("Nothing to train: every stage was done before (fresh=true trains again).")
    whole = [i for i, runs in enumerate(plans) if all(run.fingerprint in results for run in runs)]
    if not whole:
        raise Diverged(lost[0])

    if "commands" in config["stage"]:  # of a sweep's job, the sweep's own table has a row for each
        diverged = f"{len(lost)} of {len(runs)} stages diverged or need one that did and are left out." if lost else ""
        commands, plans = [commands[i] for i in whole], [plans[i] for i in whole]
        chosen = None if options.brief else report(config, commands, plans, console, options.words, diverged)
        if lost:
            raise Diverged(f"{diverged} The first: {lost[0]}")
        return chosen
    last, result = named[-1], results[named[-1].fingerprint]
    if "score" in result:
        result["score"]["agreement"] = curriculum.agreements(folder_of(last, runs_dir), last.net_name)
    if not options.brief:
        console.print(summary(last, result, runs_dir, list(options.words)))
    elif last not in to_train:
        console.print(f"{last}: {one_line(result)}")
    return result["validation"].get("accuracy")


def in_turn(
    runs: list[Any], to_train: list[Any], again: set[str], config: Any, console: Any, options: Options
) -> tuple[dict[str, Any], list[str]]:
    """Train or read every run, parents first; the results by fingerprint, and why others are missing.

    Where a stage of a list diverges, what does not start from it goes on.
    """
    from fitnets.ending import Diverged
    from fitnets.report.terminal import one_line
    from fitnets.store import ensure

    results: dict[str, Any] = {}
    lost: dict[str, str] = {}
    for r in runs:
        number = to_train.index(r) + 1 if r in to_train else len(to_train)
        label = f"[{number}/{len(to_train)}] {r}"
        try:
            if missing := next((each for each in r.needed.values() if each.fingerprint in lost), None):
                raise Diverged(f"{r} is left out: {missing} diverged")
            train_here = trainer_for(config, label, console, options)
            result, new = ensure(r, Path(config["runs_dir"]), train_here, r.fingerprint in again, console.print)
        except Diverged as error:
            lost[r.fingerprint] = str(error)
            console.print(f"{label}: {error}")
            continue
        results[r.fingerprint] = result
        if new:
            console.print(f"{label}: {one_line(result)}")
    return results, list(lost.values())


def problems_before_training(
    commands: list[Any], plans: list[list[Any]], to_train: list[Any], say: Callable[[str], None]
) -> list[str]:
    """What data, networks, layers and devices have against what is to be trained, each command by its own config."""
    from fitnets.store import with_parents
    from fitnets.training.preflight import problems_with

    missing, found = {run.fingerprint for run in to_train}, []
    for command, named in zip(commands, plans, strict=True):
        runs = [run for run in with_parents(named) if run.fingerprint in missing]
        missing -= {run.fingerprint for run in runs}
        found += problems_with(command.config, runs, say) if runs else []
    return list(dict.fromkeys(found))


def report(
    config: Any, commands: list[Any], plans: list[list[Any]], console: Any, words: Sequence[str], more: str = ""
) -> float | None:
    """The table, the plot and the page of a list of commands; the validation accuracy of the chosen row."""
    from fitnets.report.table import Entry, Report, write
    from fitnets.store import folder_of

    runs_dir, stage = Path(config["runs_dir"]), config["stage"]
    last = [[run for run in runs if run.tested][-1] for runs in plans]
    entries = [
        Entry(command.at, folder_of(run, runs_dir), command.name) for command, run in zip(commands, last, strict=True)
    ]
    key = hashlib.sha256("".join(sorted(run.fingerprint for run in last)).encode()).hexdigest()[:10]
    name = f"{stage['name']}-{config['student']['name']}-{config['dataset']['name']}-{key}"
    labels = "" if config["dataset"]["labels"] == "all" else f", {config['dataset']['labels']} labels"
    nets = f"{config['student']['name']} from {config['teacher']['name']} on {config['dataset']['name']}"
    rows = write(
        Report(
            folder=runs_dir / "reports" / name,
            title="" if stage["fixed"] else f"{stage['title']}, {nets}{labels}",
            command=shlex.join(["python", "run.py", *words]),
            entries=entries,
            more=more,
            fixed=stage["fixed"],
            ranked=not stage["fixed"],
        ),
        console,
    )
    if stage["fixed"]:  # nothing was chosen
        return None
    return next((row.validation_accuracy for row in rows if row.chosen), None)


def trainer_for(config: Any, label: str, console: Any, options: Options) -> Any:
    """A function that trains one run; torch and Lightning are imported when it is called."""
    command = shlex.join(["python", "run.py", *options.words])
    trainer = {"command": command} | config["trainer"]  # kept in every run's config.yaml; decides nothing

    def train_here(run: Any, folder: Path, parents: dict[str, Path]) -> None:
        import torch

        from fitnets.tracking.loggers import started
        from fitnets.training.engine import train
        from fitnets.training.processes import Training, train_on_ranks
        from fitnets.training.progress import StageProgress

        loggers = config["logger"] if run.trains != "score" else {}  # a score has no epochs to log
        if trainer["devices"] > 1 and run.trains != "score":
            train_on_ranks(Training(run, folder, parents, trainer, label, loggers))
            return
        if trainer["threads"]:
            torch.set_num_threads(trainer["threads"])
        with started(run, folder, parents, loggers, console.print) as active:
            callbacks = [StageProgress(console, label), *options.callbacks(run)]
            train(run, folder, parents, trainer, callbacks, loggers=active)

    return train_here


def start() -> int:
    """The command line: exit code 0, 1 where a training or a job of a sweep has failed, 2 where the config is wrong."""
    from fitnets.commands import exit_code, typed_again

    return exit_code(composed_and_run, typed_again("run.py"))


def composed_and_run() -> int:
    from fitnets.config.composing import one_line_errors

    code = 0
    try:
        with one_line_errors(sys.argv[1:]):
            main()
    except Exception as error:
        refused.append(error)
    if folder := getattr(sys.modules.get("fitnets.sweep"), "launched", None):  # its table comes whatever has failed
        from fitnets.report.sweep import finish

        code = finish(folder)
    if refused:
        raise refused[0]
    return code


if __name__ == "__main__":
    from fitnets.surroundings import as_utf8, lasting, without_odd_ranks

    as_utf8()
    lasting()
    without_odd_ranks()
    sys.exit(start())
