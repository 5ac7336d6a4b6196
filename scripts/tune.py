"""Tune keys of the config with Optuna, on validation. Stopped and started again, the same command goes on.

python scripts/tune.py "optimizer.lr=log(1e-4,1e-2)" "temperature=uniform(1,10)" "hint=choice(early,middle,late)" \\
    --trials 20 -- stage=fitnet dataset.labels=50
python scripts/tune.py "epochs.hint=int(5,25)" --trials 10 --no-pruning -- stage=fitnet runs_dir=elsewhere

What may be varied: uniform(LOW,HIGH), log(LOW,HIGH), int(LOW,HIGH), choice(A,B,...). What follows `--` is typed as
after `python run.py`. Stages that trials share are trained once. Trials lie in RUNS_DIR/tune/NAME.sqlite, the table in
RUNS_DIR/reports/tune-NAME/. The test part is shown for the chosen trial only. Needs: pip install 'fitnets[tune]'.
"""

import argparse
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import run as door  # noqa: E402
from fitnets.commands import Config, checked, exit_code, typed_again  # noqa: E402
from fitnets.config import ConfigError  # noqa: E402
from fitnets.ending import Diverged  # noqa: E402
from fitnets.files import StorageError, folder_at  # noqa: E402
from fitnets.report.rows import CRITERIA, Criterion  # noqa: E402
from fitnets.store import Run, folder_of, read_result  # noqa: E402

KINDS = {"uniform": 2, "log": 2, "int": 2, "choice": None}  # kind -> how many values it takes
Space = dict[str, tuple[str, list[str]]]


def parse_space(words: list[str]) -> Space:
    """{"optimizer.lr": ("log", ["1e-4", "1e-2"])} from what was typed; ConfigError with every problem."""
    space: Space = {}
    problems = []
    for word in words:
        found = re.fullmatch(r"([\w./@+]+)=(\w+)\((.+)\)", word)
        key, kind, inside = found.groups() if found else ("", "", "")
        values = split_outside_brackets(inside)
        example = 'type "optimizer.lr=log(1e-4,1e-2)", "KEY=uniform(1,10)", "KEY=int(5,25)" or "KEY=choice(a,b)"'
        if kind not in KINDS:
            problems.append(f"{word!r} is nothing to vary: {example}")
        elif kind != "choice":
            try:
                numbers = [int(value) if kind == "int" else float(value) for value in values]
                if len(numbers) != KINDS[kind] or numbers[0] >= numbers[1] or (kind == "log" and numbers[0] <= 0):
                    raise ValueError
            except ValueError:
                more = ", both above 0" if kind == "log" else ", both whole" if kind == "int" else ""
                problems.append(f"{word!r} needs two numbers, the smaller one first{more}: {example}")
        if key in space:
            problems.append(f"{key} is given twice")
        space[key] = (kind, values)
    if problems:
        raise ConfigError(problems)
    return space


def split_outside_brackets(text: str) -> list[str]:
    """The values between commas; a list is one value."""
    values, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth:
            values.append("")
        else:
            values[-1] += letter
    return [value.strip() for value in values]


def suggested(trial: Any, space: Space) -> list[str]:
    """The trial's values, as words of a command."""
    words = []
    for key, (kind, values) in space.items():
        if kind == "choice":
            value = trial.suggest_categorical(key, values)
        elif kind == "int":
            value = trial.suggest_int(key, *map(int, values))
        else:
            value = trial.suggest_float(key, *map(float, values), log=kind == "log")
        words.append(f"{key}={value}")
    return words


def criterion(figures: Collection[str]) -> Criterion:
    """What a training is judged by: the first of what tables choose by that it has."""
    found = next((by for by in CRITERIA if by.name in figures), None)
    if found is None:
        raise ValueError(f"it has no validation figure to tune by ({', '.join(by.name for by in CRITERIA)})")
    return found


def pruner(trial: Any) -> Any:
    """A callback that tells the trial its validation figure every epoch, and stops a hopeless one."""
    import optuna
    from pytorch_lightning import Callback

    class Prune(Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            metrics = trainer.callback_metrics
            by = criterion([name.removeprefix("val/") for name in metrics])
            trial.report(by.sign * float(metrics[f"val/{by.name}"]), trainer.current_epoch + 1)
            if trial.should_prune():
                raise optuna.TrialPruned(f"hopeless after epoch {trainer.current_epoch + 1}")

    return Prune()


def attempt(trial: Any, config: Config, words: list[str], prune: bool) -> float:
    """Train one trial; its validation figure, larger is better. What it trained is noted with the trial."""

    planned: list[Run] = []

    def on_plan(commands: list[Any], plans: list[list[Run]], runs_dir: Path) -> None:
        planned[:] = plans[-1]
        trial.set_user_attr("folder", str(folder_of(planned[-1], runs_dir)))

    def callbacks(run: Run) -> list[Any]:  # with retrain_on_all, validation is in the training that found the epochs
        judged = planned[-1].parents.get("searched", planned[-1])
        return [pruner(trial)] if prune and run.fingerprint == judged.fingerprint else []

    door.run(config, door.Options(words, on_plan=on_plan, callbacks=callbacks, brief=True))
    result = read_result(planned[-1], Path(config["runs_dir"]))
    assert result is not None
    by = criterion(result["validation"])
    if (others := trial.study.user_attrs.get("figure", by.name)) != by.name:
        raise ValueError(f"it has validation {by.name}, trials before it {others}: they cannot be compared")
    trial.study.set_user_attr("figure", by.name)
    print(f"{by.title} {by.scale * result['validation'][by.name]:.{by.digits}f}")
    return by.sign * result["validation"][by.name]


def tune(space: Space, overrides: list[str], trials: int, seed: int, prune: bool) -> int:
    """Ask and tell until there are `trials`; exit code 1 where one failed."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config = checked(overrides)
    if {"commands", "runs"} & set(config["stage"]) or config["dry_run"] or config["trainer"]["devices"] > 1:
        raise ConfigError(["a trial trains one student on one device: type stage=fitnet (or kd, backprop, hint, ...) "
                           "and neither dry_run nor trainer=ddp"])  # fmt: skip
    key = hashlib.sha256(json.dumps([sorted(space.items()), overrides]).encode()).hexdigest()[:8]
    name = "-".join([config["stage"]["name"], *(re.sub(r"\W+", "_", k.rpartition(".")[2]) for k in space), key])
    file = Path(config["runs_dir"]) / "tune" / f"{name}.sqlite"
    study = opened(file, seed, config["epochs"]["kd"] // 5)
    print(f"Study {name}: {finished(study)} of {trials} trials done ({file})")
    failed = 0
    while finished(study) < trials:
        trial = study.ask()
        words = [*overrides, *suggested(trial, space)]
        print(f"\n--- trial {finished(study) + 1} of {trials}: {' '.join(words[len(overrides) :])}")
        try:
            value = attempt(trial, checked(words), words, prune)
        except StorageError:  # it would be the same for the next one; this one is tried again
            raise
        except Diverged as error:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            print(error)
        except optuna.TrialPruned as stopped:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            print(f"pruned: {stopped}")
        except Exception as error:  # told at the end too; the other trials go on
            trial.set_user_attr("reason", f"{type(error).__name__}: {error}")
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            print(trial.user_attrs["reason"])
            failed += 1
        else:
            study.tell(trial, value)
    show(study, space, overrides, Path(config["runs_dir"]) / "reports" / f"tune-{name}", file)
    return 1 if failed else 0


def opened(file: Path, seed: int, warmup: int) -> Any:
    """The study in this file, a new one where there is none. No trial is pruned in its first `warmup` epochs."""
    import optuna

    folder_at(file.parent)
    storage = f"sqlite:///{file}"
    study = optuna.create_study(storage=storage, study_name=file.stem, direction="maximize", load_if_exists=True)
    done = study.get_trials(deepcopy=False)
    # a sampler starts its random numbers anew: the seed goes on with the trials, so that none is drawn twice
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(done))
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warmup)
    for old in done:
        if old.state == optuna.trial.TrialState.RUNNING:  # it was killed; its half-finished stage resumes
            study.tell(old.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(old.params)
    return study


def finished(study: Any) -> int:
    """Trials that ended: complete, pruned, or failed for a reason of their own (not killed)."""
    trials = study.get_trials(deepcopy=False)
    return sum(t.state.name in ("COMPLETE", "PRUNED") or "reason" in t.user_attrs for t in trials)


def show(study: Any, space: Space, overrides: list[str], folder: Path, file: Path) -> None:
    """The ranked table, the chosen trial's test figures, and the command that trains it."""
    from rich.console import Console

    from fitnets.report.table import Entry, Report, rows_of, title_of_values, write

    console = Console(highlight=False, soft_wrap=True, markup=False)
    trials = study.get_trials(deepcopy=False)
    whole = [trial for trial in trials if trial.state.name == "COMPLETE"]
    tried = {key: texts_of([trial.params[key] for trial in whole]) for key in space}
    entries = [
        Entry({key: texts[i] for key, texts in tried.items()}, Path(trial.user_attrs["folder"]))
        for i, trial in enumerate(whole)
    ]
    if entries:
        pruned = sum(trial.state.name == "PRUNED" for trial in trials)
        command = shlex.join(["python", "scripts/tune.py", *map(typed, space.items()), "--", *overrides])
        title = f"tuned {title_of_values(rows_of(entries), list(space))}"
        more = f"{len(whole)} trials, one seed each; {pruned} more were pruned."
        write(Report(folder, command, entries, title, ranked=True, grid=False, more=more), console)
        best = [f"{key}={value}" for key, value in study.best_params.items()]
        console.print(f"Trials: {file}\nThe best again: {shlex.join(['python', 'run.py', *overrides, *best])}")
    for trial in trials:
        if "reason" in trial.user_attrs:
            console.print(f"FAILED trial {trial.number + 1} {trial.params}: {trial.user_attrs['reason']}")


def texts_of(values: list[Any]) -> list[str]:
    """As short as they can be told apart: two values that look alike would be taken for two seeds of one."""
    for digits in range(4, 18):
        texts = [f"{value:.{digits}g}" if isinstance(value, float) else str(value) for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts


def typed(item: tuple[str, tuple[str, list[str]]]) -> str:
    key, (kind, values) = item
    return f"{key}={kind}({','.join(values)})"


def main() -> int:
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", nargs="+", metavar="KEY=KIND(...)")
    parser.add_argument("--trials", type=int, default=20, help="in all, those of earlier calls too (20)")
    parser.add_argument("--sampler-seed", type=int, default=0, help="of the values that are tried (0)")
    parser.add_argument("--no-pruning", action="store_true", help="train every trial to its end")
    given = parser.parse_args(words[:at])
    try:
        import optuna  # noqa: F401
    except ImportError:
        print("scripts/tune.py needs Optuna: type pip install 'fitnets[tune]'", file=sys.stderr)
        return 2
    try:
        space, overrides = parse_space(given.space), words[at + 1 :]
        first = [f"{key}={values[0]}" for key, (_, values) in space.items()]
        checked([*overrides, *first])  # a misspelt key, before any trial
        return tune(space, overrides, given.trials, given.sampler_seed, not given.no_pruning)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(exit_code(main, typed_again("scripts/tune.py")))
