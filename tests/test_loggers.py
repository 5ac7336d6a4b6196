"""What reaches W&B and TensorBoard, read back from their own files; what no network and no key cost."""

import ast
import csv
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import wandb
from hydra.errors import HydraException

import run as door
from fitnets.config import check
from fitnets.plan import plan
from fitnets.store import Run, folder_of, read_result, with_parents
from fitnets.tracking import loggers
from fitnets.tracking import wandb as wandb_run
from fitnets.tracking.loggers import started
from fitnets.tracking.wandb import sync_command
from fitnets.training.engine import train
from tests.conftest import ROOT, SMALL, composed, go, one_in
from tests.offline_wandb import OfflineRun, runs_in
from tests.stopping import Stop, StopAt

WANDB = ["logger.wandb.group=mine", "logger.wandb.tags=[first]"]


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody is logged in, whatever machine this is."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "nothing"))
    monkeypatch.setattr(wandb_run, "_offline_because", "")


def by_stage(runs: list[OfflineRun]) -> dict[str, OfflineRun]:
    return {run.run.job_type: run for run in runs}


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv") as file:
        return list(csv.DictReader(file))


# -------------------------------------------------------------------------------- what reaches them


def test_stage_fitnet_from_nothing_gives_three_runs(logged) -> None:
    cfg, runs_dir = logged
    found = by_stage(runs_in(runs_dir))
    assert set(found) == {"teacher", "hint", "kd"} and len(runs_in(runs_dir)) == 3
    for run in with_parents(plan(cfg)):
        record, config = found[run.stage].run, found[run.stage].config
        assert (record.project, record.run_group, record.display_name) == ("fitnets", "mine", run.name)
        assert set(record.tags) == {run.stage, run.arm.name, "digits", run.net_name, "first"}
        assert record.run_id.startswith(run.fingerprint[:10] + "-")
        assert record.run_id == (folder_of(run, runs_dir) / "wandb_id").read_text().strip()
        assert found[run.stage].exit_code == 0
        assert (config["stage"], config["seed"], config["fingerprint"]) == (run.stage, run.seed, run.fingerprint)
        assert not any(isinstance(value, dict) for key, value in config.items() if key != "_wandb"), "it is flat"
        for role, parent in run.parents.items():
            assert config[f"parents/{role}/name"] == parent.name
            assert config[f"parents/{role}/fingerprint"] == parent.fingerprint
            assert config[f"parents/{role}/wandb_id"] == found[parent.stage].run.run_id
    grouped = {
        **{"student": "thin_deep", "teacher": "wide_shallow", "dataset": "digits", "labels": "all"},
        **{"temperature": 3.0, "lambda_start": 4.0, "hint_layer": "middle", "guided_layer": "middle", "epochs": 3},
    }
    assert {key: found["kd"].config[key] for key in grouped} == grouped
    assert found["kd"].config["recipe/batch_size"] == 64


FIGURES = {
    "teacher": ["train/loss", "train/lr", "val/accuracy", "val/nll", "val/ece", "val/brier", "val/worst_class_accuracy"]
    + [f"headline/test_{name}" for name in ("accuracy", "nll", "ece", "brier")],
    "hint": ["train/hint_loss", "val/hint_loss", "val/r2", "match/cka", "headline/val_hint_loss", "headline/val_r2"],
}
FIGURES["kd"] = [
    *FIGURES["teacher"],
    *(f"distill/{name}" for name in ("hard", "soft", "weighted_hard", "weighted_soft", "lambda", "temperature")),
    *(f"distill/gradient_share_{name}" for name in ("hard", "soft")),
    *("match/agreement", "match/kl", "match/cka", "headline/teacher_accuracy", "headline/gap_to_teacher"),
]
COSTS = ["params", "multiplications", "checkpoint_mb", "images_per_s", "seconds"] + [
    f"latency_ms_{p}_batch{size}" for p in ("p50", "p95") for size in (1, 128)
]
PICTURES = {
    "teacher": {"confusion", "reliability", "hardest"},
    "hint": {"hint_maps"},
    "kd": {"confusion", "reliability", "hardest", "disagreed"},
}


@pytest.mark.parametrize("stage", ["teacher", "hint", "kd"])
def test_every_figure_has_a_finite_value_and_every_picture_is_there(logged, stage: str) -> None:
    cfg, runs_dir = logged
    found = by_stage(runs_in(runs_dir))[stage]
    expected = FIGURES[stage] + [f"cost/{name}" for name in COSTS]
    expected += ["cost/compression", "cost/teacher_share"] if stage != "teacher" else []
    assert set(expected) <= found.finite()
    assert set(expected) <= set(found.summary), "bar plots and scatter plots read the summary"
    last = found.history[-1]
    for name in PICTURES[stage]:
        assert last[f"media/{name}"]["_type"] == "image-file"
        assert (found.path.parent / "files" / last[f"media/{name}"]["path"]).stat().st_size > 1000
    folder = next(folder_of(run, runs_dir) for run in with_parents(plan(cfg)) if run.stage == stage)
    assert {path.stem for path in (folder / "media").iterdir()} == PICTURES[stage]
    if stage != "hint":
        table = found.path.parent / "files" / last["media/per_class"]["path"]
        assert len(json.loads(table.read_text())["data"]) == 10


def test_a_curriculum_is_logged_in_a_section_of_its_own(logged_curriculum) -> None:
    (found,) = runs_in(logged_curriculum)  # a score trains nothing and is no run there
    tenths = [f"{figure}_decile{number:02}" for figure in ("shown", "accuracy") for number in range(1, 11)]
    pool = ["pool_size", "pool_fraction", *(f"difficulty_{name}" for name in ("mean", "q10", "q50", "q90"))]
    assert {f"curriculum/{name}" for name in pool + tenths} <= found.finite()
    assert "parents/score/fingerprint" in found.config


@pytest.mark.parametrize("stage", ["teacher", "hint", "kd"])
def test_every_figure_of_metrics_csv_reaches_all_under_its_name(logged, stage: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cfg, runs_dir = logged
    folder = next(folder_of(run, runs_dir) for run in with_parents(plan(cfg)) if run.stage == stage)
    found, table = by_stage(runs_in(runs_dir))[stage], rows(folder)
    assert [row["epoch"] for row in found.history[:-1]] == [int(row["epoch"]) for row in table]
    board = EventAccumulator(str(folder / "tensorboard")).Reload()
    for number, row in enumerate(table):
        for name, value in row.items():
            assert found.history[number][name] == float(value), name
            assert board.Scalars(name)[number].value == pytest.approx(float(value), rel=1e-6)
            assert board.Scalars(name)[number].step == number + 1
    assert set(board.Tags()["images"]) == {f"media/{name}" for name in PICTURES[stage]}


def test_what_is_logged_at_the_end_is_what_result_json_holds(logged) -> None:
    cfg, runs_dir = logged
    run = plan(cfg)[-1]
    result, last = read_result(run, runs_dir), by_stage(runs_in(runs_dir))["kd"].history[-1]
    assert result is not None
    test, details = result["test"], result["details"]
    for name in ("accuracy", "nll", "ece", "brier"):
        assert last[f"headline/test_{name}"] == test[name]
    right = sum(row[i] for i, row in enumerate(details["confusion"]))
    total = sum(map(sum, details["confusion"]))
    assert right / total == pytest.approx(result["test_accuracy"])
    assert sum(details["reliability"]["count"]) == total and len(details["reliability"]["count"]) == 15
    assert details["per_class"][3] == details["confusion"][3][3] / sum(details["confusion"][3])
    teacher = read_result(run.parents["teacher"], runs_dir)
    assert teacher is not None
    assert last["headline/gap_to_teacher"] == pytest.approx(test["accuracy"] - teacher["test_accuracy"])
    assert last["cost/compression"] == teacher["params"] / result["params"]
    assert last["cost/teacher_share"] == 0, "its answers are cached"


def test_weighted_terms_make_up_the_loss_and_shares_the_whole(logged) -> None:
    _, runs_dir = logged
    for row in by_stage(runs_in(runs_dir))["kd"].history[:-1]:
        weighted = row["distill/weighted_hard"] + row["distill/weighted_soft"]
        assert weighted == pytest.approx(row["train/loss"], rel=1e-5)
        assert row["distill/weighted_soft"] == pytest.approx(row["distill/lambda"] * row["distill/soft"])
    shares = [value for key, value in by_stage(runs_in(runs_dir))["kd"].history[-1].items() if "gradient_share" in key]
    assert len(shares) == 2 and sum(shares) == pytest.approx(1)


def test_weights_are_those_of_a_run_without_loggers_and_nothing_is_started_twice(logged, tmp_path: Path) -> None:
    cfg, runs_dir = logged
    go(cfg.changed({"runs_dir": str(tmp_path), "logger": {"none": {}}}))
    for run in with_parents(plan(cfg)):
        for weights in folder_of(run, tmp_path).glob("*.safetensors"):
            assert weights.read_bytes() == (folder_of(run, runs_dir) / weights.name).read_bytes()
        assert not {"wandb", "wandb_id", "tensorboard"} & {path.name for path in folder_of(run, tmp_path).iterdir()}
    go(cfg)
    assert len(runs_in(runs_dir)) == 3, "a reused stage starts no W&B run"


@pytest.mark.parametrize(
    "overrides", one_in(3, [["stage=joint_hint_kd"], ["kd_loss=hinton"], ["answers=online"]]), ids=str
)
def test_other_losses_and_a_teacher_that_answers_at_each_step(small, overrides: list[str]) -> None:
    cfg = small("stage=kd", *overrides, "epochs.teacher=1", "epochs.kd=1", "epochs.hint=1")
    go(cfg)
    result = read_result(plan(cfg)[-1], Path(cfg["runs_dir"]))
    row = rows(folder_of(plan(cfg)[-1], Path(cfg["runs_dir"])))[-1]
    weighted = sum(float(value) for key, value in row.items() if key.startswith("distill/weighted_"))
    assert result is not None and weighted == pytest.approx(float(row["train/loss"]), rel=1e-5)
    assert ("match/cka" in result["observed"]) == ("stage=joint_hint_kd" in overrides)
    assert (result["cost"]["teacher_share"] > 0) == ("answers=online" in overrides)


# --------------------------------------------------------------------------- crashes, resumes, sweeps


def test_a_crash_has_exit_code_1_and_what_resumes_goes_on_in_the_same_run(small) -> None:
    cfg = small("stage=teacher", "logger=[wandb,tensorboard]", "epochs.teacher=3", "trainer.checkpoint_seconds=0")
    run, runs_dir = plan(cfg)[0], Path(cfg["runs_dir"])
    folder = folder_of(run, runs_dir)

    def train_it(callbacks: list[pl.Callback]) -> None:
        with started(run, folder, {}, cfg["logger"], print) as active:
            train(run, folder, {}, cfg["trainer"], callbacks, loggers=active)

    with pytest.raises(Stop):
        train_it([StopAt(update=40)])  # in the third epoch
    (first,) = runs_in(runs_dir)
    assert first.exit_code == 1 and [row["epoch"] for row in first.history] == [1, 2]
    time.sleep(1.1)  # W&B names a folder by the second
    train_it([])
    assert (folder / "result.json").exists()
    first, second = runs_in(runs_dir)
    assert second.run.run_id == first.run.run_id and second.exit_code == 0
    assert [row["epoch"] for row in second.history] == [1, 2, 3, 3], "whole: syncing the last part is enough"
    assert "val/ece" in first.history[0] and "val/ece" not in second.history[0], "those weights are gone"
    assert "val/ece" in second.history[2] and "val/ece" in second.history[3]
    command = sync_command([folder])
    assert command == f"wandb sync {second.path.parent}"


def test_jobs_in_one_process_do_not_mix_their_runs(small, capsys) -> None:
    """What a multirun, or a reused worker of joblib, does: the second job starts where the first has just ended."""
    for seed in (0, 1):
        go(small("stage=backprop", "logger=wandb", "epochs.hint=1", "epochs.kd=1", f"seed={seed}"))
    runs = runs_in(Path(small()["runs_dir"]))
    assert sorted(run.config["seed"] for run in runs) == [0, 1] and len({run.run.run_id for run in runs}) == 2
    assert all([row["epoch"] for row in run.history] == [1, 2, 2] and run.exit_code == 0 for run in runs)
    said = capsys.readouterr().out
    assert said.count("there is no key") == 1 and said.count("wandb sync ") == 2
    paths = [line.split("wandb sync ")[1] for line in said.splitlines() if "wandb sync " in line]
    assert all(Path(path).is_dir() and list(Path(path).glob("*.wandb")) for path in paths)


def test_two_machines_that_train_the_same_stage_have_two_runs(small, tmp_path: Path) -> None:
    run = plan(small("stage=teacher"))[0]
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = (wandb_run.wandb_id(run, tmp_path / name) for name in ("here", "there"))
    assert here != there and here[:11] == there[:11] == run.fingerprint[:10] + "-"
    assert wandb_run.wandb_id(run, tmp_path / "here") == here


def test_the_group_is_the_sweep_or_the_experiment() -> None:
    for choices, given, expected in (
        ({"experiment": "few_labels"}, None, "few_labels"),
        ({"experiment": "few_labels", "sweep": "temperature"}, None, "temperature"),
        ({"experiment": "few_labels"}, "mine", "mine"),
        ({"experiment": None}, None, None),
    ):
        config = composed("logger=wandb").changed({"logger.wandb.group": given})
        assert door.with_group(config, choices)["logger"]["wandb"]["group"] == expected
    for plain in (composed(), composed("logger=[]")):
        assert door.with_group(plain, {"experiment": "few_labels"}) is plain


def test_figures_beside_the_stages_own_take_one_percent_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, rows = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class Ear:
        def row(self, row: dict[str, float]) -> None:
            rows.append(row)

    def costly() -> dict[str, float]:
        now[0] += 0.5
        return {"val/ece": 0.1}

    active = loggers.Loggers([Ear()])  # type: ignore[list-item]
    active.measure = costly
    for epoch in range(1000):
        now[0] += 1.0
        active.row({"epoch": epoch})
    seen = [row["epoch"] for row in rows if "val/ece" in row]
    assert len(rows) == 1000 and seen[0] == 0
    assert 15 <= len(seen) <= 20 and 0.5 * len(seen) <= 0.0101 * now[0]


# ------------------------------------------------------------------------------- keys and networks


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """Refuses every connection, takes it and says nothing, or answers everything with an HTTP error."""
    if request.param == "refuses":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    elif request.param == "says nothing":
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen()
            yield f"http://127.0.0.1:{deaf.getsockname()[1]}"
    else:
        code = int(request.param)

        class Broken(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_error(code)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        http = HTTPServer(("127.0.0.1", 0), Broken)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture
def asked(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """With a key for that server: the mode of each W&B run that is begun."""
    wandb.teardown()  # it reads the environment once a process
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", server)
    monkeypatch.setattr(wandb_run, "INIT_SECONDS", 1.0)
    begin, asked = wandb_run.begin, []

    def noted(run: Run, folder: Path, about: dict[str, Any], mode: str) -> Any:
        asked.append(mode)
        return begin(run, folder, about, mode)

    monkeypatch.setattr(wandb_run, "begin", noted)
    yield asked
    wandb.teardown()


SERVERS = ("refuses", "says nothing", "404", "503")


@pytest.mark.parametrize("server", one_in(4, SERVERS), indirect=True)
def test_a_dead_network_is_asked_once_and_said_once_and_training_goes_on(server: str, asked, small, capsys) -> None:
    cfg = small("stage=kd", "logger=wandb", "epochs.teacher=1", "epochs.kd=1")
    go(cfg)
    assert asked == ["online", "offline", "offline"], "what one stage found holds for the next"
    assert capsys.readouterr().out.count("kept offline") == 1
    runs = runs_in(Path(cfg["runs_dir"]))
    assert {run.run.job_type for run in runs} == {"teacher", "kd"} and {run.exit_code for run in runs} == {0}
    assert not list(Path(cfg["runs_dir"]).glob("*/wandb/run-*")), "nothing half-made is left"


def test_with_a_key_it_is_online_and_wandb_mode_has_the_last_word(monkeypatch) -> None:
    url = "https://api.wandb.ai"
    assert wandb_run.mode_of(url, print) == "offline", "no key"
    monkeypatch.setattr(wandb_run, "_offline_because", "")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    for mode in ("online", "offline", "dryrun", "disabled", "online"):
        monkeypatch.setenv("WANDB_MODE", mode)
        assert wandb_run.mode_of(url, print) == mode
    monkeypatch.delenv("WANDB_MODE")
    assert wandb_run.mode_of(url, print) == "online"


def test_a_key_in_netrc_is_found(tmp_path: Path, monkeypatch) -> None:
    assert not wandb_run.has_key("https://api.wandb.ai")
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {'0' * 40}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert wandb_run.has_key("https://api.wandb.ai") and not wandb_run.has_key("https://elsewhere.org")


def test_wandb_mode_disabled_writes_nothing_and_trains(small, monkeypatch, capsys) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    cfg = small("stage=teacher", "logger=[csv,wandb]", "epochs.teacher=1")
    go(cfg, "stage=teacher", "logger=[csv,wandb]")
    assert "stage=hint 'logger=[csv,wandb]'" in capsys.readouterr().out, "a list is printed as it is typed"
    assert read_result(plan(cfg)[-1], Path(cfg["runs_dir"])) is not None
    assert not runs_in(Path(cfg["runs_dir"]))


def typed(tmp_path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The finished `python run.py WORDS`, without a terminal."""
    return subprocess.run(
        [sys.executable, "run.py", *words, *SMALL, "trainer.threads=1", f"runs_dir={tmp_path}/runs"],
        **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": 120, "stdin": subprocess.DEVNULL},
        env={**os.environ, **environment},
    )


@pytest.mark.slow
@pytest.mark.parametrize("server", ["refuses", "says nothing", "404", "503"], indirect=True)
def test_whatever_the_network_does_training_goes_on(server: str, tmp_path: Path) -> None:
    key = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": server}
    done = typed(tmp_path, "stage=fitnet", "logger=wandb", **key)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kept offline") == 1 and done.stdout.count("wandb sync ") == 1
    assert len([run for run in runs_in(tmp_path / "runs") if run.exit_code == 0]) == 3


@pytest.mark.slow
def test_a_multirun_is_grouped_by_its_experiment(tmp_path: Path) -> None:
    done = typed(tmp_path, "-m", "stage=backprop", "logger=wandb", "experiment=few_labels", "seed=0,1", *WANDB[1:])
    assert done.returncode == 0, done.stderr
    runs = runs_in(tmp_path / "runs")
    assert sorted(run.config["seed"] for run in runs) == [0, 1]
    assert {run.run.run_group for run in runs} == {"few_labels"} and {run.exit_code for run in runs} == {0}
    assert done.stdout.count("wandb sync ") == 1, "one command for all jobs"
    assert done.stdout.count("offline-run-") == 2


# ------------------------------------------------------------------------------------ what is typed


def test_one_and_lists_are_typed_as_they_read() -> None:
    for word, expected in (
        ("logger=csv", ["csv"]),
        ("logger=none", ["none"]),
        ("logger=[csv,wandb]", ["csv", "wandb"]),
        ("logger=[wandb,tensorboard]", ["wandb", "tensorboard"]),
    ):
        cfg = composed(word)
        assert list(cfg["logger"]) == expected and check(cfg.resolved) == []
    assert list(composed()["logger"]) == ["csv"]
    with pytest.raises(HydraException, match="wandb"):
        composed("logger=mlflow")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["logger=[]"], ["logger is missing", "csv | wandb"]),
        (["logger=[none,wandb]"], ["none stands alone"]),
        (["+logger.mlflow.project=a"], ["logger.mlflow is no key", "csv, wandb, tensorboard, none"]),
        (["logger=wandb", "logger.wandb.project=null"], ["logger.wandb.project is None", "logger.wandb.project=NAME"]),
        (["logger=wandb", "logger.wandb.group=3"], ["logger.wandb.group is 3", "null or a name"]),
        (["logger=wandb", "logger.wandb.tags=mine"], ["logger.wandb.tags is 'mine'", "logger.wandb.tags=[mine]"]),
    ],
)
def test_what_is_wrong_with_a_logger_is_said(words: list[str], parts: list[str]) -> None:
    (problem,) = check(composed(*words).resolved)
    assert all(part in problem for part in parts), problem


def test_the_tensorboard_extra_is_asked_for(monkeypatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    without = lambda name, *more: None if name == "tensorboard" else found(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", without)
    (problem,) = check(composed("logger=tensorboard").resolved)
    assert "pip install 'fitnets[tensorboard]'" in problem


def test_neither_is_imported_before_it_is_used() -> None:
    for path in [ROOT / "run.py", *(ROOT / "fitnets").rglob("*.py")]:
        for node in ast.parse(path.read_text()).body:  # at the top of a file
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"wandb", "tensorboard"} & {name.partition(".")[0] for name in names}, path
