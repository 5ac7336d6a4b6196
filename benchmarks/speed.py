"""What a step costs: this framework beside plain loops and beside peers, as ratios (small is good).

python benchmarks/speed.py --json FILE            everything, at 1 and 2 threads (about 10 minutes on 2 cores)
python benchmarks/speed.py --only steps --threads 1

Whatever is compared takes turns (`turns.py`), by the step where steps are long, and medians are taken. Trainings go
through `fitnets.training.engine.train`, which is what `python run.py` calls, with the progress display and the recorder
(`trainings.py`). Images are random: speed does not see them. `make peers` installs the peers in an environment of their
own; one that is missing has no ratio.
"""

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as run.py has it
import torch
from rich.console import Console
from rich.table import Table

from fitnets.commands import composed
from fitnets.curriculum.pool import GrowingPool
from fitnets.plan import plan
from fitnets.store import folder_of, with_parents
from fitnets.training.engine import train
from fitnets.training.provenance import hardware, versions
from growth import growth
from trainings import BATCH, NOISE, Bench, Waiting, guided_alone, kd_loop
from turns import ROOT, Job, in_turns, ms, quiet

PEERS = ROOT / ".venv-peers" / "bin" / "python"
EPOCHS = 5  # of STEPS each
WHOLE_EPOCHS = 7  # of STEPS each, where whole epochs are compared
SHORT_EPOCHS = 10  # where steps take milliseconds
STEPS = 4  # an epoch of the 32x32 pairs
PAIRS = {
    "resnet56-resnet20": ["teacher=resnet56", "student=resnet20", "hint=middle"],  # middle: layer2 in both
    "maxout_cifar-fitnet1": ["teacher=maxout_cifar", "student=fitnet1", "hint=middle"],
}
ROUNDS = 1  # of whole commands
TURN = 3  # epochs, there
SHORT_ROUNDS = 3  # of processes, where steps take milliseconds: how memory happens to lie is 2 % of such a step
SHORTER = ["epochs.teacher=6", "epochs.hint=6", "epochs.kd=16"]  # than the config's own; a sweep's own cost is fixed
TEMPERATURES = (1, 2, 4, 8, 16)
MUST = {  # the largest that each ratio may be
    **dict.fromkeys(("kd_over_backprop", "hint_over_guided"), 1.08),
    **dict.fromkeys(("framework_over_loop", "sweep_over_parts"), 1.05),
    **dict.fromkeys(("kd_over_torchdistill", "hint_over_torchdistill"), 0.5),
    "loader_share": 0.03,
    "curriculum_over_plain": 1.02,
}
MEASURED = ("steps", "epochs", "curriculum", "sweep", "cli", "growth")


@dataclass
class Session:
    """Where trainings lie, with how many threads they run, and what was found."""

    folder: Path
    threads: int = 1
    ratios: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        ratios = {name: round(value, 4) for name, value in self.ratios.items()}
        file.write_text(json.dumps({"ratios": ratios, "details": self.details}, indent=2) + "\n")

    def show(self) -> None:
        table = Table("ratio", "measured", "at most", "")
        for name, value in self.ratios.items():
            must = MUST[name.partition("/")[0]]
            table.add_row(name, f"{value:.3f}", f"{must}", "" if value <= must else "over")
        Console(width=100).print(table)
        print(json.dumps(self.details, indent=1))


def on_noise(pair: str) -> list[str]:
    """The words for a pair of networks on random images."""
    return [*NOISE, f"+dataset.train={STEPS * BATCH}", *PAIRS[pair], f"batch_size={BATCH}"]


def steps(session: Session, pair: str) -> None:
    """KD over backprop, hint over its guided half alone, both over the peer's, and time waiting for data."""
    bench = Bench(session.folder / pair, on_noise(pair), EPOCHS)
    filled = (bench.folder / ".answers").exists()  # at another number of threads
    jobs: dict[str, Job] = {stage: partial(bench.timed, stage) for stage in ("backprop", "hint")}
    jobs["kd"] = partial(bench.timed, "kd", how=Waiting)
    jobs["guided_alone"] = partial(guided_alone, bench, EPOCHS)
    if PEERS.exists():
        nets = json.dumps({role: bench.config[role]["net"] for role in ("teacher", "student")})
        for stage in ("hint", "kd"):
            script = [str(PEERS), str(ROOT / "benchmarks" / "peers.py"), stage, nets]
            jobs[f"torchdistill_{stage}"] = [*script, str(session.threads)]
    else:
        print("torchdistill is not installed: no ratio over it (`make peers` installs it)")
    turns = in_turns(jobs, session.threads)
    times = {name: of.steps for name, of in turns.items()}
    name = f"{pair}/{session.threads}t"
    detail = {f"{what}_ms": ms(seconds) for what, seconds in times.items()} | {"steps": len(times["kd"])}
    ratios = {"kd_over_backprop": ("kd", "backprop"), "hint_over_guided": ("hint", "guided_alone")}
    ratios |= {f"{stage}_over_torchdistill": (stage, f"torchdistill_{stage}") for stage in ("hint", "kd")}
    found = {ratio: median(times[a]) / median(times[b]) for ratio, (a, b) in ratios.items() if b in times}
    found["loader_share"] = median(turns["kd"].waits) / median(times["kd"])
    session.ratios |= {f"{ratio}/{name}": value for ratio, value in found.items()}
    detail["wait_ms"] = ms(turns["kd"].waits)
    if not filled:
        detail |= with_filling(bench.folder / ".answers", detail, found)
    session.details.setdefault("steps", {})[name] = detail


def with_filling(store: Path, detail: dict[str, Any], ratios: dict[str, float], epochs: int = 30) -> dict[str, float]:
    """The ratios of a whole training of `epochs`, the time in which the teacher answered each sample included."""
    found = {}
    for file in store.glob("*.json"):
        about = json.loads(file.read_text(encoding="utf-8"))
        a_batch = 1000 * about["seconds"] / about["shape"][0] * 2 * BATCH / epochs  # two variants: flips
        ratio, plain = ("hint_over_guided", "guided_alone") if about["layer"] else ("kd_over_backprop", "backprop")
        stage = ratio.partition("_")[0]
        found[f"{stage}_fill_ms_a_step_over_{epochs}_epochs"] = round(a_batch, 3)
        found[f"{stage}_ratio_with_filling"] = round(ratios[ratio] + a_batch / detail[f"{plain}_ms"], 3)
    return found


def epochs(session: Session, name: str, words: Sequence[str], short: bool) -> None:
    """A KD epoch through the framework, validation and callbacks included, over a loop written by hand.

    The framework also keeps an update's memory (fitnets/training/memory.py): where steps are `short`, a loop that does
    so too is in `details`.
    """
    count = SHORT_EPOCHS if short else WHOLE_EPOCHS
    bench = Bench(session.folder / name, words, count)
    jobs: dict[str, Job] = {"framework": partial(bench.timed, "kd"), "loop": partial(kd_loop, bench, count, False)}
    if short:
        jobs["loop_keeping_memory"] = partial(kd_loop, bench, count, True)
    times = in_turns(jobs, session.threads, turn=TURN, rounds=SHORT_ROUNDS if short else 1)
    epoch = {which: of.epoch for which, of in times.items()}
    name = f"{name}/{session.threads}t"
    session.ratios[f"framework_over_loop/{name}"] = epoch["framework"] / epoch["loop"]
    detail = {f"{which}_epoch_ms": ms([seconds]) for which, seconds in epoch.items()}
    detail |= {f"{which}_step_ms": ms(of.steps) for which, of in times.items()} | {"steps": len(times["loop"].steps)}
    if short:
        detail["over_loop_keeping_memory"] = round(epoch["framework"] / epoch["loop_keeping_memory"], 4)
    session.details.setdefault("epochs", {})[name] = detail


def curriculum(session: Session) -> None:
    """A KD epoch on digits with a growing pool over one with plain shuffles; and what a pool of 50,000 samples costs.

    The whole epoch, as batches are drawn some at a time and figures come at its end. At the first number of threads:
    ordering samples uses one. `plain_again_over_plain` in `details` says how far two equal trainings are apart.
    """
    ordered = ["curriculum=easy_to_hard", "curriculum.pacing.full_at=1"]
    words: dict[str, list[str]] = {"plain": [], "curriculum": ordered, "plain_again": [], "waiting": []}
    benches = {name: Bench(session.folder / name, of, SHORT_EPOCHS) for name, of in words.items()}
    jobs: dict[str, Job] = {name: partial(bench.timed, "kd") for name, bench in benches.items()}
    jobs["waiting"] = partial(benches["waiting"].timed, "kd", how=Waiting)
    times = in_turns(jobs, session.threads, turn=TURN, rounds=SHORT_ROUNDS)
    plain, again, waits = times["plain"], times["plain_again"], times["waiting"].waits
    name = f"digits-thin_deep/{session.threads}t"
    over = times["curriculum"].epoch / mean([plain.epoch, again.epoch])
    session.ratios[f"curriculum_over_plain/{name}"] = over
    session.ratios[f"loader_share/{name}"] = median(waits) / median(plain.steps)
    detail = {f"{name}_step_ms": ms(of.steps) for name, of in times.items()} | {"wait_ms": ms(waits)}
    detail["plain_again_over_plain"] = round(again.epoch / plain.epoch, 4)
    pool = GrowingPool(torch.randperm(50_000), BATCH, 1000, 0, lambda index, t: index, fraction=lambda t: t / 1000)
    started = time.perf_counter()
    for _ in pool:
        pass
    detail["a_batch_of_50000_samples_ms"] = round(1000 * (time.perf_counter() - started) / len(pool), 3)
    session.details.setdefault("curriculum", {})[f"{session.threads}t"] = detail


def sweep(session: Session, sizes: Sequence[str], threads: int = 1) -> None:
    """`run.py -m` over five temperatures, over one teacher, one hint and five KD trainings in one bare process."""
    words = [*sizes, "stage=fitnet", "trainer=cpu", f"trainer.threads={threads}"]
    swept, bare, folder = [], [], session.folder
    for number in range(ROUNDS):
        command = [sys.executable, "run.py", "-m", *words, f"temperature={','.join(map(str, TEMPERATURES))}"]
        swept.append(seconds_of([*command, f"runs_dir={folder}/swept{number}"], threads))
        given = json.dumps([*words, f"runs_dir={folder}/bare{number}"])
        bare.append(seconds_of([sys.executable, __file__, "--bare-sweep", given], threads))
    session.ratios["sweep_over_parts"] = median(swept) / median(bare)
    command = [sys.executable, "run.py", *words, f"temperature={TEMPERATURES[0]}", f"runs_dir={folder}/one"]
    by_jobs = {len(TEMPERATURES): median(swept), 1: seconds_of(command, threads)}
    found = {"sweep_seconds": swept, "parts_seconds": bare, "seconds_by_jobs": by_jobs, "config": words}
    session.details["sweep"] = found


def bare_sweep(words: list[str]) -> None:
    """The trainings of the sweep and nothing else: no store, no checks."""
    configs = [composed([*words, f"temperature={temperature}"]) for temperature in TEMPERATURES]
    folder, trainer = Path(configs[0]["runs_dir"]), configs[0]["trainer"]
    torch.set_num_threads(trainer["threads"])
    for run in with_parents(run for config in configs for run in plan(config)):
        parents = {role: folder_of(parent, folder) for role, parent in run.parents.items()}
        train(run, folder_of(run, folder), parents, trainer, [])


def seconds_of(command: Sequence[Any], threads: int) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, env=quiet(threads), stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - started, 2)


def cli(session: Session) -> None:
    """CPU seconds of the commands that only print."""
    for words in (["--help"], ["--cfg", "job"]):
        times = []
        for _ in range(ROUNDS):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds_of([sys.executable, "run.py", *words], 1)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        session.details.setdefault("cli_cpu_seconds", {})[" ".join(words)] = round(median(times), 2)


def measure(session: Session, name: str, given: argparse.Namespace) -> None:
    """One of MEASURED."""
    pair = next(iter(PAIRS))
    jobs: dict[str, list[Callable[[], None]]] = {
        "steps": [partial(steps, session, each) for each in PAIRS],
        "epochs": [
            partial(epochs, session, "digits-thin_deep", [], True),
            partial(epochs, session, pair, on_noise(pair), False),
        ],
        "curriculum": [partial(curriculum, session)],
        "sweep": [partial(sweep, session, [] if given.default_epochs else SHORTER)],
        "cli": [partial(cli, session)],
        "growth": [lambda: session.details.update(growth(session.folder))],
    }
    for job in jobs[name]:
        gc.collect()
        job()
        if given.json:  # what is measured is kept if a later one fails
            session.write(given.json)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", choices=MEASURED, nargs="+", default=MEASURED, help="what to measure (default: all)")
    more = "the sweep with the config's own (2 minutes more)"
    parser.add_argument("--default-epochs", action="store_true", help=more)
    parser.add_argument("--bare-sweep", type=json.loads, help=argparse.SUPPRESS)  # called by `sweep`
    given = parser.parse_args(arguments)
    if given.bare_sweep:
        bare_sweep(given.bare_sweep)
        return 0
    started = time.perf_counter()
    rounds = [(threads, ["steps", "epochs"]) for threads in given.threads]
    rounds[0][1].append("curriculum")
    rounds.append((given.threads[-1], ["sweep", "cli", "growth"]))  # threads are not theirs to choose
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder))
        session.details |= {"hardware": hardware(torch.device("cpu")), "versions": versions(), "threads": given.threads}
        for threads, names in rounds:
            session.threads = threads
            torch.set_num_threads(threads)
            for name in (name for name in names if name in given.only):
                print(f"{time.perf_counter() - started:4.0f} s  {name}, {threads} threads", flush=True)
                measure(session, name, given)
    session.details["seconds"] = round(time.perf_counter() - started)
    if given.json:
        session.write(given.json)
    session.show()
    return 0


if __name__ == "__main__":
    sys.exit(main())
