"""A sweep as files: each job says on disk what it named and how it ended, so no process needs another's memory.

runs_dir/.sweeps/NAME/sweep.json           the command and its jobs, written before the first one
runs_dir/.sweeps/NAME/NUMBER/job.json      written by the job: running, then done or failed, with its runs or its reason
runs_dir/.sweeps/NAME/NUMBER/traceback.txt of a job that failed

Beside run.py the only file that knows Hydra, which calls Announce in the launching process. Imports no torch.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from fitnets.commands import Command, loader
from fitnets.config import ConfigError
from fitnets.config.rules import problem_with_runs_dir
from fitnets.ending import StageError, Stopped, in_a_line
from fitnets.files import StorageError, as_json, folder_at, told, write
from fitnets.report.sweep import SEEDS, swept
from fitnets.store import Run, folder_of, with_parents

# As in run.py, here for the jobs in processes of their own, which import this file before they compose.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")

ONE_PROCESS = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
EXTRAS = {
    "hydra_joblib_launcher": "pip install hydra-joblib-launcher, or pip install 'fitnets[sweep]'",
    "hydra_submitit_launcher": "pip install hydra-submitit-launcher, or pip install 'fitnets[sweep]'",
    "hydra_ray_launcher": "pip install hydra-ray-launcher (about 400 MB)",
}
ONE_DEVICE = (
    "A sweep trains each job on one device, trainer.devices is {}: type trainer=auto (hydra/launcher=joblib runs jobs "
    "side by side and spreads them over the GPUs), or leave out -m."
)
launched: Path | None = None  # the folder of the sweep that this process has started
_held: FileLock | None = None


# ------------------------------------------------------------------------------- the launching process


class Announce(Callback):
    """Gives a sweep a folder of its own before its first job, named by what was typed; the same again is the same."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        try:
            self.begin(config)
        except StorageError as error:  # Hydra would turn any exception into a warning
            raise Stopped(str(error), 1) from error

    def begin(self, config: DictConfig) -> None:
        global launched, _held
        if problem := refusal(config):
            print(problem, file=sys.stderr)
            sys.exit(2)
        params = OmegaConf.select(config, "hydra.sweeper.params") or {}
        words = [*(f"{key}={value}" for key, value in params.items()), *config.hydra.overrides.task]
        jobs = expanded(words) if config.hydra.sweeper._target_.endswith(".BasicSweeper") else []
        keys = [key for key in swept(jobs) if key not in SEEDS]
        stage = [] if "stage" in keys else [config.stage.name]
        name = "-".join([*stage, *(re.sub(r"\W+", "_", key.rpartition(".")[2]) for key in keys)])
        name += "-" + hashlib.sha256(json.dumps(words).encode()).hexdigest()[:8]
        folder = Path(config.runs_dir) / ".sweeps" / name
        _held = FileLock(folder_at(folder) / ".lock", mode=0o666)
        with told(folder):
            try:
                _held.acquire(timeout=0)
            except Timeout:
                print(f"This sweep is running in another process (its jobs: {folder}).", file=sys.stderr)
                sys.exit(2)
        for old in folder.glob("*/job.json"):
            shutil.rmtree(old.parent)
        typed = list(config.hydra.overrides.task)
        record = {"name": name, "words": typed, "jobs": jobs, "runs_dir": str(config.runs_dir)}
        write(folder / "sweep.json", as_json(record))
        with read_write(config), open_dict(config):
            config.hydra.sweep.dir = str(folder)
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={json.dumps(str(folder), ensure_ascii=False)}")
        # jobs in processes of their own import what this one does: its fitnets, also where another is installed
        places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(place for place in places if place)
        launched = folder
        if jobs:
            print(f"Sweep: {len(jobs)} jobs over {', '.join(swept(jobs)) or 'nothing'}", flush=True)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Hydra keeps both configs of every job until the sweep ends, 0.4 MB a job, and reads none of them again."""
        job_return.cfg = job_return.hydra_cfg = None


def refusal(config: Any) -> str | None:
    """Why this sweep cannot start, and what to type; None if it can."""
    devices = OmegaConf.select(config, "trainer.devices")
    if isinstance(devices, int) and devices > 1:
        return ONE_DEVICE.format(devices)
    if problem := problem_with_runs_dir(str(OmegaConf.select(config, "runs_dir"))):
        return problem
    if OmegaConf.select(config, "hydra.job.chdir"):
        return "hydra.job.chdir=true gives each job a folder of its own, and jobs share theirs: leave it out."
    for part in ("sweeper", "launcher"):
        target = str(OmegaConf.select(config, f"hydra.{part}._target_") or "hydra._internal.")
        if not target.startswith(("hydra_plugins.", "hydra._internal.")):
            return f"hydra.{part}._target_ is {target}, which is no plugin of Hydra: leave it out."
    plugin = target.split(".")[1] if target.startswith("hydra_plugins.") else None
    there = importlib.util.find_spec("hydra_plugins") and importlib.util.find_spec(f"hydra_plugins.{plugin}")
    if plugin and not there:
        return f"This launcher needs a package that is not installed ({plugin}): {EXTRAS.get(plugin, 'install it')}."
    return None


def expanded(words: list[str]) -> list[list[str]]:
    """The jobs of a sweep, each as the words of its command, in the order in which Hydra numbers them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create(config_loader=loader())
    return BasicSweeper.split_arguments(parser.parse_overrides(words), None)[0]


# --------------------------------------------------------------------------------------------- a job


class Job:
    """One job of a sweep: its folder and what job.json says of it."""

    def __init__(self, folder: Path, number: int, overrides: list[str]):
        self.folder = folder
        self.record: dict[str, Any] = {"number": number, "overrides": overrides, "status": "running", "runs": []}

    def name_runs(self, commands: Sequence[Command], plans: Sequence[Sequence[Run]], runs_dir: Path) -> None:
        """Note the last run of each command of the job, when they are planned."""
        pairs = zip(commands, plans, strict=True)
        self.record["runs"] = [described(command, runs[-1], runs_dir) for command, runs in pairs]
        self.write(status="running")

    def write(self, **changed: Any) -> None:
        self.record |= changed
        write(folder_at(self.folder) / "job.json", as_json(self.record))


def described(command: Command, run: Run, runs_dir: Path) -> dict[str, Any]:
    """What a sweep's table needs to know of a command: what tells it from others, its last run and those before."""
    *before, last = [str(folder_of(each, runs_dir)) for each in with_parents([run])]
    return {"at": command.at, "folder": last, "before": before}


@contextmanager
def as_job(folder: Path, number: int, overrides: list[str]) -> Iterator[Job]:
    """Run a job's work inside: however it ends is written down, and the sweep goes on with its other jobs."""
    plan = json.loads((folder.parent / "sweep.json").read_text()) if (folder.parent / "sweep.json").exists() else {}
    jobs = plan.get("jobs") or []
    keys = swept(jobs)
    told = " ".join(word for word in overrides if word.partition("=")[0].lstrip("+") in keys)
    label = f"job {number + 1}" + (f" of {len(jobs)}" if jobs else "") + (f": {told}" if told else "")
    print(f"\n--- {label}", flush=True)
    job = Job(folder, number, overrides)
    job.write()
    try:
        yield job
    except ConfigError as error:
        print(error, file=sys.stderr)
        job.write(status="refused", reason="; ".join(error.problems))
    except StageError as error:
        job.write(status="failed", reason=str(error))
        print(f"{label} failed: {error}", file=sys.stderr)
    except StorageError as error:  # it would be the same for the next job
        with suppress(StorageError):
            job.write(status="failed", reason=str(error))
        raise Stopped(str(error), 1) from error
    except Exception as error:
        where = folder / "traceback.txt"
        where.write_text(traceback.format_exc())
        job.write(status="failed", reason=in_a_line(error), traceback=str(where))
        print(f"{label} failed: {job.record['reason']} (traceback: {where})", file=sys.stderr)
    else:
        job.write(status="done")


def with_share(config: Any, launcher: Mapping[str, Any], number: int) -> Any:
    """The config of a sweep's job, with its share of the machine where jobs run side by side."""
    trainer = config["trainer"]
    if trainer["devices"] != 1:  # where the trainer itself is swept over
        raise ConfigError([ONE_DEVICE.format(trainer["devices"])])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = shares(launcher, number, cores)
    return config.changed({f"trainer.{key}": share[key] for key in share if trainer[key] is None})


def shares(launcher: Mapping[str, Any], number: int, cores: int) -> dict[str, int | None]:
    """What a job takes of a machine that jobs share: torch's threads (None: all), and its turn on the GPUs.

    Only jobs that run side by side share. Two trainings with all threads each on two cores take 5 times as long as
    with one each, so joblib's jobs get cores // n_jobs. A cluster gives each job its own cores and shows it its own
    GPUs, of which there is one then, whatever the turn.
    """
    if launcher["_target_"] == ONE_PROCESS:
        return {"threads": None, "gpu": 0}
    n_jobs, threads = launcher.get("n_jobs"), launcher.get("cpus_per_task")
    if "ray" in launcher:
        threads = max(1, int(launcher["ray"]["remote"]["num_cpus"]))
    if n_jobs is not None:
        threads = max(1, cores // (n_jobs if n_jobs > 0 else cores))
    return {"threads": threads, "gpu": number}
