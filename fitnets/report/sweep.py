"""A sweep's jobs as they lie on disk, and its end: the report of all that they made, and what became of the others.

sweep.json says what was planned, NUMBER/job.json how each job ended.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitnets.tracking.wandb import sync_command

if TYPE_CHECKING:  # every command imports this file, through Hydra's callback: what draws is imported at a sweep's end
    from fitnets.report.table import Entry

SEEDS = ("seed", "teacher_seed", "split_seed")  # keys that a table averages over


def read_jobs(folder: Path) -> list[dict[str, Any]]:
    """What came of every job of a sweep, by number; one that never started or was killed is a failure."""
    never = {"status": "failed", "reason": "it was never started", "runs": []}
    planned = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))[
        "jobs"
    ]  # none where only the sweeper knows its jobs
    jobs = {number: {"number": number, "overrides": words} | never for number, words in enumerate(planned)}
    for path in folder.glob("*/job.json"):
        job = json.loads(path.read_text(encoding="utf-8"))
        if job["status"] == "running":
            job |= {"status": "failed", "reason": "it was stopped before it ended"}
        jobs[job["number"]] = job
    return [jobs[number] for number in sorted(jobs)]


def values_of(words: Sequence[str]) -> dict[str, str]:
    """What a job's words say, by key."""
    pairs = (word.partition("=") for word in words)
    return {key.lstrip("+"): value for key, _, value in pairs}


def meaning(word: str) -> str:
    """The same for words that mean the same value: 4.0, 4.00 and 4; [1, 2] and [1,2.0]; true and True."""
    return "".join(_canonical(part) for part in re.split(r"([\[\]{},:])", word))


def _canonical(part: str) -> str:
    part = part.strip()
    try:
        return repr(float(part))
    except ValueError:
        return part.lower() if part.lower() in ("true", "false", "null") else part.strip("'\"")


def swept(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The keys in which jobs differ, in the order in which they were typed."""
    return differing(values_of(words) for words in jobs)


def differing(settings: Iterable[Mapping[str, str]]) -> list[str]:
    values: dict[str, set[str]] = {}
    for each in settings:
        for key, value in each.items():
            values.setdefault(key, set()).add(value)
    return [key for key, found in values.items() if len(found) > 1]


def varied(jobs: Sequence[dict[str, Any]]) -> list[str]:
    """What tells the rows apart: the swept keys but seeds, and in what the commands of one job differ, as arms do."""
    keys = [key for key in swept([job["overrides"] for job in jobs]) if key not in SEEDS]
    for job in jobs:
        keys += [key for key in differing(run["at"] for run in job["runs"]) if key not in keys]
    return keys


def entries_of(jobs: Sequence[dict[str, Any]], keys: Sequence[str]) -> "list[Entry]":
    """The commands of these jobs as a table takes them; a dry run has none, a score nothing to choose by."""
    from fitnets.report.table import Entry

    entries: dict[tuple[str, ...], Entry] = {}
    first: dict[tuple[str, str], str] = {}  # how a value was typed first: 4.00 is 4.0
    for job in jobs:
        typed = {key: first.setdefault((key, meaning(word)), word) for key, word in values_of(job["overrides"]).items()}
        for run in job["runs"]:
            result = Path(run["folder"]) / "result.json"
            if result.exists() and "score" not in json.loads(result.read_text(encoding="utf-8")):
                at = {key: typed.get(key, run["at"].get(key, "")) for key in keys}
                entries.setdefault((*at.values(), run["folder"]), Entry(at, Path(run["folder"])))
    return list(entries.values())


def finish(sweep_folder: Path) -> int:
    """Report on a sweep when its jobs have ended, however they did; its exit code: 0, 1 (failed) or 2 (refused)."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    sweep, jobs = json.loads((sweep_folder / "sweep.json").read_text(encoding="utf-8")), read_jobs(sweep_folder)
    bad = [job for job in jobs if job["status"] != "done"]
    done = [job for job in jobs if job["status"] == "done"]
    entries = entries_of(done, varied(jobs)) if done else []
    console.print(f"\nSweep: {len(jobs) - len(bad)} of {len(jobs)} jobs done")
    if entries:
        from fitnets.report.table import Report, write

        folder = Path(sweep["runs_dir"]) / "reports" / f"sweep-{sweep['name']}"
        command = shlex.join(["python", "run.py", "-m", *sweep["words"]])
        failed = f"{len(bad)} of {len(jobs)} jobs failed and are not in it." if bad else ""
        write(Report(folder, command, entries, more=failed), console)
    trained = [name for job in jobs for run in job["runs"] for name in [*run["before"], run["folder"]]]
    if upload := sync_command([Path(name) for name in dict.fromkeys(trained)]):
        console.print(f"W&B runs are offline; to upload them: {upload}")
    names = swept([job["overrides"] for job in jobs])
    for job in bad:
        words = [f"{key}={value}" for key, value in values_of(job["overrides"]).items() if key in names]
        trace = f" (traceback: {job['traceback']})" if "traceback" in job else ""
        console.print(f"{job['status'].upper()} job {job['number'] + 1} {' '.join(words)}: {job['reason']}{trace}")
    if not bad:
        return 0
    console.print("The same command again runs what is missing; what is done is reused.")
    return 2 if all(job["status"] == "refused" for job in bad) else 1
