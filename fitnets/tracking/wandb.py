"""A W&B run of one trained stage, online where there is a key and a network, offline elsewhere; it never asks."""

import math
import netrc
import os
import secrets
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fitnets.store import Run

INIT_SECONDS, FINISH_SECONDS = 8.0, 15.0  # that a dead network may cost

# An agent of W&B's or a launcher has set them for one run; a command's stages are several, and go on where they were.
OUTSIDE = ("WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SWEEP_ID", "WANDB_RESUME_FROM", "WANDB_FORK_FROM")

_offline_because = ""  # found once a process: what the network lacked for one stage it lacks for the next


class WandbRun:
    """A W&B run of one stage.

    Its id is the start of the fingerprint and a token that is written into the run's folder at the first start: a
    resumed stage goes on in the same W&B run, and two machines that train the same stage have two. W&B's step is the
    epoch. Where the server cannot be had, the run is kept offline in the run's folder.
    """

    def __init__(
        self, run: Run, folder: Path, parents: Mapping[str, Path], options: Mapping[str, Any], say: Callable[[str], Any]
    ):
        # W&B reports its own errors to a server; with a dead one that costs up to 20 s when the process ends.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        for name in OUTSIDE:
            if os.environ.pop(name, None):
                say(f"W&B: {name} names one run for all, and is left aside: every stage has its own")
        folder.mkdir(parents=True, exist_ok=True)
        self.say = say
        about = {"job_type": run.stage, "name": run.name, "config": flat_config(run, parents)}
        about |= {key: options[key] for key in ("project", "entity", "group")}
        tags = [run.stage, run.arm.name, run.spec["dataset"]["name"], run.net_name, *options["tags"]]
        about["tags"] = list(dict.fromkeys(tags))
        self.run = self.begun(run, folder, about)
        self.run.define_metric("epoch")
        self.run.define_metric("updates")
        self.run.define_metric("*", step_metric="epoch")
        self.last: dict[str, float] = {"epoch": 0, "updates": 0}

    def begun(self, run: Run, folder: Path, about: Mapping[str, Any]) -> Any:
        """The run as W&B starts it. Where the server gives none it is offline, as all are from then on."""
        import wandb

        base_url = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
        mode = mode_of(base_url, self.say)
        if mode == "online":
            before = set(folder.glob("wandb/run-*"))
            try:
                begun = begin(run, folder, about, mode)
            except Exception as error:
                wandb.teardown()  # the half-made run would block the next one
                for half_made in set(folder.glob("wandb/run-*")) - before:
                    shutil.rmtree(half_made)
                stay_offline(f"no run could be started at {base_url}: {' '.join(str(error).split())[:200]}", self.say)
                mode = "offline"
            else:
                self.say(f"W&B: {begun.url}")
                return begun
        try:
            return begin(run, folder, about, mode)
        except Exception:  # W&B's own process may still hold the id of a run that failed: take another
            (folder / "wandb_id").unlink(missing_ok=True)
            return begin(run, folder, about, mode)

    def row(self, row: Mapping[str, float]) -> None:
        self.last = {name: row[name] for name in ("epoch", "updates")}
        if row["epoch"] >= self.run.step:  # else it was logged before the interruption
            self.run.log(dict(row), step=int(row["epoch"]), commit=True)

    def end(self, figures: Mapping[str, float], result: Mapping[str, Any], media: Path) -> None:
        import wandb

        logged: dict[str, Any] = {name: value for name, value in figures.items() if math.isfinite(value)}
        for path in sorted(media.glob("*.png")):
            logged[f"media/{path.stem}"] = wandb.Image(str(path), caption=f"epoch {result['kept_epoch']}")
        if per_class := result["details"].get("per_class"):
            rows = list(zip(result["details"]["classes"], per_class, strict=True))
            logged["media/per_class"] = wandb.Table(columns=["class", "test accuracy"], data=rows)
        step = max(self.run.step, int(self.last["epoch"]) + 1)
        self.run.log(self.last | logged, step=step, commit=True)

    def close(self, exit_code: int) -> None:
        try:
            self.run.finish(exit_code=exit_code)
        except TimeoutError:
            path = self.run.settings.sync_dir
            self.say(f"W&B: not all could be sent in {FINISH_SECONDS:.0f} s; later: wandb sync {shlex.quote(path)}")


def begin(run: Run, folder: Path, about: Mapping[str, Any], mode: Any) -> Any:
    import wandb

    limits: Any = {"init_timeout": INIT_SECONDS, "finish_timeout": FINISH_SECONDS, "finish_timeout_raises": True}
    settings = wandb.Settings(silent=True, console="off", **limits)  # the terminal is ours
    kept: Any = {"id": wandb_id(run, folder), "dir": str(folder), "resume": "allow", "reinit": "finish_previous"}
    return wandb.init(mode=mode, settings=settings, **kept, **about)


def wandb_id(run: Run, folder: Path) -> str:
    """Letters, digits and a dash; written at the first start."""
    path = folder / "wandb_id"
    if not path.exists():
        path.write_text(f"{run.fingerprint[:10]}-{secrets.token_hex(4)}\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def mode_of(base_url: str, say: Callable[[str], None]) -> str:
    """As WANDB_MODE says; else online with a key, until a server was found not to answer."""
    asked = os.environ.get("WANDB_MODE")
    if asked in ("offline", "dryrun", "disabled"):
        return asked
    if not _offline_because and not has_key(base_url):
        stay_offline("there is no key (wandb login writes one)", say)
    return "offline" if _offline_because else "online"


def stay_offline(why: str, say: Callable[[str], None]) -> None:
    global _offline_because
    _offline_because = why
    say(f"W&B: {why}, so runs are kept offline; the command that uploads them is printed at the end")


def has_key(base_url: str) -> bool:
    """Whether W&B would find a key, without asking anybody: in the environment, its settings or ~/.netrc."""
    import wandb

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or wandb.setup().settings.api_key:
        return True
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return netrc.netrc(path).authenticators(urlsplit(base_url).netloc) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def flat_config(run: Run, parents: Mapping[str, Path]) -> dict[str, Any]:
    """What decided the run, flat, keys of groups joined by a slash; on top what runs are grouped by."""
    spec = dict(_flat(run.spec))
    before = run.parents.get("student", run)  # the step before, of the same student
    hint = run.spec.get("hint", before.spec.get("hint", {}))
    grouped = {
        "stage": run.stage,
        "arm": run.arm.name,
        "student": spec.get("student/name"),
        "teacher": run.parents.get("teacher", run).spec.get("teacher", {}).get("name"),
        "dataset": spec["dataset/name"],
        "labels": spec.get("labels", "all"),
        "seed": run.seed,
        "temperature": spec.get("kd_loss/temperature"),
        "lambda_start": spec.get("kd_loss/weights/soft/start"),
        "lambda_end": spec.get("kd_loss/weights/soft/end"),
        "hint_layer": hint.get("teacher_layer"),
        "guided_layer": hint.get("student_layer"),
        "curriculum": spec.get("curriculum/name"),
        "epochs": spec["epochs"],
        "fingerprint": run.fingerprint,
    }
    for role, parent in run.parents.items():
        grouped |= {f"parents/{role}/name": parent.name, f"parents/{role}/fingerprint": parent.fingerprint}
        if (parents[role] / "wandb_id").exists():
            grouped[f"parents/{role}/wandb_id"] = wandb_id(parent, parents[role])
    return spec | grouped


def _flat(group: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in group.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}/")
        else:
            yield f"{above}{key}", value


def sync_command(folders: list[Path]) -> str | None:
    """What uploads the offline W&B runs in these folders; None where there are none. A run's last part is whole."""
    offline = []
    for folder in folders:
        last = sorted((folder / "wandb").glob("offline-run-*"))[-1:]
        offline += [str(path) for path in last if not any(path.glob("*.wandb.synced"))]
    return shlex.join(["wandb", "sync", *offline]) if offline else None
