"""The store: folders that explain themselves, what is reused, made again, locked; and the same command twice."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fitnets.files import sha256, write_result
from fitnets.plan import plan
from fitnets.store import ensure, folder_of, read_result, resumes_at, status, with_parents
from tests.conftest import composed, go, named_runs
from tests.trained import pick


def test_every_run_leaves_a_folder_that_explains_itself(compared) -> None:
    config, runs_dir = compared
    for run in with_parents(named_runs(config)):
        folder = folder_of(run, runs_dir)
        weights = {"teacher": {"teacher"}, "hint": {"student", "regressor"}}.get(run.stage, {"student"})
        files = {path.name for path in folder.iterdir()}
        always = {"result.json", "config.yaml", "metrics.csv", "preprocess.safetensors", "hashes.json", "media"}
        assert files == always | {f"{name}.safetensors" for name in weights}
        result = json.loads((folder / "result.json").read_text())
        assert result["fingerprint"] == run.fingerprint and result["stage"] == run.stage
        assert result["parents"] == {role: parent.fingerprint for role, parent in run.parents.items()}
        keys = "stage title arm arm_title trains tested for_score dataset teacher student init seed test_accuracy "
        keys += "validation params multiplications updates seconds versions hardware"
        assert set(keys.split()) <= set(result)
        assert (result["test_accuracy"] is None) == (not run.tested)
        of_run = yaml.safe_load((folder / "config.yaml").read_text())
        assert of_run["recipe"] == run.spec["recipe"] and of_run["epochs"] == run.spec["epochs"]
        assert of_run["arm"] == {"name": run.arm.name, "title": run.arm.title}
        assert "${" not in (folder / "config.yaml").read_text()
        rows = (folder / "metrics.csv").read_text().splitlines()
        assert len(rows) == 1 + run.spec["epochs"]
    assert not list((runs_dir / "reports").rglob("result.json")), "plans write none"


def test_the_same_command_twice_gives_byte_equal_weights(small, tmp_path: Path) -> None:
    for name in ("a", "b"):
        go(small("stage=fitnet", f"runs_dir={tmp_path}/{name}"))
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.safetensors"))
    assert len(files) == 7
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.slow  # it wants all cores for itself
def test_so_it_does_with_all_threads(tmp_path: Path) -> None:
    """Networks large enough that torch does share out their work; a few updates of each stage."""
    words = ["stage=fitnet", "epochs.teacher=1", "epochs.hint=1", "epochs.kd=1", "updates_per_epoch=3", "trainer=cpu"]
    words += ["teacher.net.widths=[32,32]", "teacher.recipe.batch_size=512"]
    before, threads = torch.get_num_threads(), max(2, os.cpu_count() or 1)
    try:
        torch.set_num_threads(threads)
        for name in ("a", "b"):
            go(composed(*words, f"trainer.threads={threads}", f"runs_dir={tmp_path}/{name}"))
    finally:
        torch.set_num_threads(before)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.safetensors"))
    assert len(files) == 7
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


@pytest.mark.slow
def test_a_second_identical_command_trains_nothing(small, capsys: pytest.CaptureFixture) -> None:
    config = small("stage=fitnet")
    go(config)
    stamps = {p: p.stat().st_mtime_ns for p in Path(config["runs_dir"]).rglob("*") if p.is_file()}
    go(config)
    assert stamps == {p: p.stat().st_mtime_ns for p in Path(config["runs_dir"]).rglob("*") if p.is_file()}

    results = {run.stage: result_file(run, config) for run in with_parents(plan(config))}
    stamps = {stage: file.stat().st_mtime_ns for stage, file in results.items()}
    go(config.changed({"fresh": True}))
    again = {stage for stage, file in results.items() if file.stat().st_mtime_ns > stamps[stage]}
    assert again == {"hint", "kd"}, "fresh redoes what the command names and never its parents"


def result_file(run: Any, config: Any) -> Path:
    return folder_of(run, Path(config["runs_dir"])) / "result.json"


def test_dry_run_prints_the_plan_and_leaves_nothing(small, capsys: pytest.CaptureFixture) -> None:
    config = small("stage=fitnet", "dry_run=true")
    go(config)
    out = capsys.readouterr().out
    assert all(run.name in out for run in with_parents(plan(config)))
    assert not Path(config["runs_dir"]).exists()


def test_an_error_in_measuring_or_drawing_loses_no_training(small, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The result is written before anything is measured; what fails is told and left out."""
    from fitnets.training import engine

    def fails(*_: Any) -> None:
        raise RuntimeError("no space for a picture")

    for name in ("pictures_of", "costs", "on_the_test_part"):
        monkeypatch.setattr(engine, name, fails)
    config = small("stage=backprop", "epochs.hint=1", "epochs.kd=1")
    go(config)
    (run,) = plan(config)
    result = read_result(run, Path(config["runs_dir"]))
    assert result is not None and result["test_accuracy"] > 0 and result["cost"] == {} and result["observed"]
    assert status(run, Path(config["runs_dir"])) == "done"
    assert capsys.readouterr().err.count("no space for a picture") == 3


def test_ensure_hands_the_result_of_a_finished_run_back(compared) -> None:
    config, runs_dir = compared
    run = pick(config, "kd", "kd")

    def never(*_: Any) -> None:
        raise AssertionError("it is finished")

    result, trained = ensure(run, runs_dir, never)
    assert not trained and result["fingerprint"] == run.fingerprint


def test_a_lock_lets_one_train_and_the_others_wait(small) -> None:
    """Three threads ask for the same run at once: it is trained once, and all get its result."""
    config = small("stage=teacher")
    run, runs_dir = plan(config)[0], Path(config["runs_dir"])
    trained, said, results = [], [], []
    waiting = threading.Semaphore(0)

    def train(run: Any, folder: Path, _parents: Any) -> None:
        trained.append(run)
        for _ in range(2):  # the others have asked
            assert waiting.acquire(timeout=60)
        time.sleep(0.1)
        write_result(folder, {"fingerprint": run.fingerprint})

    def say(line: str) -> None:
        said.append(line)
        waiting.release()

    threads = [
        threading.Thread(target=lambda: results.append(ensure(run, runs_dir, train, False, say))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trained) == 1 and [new for _, new in results].count(True) == 1 and len(said) == 2
    assert all(result == {"fingerprint": run.fingerprint} for result, _ in results)


def test_status_tells_done_half_finished_and_missing(small) -> None:
    config = small("stage=teacher")
    run, runs_dir = plan(config)[0], Path(config["runs_dir"])
    assert status(run, runs_dir) == "missing"
    folder = folder_of(run, runs_dir)
    folder.mkdir(parents=True)
    (folder / "last.ckpt").write_text("")
    assert status(run, runs_dir) == "missing", "it has no hash"
    (folder / "last.json").write_text(json.dumps({sha256(folder / "last.ckpt"): 3}))
    assert status(run, runs_dir) == "half-finished" and resumes_at(run, runs_dir) == 3
    write_result(folder, {"a": 1})
    assert status(run, runs_dir) == "done"
    (folder / "result.json").write_text("{")
    assert status(run, runs_dir) == "broken"
