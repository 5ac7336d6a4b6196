"""A W&B run of one trained stage, online where there is a key and a network, offline elsewhere; it never asks."""

import math
import netrc
import os
import secrets
import shlex
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fitnets.runs import Run

PROBE_SECONDS, INIT_SECONDS, FINISH_SECONDS = 4.0, 8.0, 15.0  # that a dead network may cost

_offline_because = ""  # found once a process: what the network lacked for one stage it lacks for the next


class WandbRun:
    """A W&B run of one stage.

    Its id is the start of the fingerprint and a token that is written into the run's folder at the first start: a
    resumed stage goes on in the same W&B run, and two machines that train the same stage have two. W&B's step is the
    epoch. Where the server cannot be had, the run is kept offline in the run's folder.
    """

    def __init__(
        self,
        run: Run,
        folder: Path,
        parents: Mapping[str, Path],
        options: Mapping[str, Any],
        say: Callable[[str], None],
    ):
        # W&B reports its own errors to a server; with a dead one that costs up to 20 s when the process ends.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self.say = say
        base_url = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url

        tags = [*dict.fromkeys([run.stage, run.arm, run.spec["dataset"]["name"], run.net_name, *options["tags"]])]

        def begin(mode: str) -> Any:
            settings = wandb.Settings(
                silent=True,  # the terminal is ours
                console="off",
                init_timeout=INIT_SECONDS,
                finish_timeout=FINISH_SECONDS,
                finish_timeout_raises=True,
            )
            return wandb.init(
                project=options["project"],
                entity=options["entity"],
                group=options["group"],
                job_type=run.stage,
                name=run.name,
                tags=tags,
                id=wandb_id(run, folder),
                resume="allow",
                reinit="finish_previous",
                config=flat_config(run, parents),
                dir=str(folder),
                mode=mode,  # type: ignore[arg-type]
                settings=settings,
            )

        mode, parts = mode_of(base_url, say), set(folder.glob("wandb/run-*"))
        try:
            self.run = begin(mode)
        except Exception as error:
            if mode != "online":
                raise
            wandb.teardown()  # the half-made run would block the next one
            for half_made in set(folder.glob("wandb/run-*")) - parts:
                shutil.rmtree(half_made)
            stay_offline(f"no run could be started at {base_url}: {' '.join(str(error).split())[:200]}", say)
            mode = "offline"
            try:
                self.run = begin(mode)
            except Exception:  # W&B's own process may still hold the id of the run that failed: take another
                (folder / "wandb_id").unlink()
                self.run = begin(mode)
        if mode == "online" and self.run.url:
            say(f"W&B: {self.run.url}")
        self.run.define_metric("epoch")
        self.run.define_metric("updates")
        self.run.define_metric("*", step_metric="epoch")
        self.last: dict[str, float] = {"epoch": 0, "updates": 0}

    def row(self, row: Mapping[str, float]) -> None:
        self.last = {name: row[name] for name in ("epoch", "updates")}
        if row["epoch"] >= self.run.step:  # else it was told before the interruption
            self.run.log(dict(row), step=int(row["epoch"]), commit=True)

    def end(self, figures: Mapping[str, float], result: Mapping[str, Any], media: Path) -> None:
        import wandb

        shown: dict[str, Any] = {
            f"media/{path.stem}": wandb.Image(str(path), caption=f"epoch {result['kept_epoch']}")
            for path in sorted(media.glob("*.png"))
        }
        if per_class := result["details"].get("per_class"):
            rows = [[name, share] for name, share in zip(result["details"]["classes"], per_class, strict=True)]
            shown["media/per_class"] = wandb.Table(columns=["class", "test accuracy"], data=rows)
        finite = {name: value for name, value in figures.items() if math.isfinite(value)}
        step = max(self.run.step, int(self.last["epoch"]) + 1)
        self.run.log({**self.last, **finite, **shown}, step=step, commit=True)

    def close(self, exit_code: int) -> None:
        try:
            self.run.finish(exit_code=exit_code)
        except TimeoutError:
            path = self.run.settings.sync_dir
            self.say(f"W&B: not all could be sent in {FINISH_SECONDS:.0f} s; later: wandb sync {shlex.quote(path)}")


def wandb_id(run: Run, folder: Path) -> str:
    """Letters, digits and a dash; written at the first start."""
    path = folder / "wandb_id"
    if not path.exists():
        path.write_text(f"{run.fingerprint[:10]}-{secrets.token_hex(4)}\n")
    return path.read_text().strip()


def mode_of(base_url: str, say: Callable[[str], None]) -> str:
    """online, offline or disabled: as WANDB_MODE says; else online with a key and a server that answers."""
    asked = os.environ.get("WANDB_MODE", "")
    if asked in ("offline", "dryrun", "disabled"):
        return "disabled" if asked == "disabled" else "offline"
    if _offline_because:
        return "offline"
    if not has_key(base_url):
        stay_offline("there is no key (wandb login writes one)", say)
    elif not answers(base_url):
        stay_offline(f"{base_url} does not answer within {PROBE_SECONDS:.0f} s", say)
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


def answers(base_url: str) -> bool:
    """Whether a server that works answers there, through a proxy too, if one is set.

    Looking up a name knows no time limit, so it is done beside.
    """
    found: list[bool] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(base_url, timeout=PROBE_SECONDS).close()
            found.append(True)
        except urllib.error.HTTPError as error:
            if error.code < 500:  # an answer all the same
                found.append(True)
        except (OSError, ValueError):
            pass

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PROBE_SECONDS)
    return bool(found)


def flat_config(run: Run, parents: Mapping[str, Path]) -> dict[str, Any]:
    """What decided the run, flat, keys of groups joined by a slash; first what runs are grouped by."""
    spec = run.spec
    teacher = run if run.stage == "teacher" else run.parents.get("teacher")
    stage_of_hint = next((r for r in (run, run.parents.get("hint")) if r is not None and "hint" in r.spec), None)
    hint = stage_of_hint.spec["hint"] if stage_of_hint else {}
    schedule = spec.get("kd_loss", {}).get("lambda_schedule", {})
    grouped = {
        "stage": run.stage,
        "arm": run.arm,
        "student": spec["student"]["name"] if "student" in spec else None,
        "teacher": teacher.spec["teacher"]["name"] if teacher else None,
        "dataset": spec["dataset"]["name"],
        "labels": spec.get("labels", "all"),
        "seed": run.seed,
        "temperature": spec.get("temperature"),
        "lambda_start": schedule.get("start"),
        "lambda_end": schedule.get("end"),
        "hint_layer": hint.get("teacher_layer"),
        "guided_layer": hint.get("student_layer", spec.get("guided_layer")),
        "curriculum": spec.get("curriculum", {}).get("name"),
        "epochs": spec["epochs"],
        "fingerprint": run.fingerprint,
    }
    rest = dict(_flat({key: value for key, value in spec.items() if key not in grouped or isinstance(value, dict)}))
    for role, parent in run.parents.items():
        grouped |= {f"parents/{role}/name": parent.name, f"parents/{role}/fingerprint": parent.fingerprint}
        if (known := parents[role] / "wandb_id").exists():
            grouped[f"parents/{role}/wandb_id"] = known.read_text().strip()
    return grouped | rest


def _flat(group: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in group.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}/")
        else:
            yield f"{above}{key}", value


def sync_command(folders: list[Path]) -> str | None:
    """What uploads the offline W&B runs in these folders; None where there are none. A run's last part is whole."""
    parts = []
    for folder in folders:
        offline = sorted((folder / "wandb").glob("offline-run-*"))
        if offline and not any(offline[-1].glob("*.wandb.synced")):
            parts.append(str(offline[-1]))
    return shlex.join(["wandb", "sync", *parts]) if parts else None
