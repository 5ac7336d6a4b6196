"""`python run.py` as a user types it, in processes of its own."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import ROOT, SMALL

ENV = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def command(*words: str) -> list[str]:
    return [sys.executable, str(ROOT / "run.py"), *words]


def typed(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(command(*words), cwd=cwd, env=ENV, capture_output=True, text=True, timeout=300)


HEAVY = {"torch", "pytorch_lightning", "sklearn", "scipy", "matplotlib", "wandb"}


def typed_and_imported(*words: str, cwd: Path) -> tuple[subprocess.CompletedProcess, set[str]]:
    """A finished command, and the packages that it imported."""
    command_line = [sys.executable, "-X", "importtime", *command(*words)[1:]]
    done = subprocess.run(command_line, cwd=cwd, env=ENV, capture_output=True, text=True, timeout=300)
    return done, {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}


def test_stage_hint_from_nothing_and_again(tmp_path: Path) -> None:
    words = ["stage=hint", "student=thin_deep", *SMALL]
    first = typed(*words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "2 stages, 2 to train" in first.stdout
    for told in ("validation hint loss", "validation R2", "regressor", "lies in", "next", "stage=fitnet"):
        assert told in first.stdout
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/result.json")]
    assert sorted(result["stage"] for result in results) == ["hint", "teacher"]
    second, imported = typed_and_imported(*words, cwd=tmp_path)
    assert "Nothing to train" in second.stdout and second.returncode == 0
    assert not imported & HEAVY, "a command whose work is done is quick"
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}, "nothing is left beside runs/"


def test_two_processes_at_once_train_the_teacher_once(tmp_path: Path) -> None:
    pair = [
        subprocess.Popen(
            command("stage=kd", f"seed={seed}", *SMALL, "epochs.teacher=10"),
            cwd=tmp_path, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for seed in (0, 1)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=300)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    trained = ["] teacher wide_shallow seed 0: val accuracy" in output for output in outputs]
    assert sorted(trained) == [False, True], outputs
    assert len(list((tmp_path / "runs").glob("teacher-*/result.json"))) == 1
    assert len(list((tmp_path / "runs").glob("kd-*/result.json"))) == 2


@pytest.mark.parametrize("stage", [pytest.param("hint", marks=pytest.mark.slow), "kd"])
def test_killed_and_started_again_it_says_where_it_resumes_and_ends_bit_equal(tmp_path: Path, stage: str) -> None:
    words = ["stage=fitnet", *SMALL, "epochs.hint=12", "epochs.kd=12", "trainer.checkpoint_seconds=0.05"]
    through = typed(*words, f"runs_dir={tmp_path}/through", cwd=tmp_path)
    assert through.returncode == 0, through.stderr
    runs = tmp_path / "killed"
    process = subprocess.Popen(command(*words, f"runs_dir={runs}"), cwd=tmp_path, env=ENV, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not any(len(m.read_text().splitlines()) > 3 for m in runs.glob(f"{stage}-*/metrics.csv")):
        assert time.monotonic() < deadline and process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = typed(*words, f"runs_dir={runs}", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"{stage} thin_deep" in again.stdout and "resumes at epoch" in again.stdout
    files = sorted(path.relative_to(runs) for path in runs.rglob("*.safetensors"))
    assert len(files) == 7
    for file in files:
        assert (runs / file).read_bytes() == (tmp_path / "through" / file).read_bytes(), file


def test_a_bad_config_is_one_message_and_exit_code_2(tmp_path: Path) -> None:
    bad = typed(
        "stage=hint", "temperature=0", "keep=lst", "epochs.kd=1.5", "student.net._target_=no.where", cwd=tmp_path
    )
    assert bad.returncode == 2
    assert "4 problems; nothing was trained" in bad.stderr and "Traceback" not in bad.stderr
    for told in ("temperature is 0", "temperature=3", "keep is 'lst'", "last | best", "epochs.kd is 1.5", "no.where"):
        assert told in bad.stderr
    assert not list(tmp_path.iterdir())


def test_an_unknown_layer_lists_the_layers(tmp_path: Path) -> None:
    bad = typed("stage=hint", "hint.teacher_layer=conv7", "hint.student_layer=conv99", *SMALL, cwd=tmp_path)
    assert bad.returncode == 2 and "2 problems" in bad.stderr
    assert "the teacher has no layer 'conv7'" in bad.stderr and "conv2 12x2x2" in bad.stderr
    assert "the student has no layer 'conv99'" in bad.stderr and "hint.student_layer=NAME" in bad.stderr
    assert not list(tmp_path.iterdir())


def test_a_sweep_names_a_bad_job_goes_on_and_exits_with_2(tmp_path: Path) -> None:
    swept = typed("-m", "stage=teacher", "epochs.teacher=0,1", *[w for w in SMALL if "teacher=" not in w], cwd=tmp_path)
    assert swept.returncode == 2 and "Traceback" not in swept.stderr
    assert "epochs.teacher is 0" in swept.stderr and "1 of 2 jobs done" in swept.stdout


def test_what_to_type_next_can_be_typed(tmp_path: Path) -> None:
    """Flags and quotes are kept: the printed command itself runs."""
    (tmp_path / "mine" / "student").mkdir(parents=True)
    (tmp_path / "mine" / "student" / "tiny.yaml").write_text(
        "name: tiny\nnet:\n  _target_: fitnets.models.thin.thin_maxout\n  blocks: [[2], [2], [2, 2]]\n"
    )
    small = [word for word in SMALL if not word.startswith("student")]
    hint = typed("--config-dir", "mine", "stage=hint", "student=tiny", *small, cwd=tmp_path)
    line = next(line for line in hint.stdout.splitlines() if line.startswith("  next"))
    words = shlex.split(line.removeprefix("  next").partition("   (")[0])
    assert words[:2] == ["python", "run.py"] and "stage=fitnet" in words
    following = typed(*words[2:], cwd=tmp_path)
    assert following.returncode == 0, following.stderr
    assert "3 stages, 1 to train" in following.stdout


@pytest.mark.parametrize("words", [("studnt=thin",), ("student=thindeep",), ("temprature=3",)])
def test_a_misspelt_word_is_an_error(tmp_path: Path, words: tuple) -> None:
    assert typed(*words, cwd=tmp_path).returncode != 0


def test_a_sweep_shares_teacher_and_hint(tmp_path: Path) -> None:
    swept = typed("-m", "stage=fitnet", "temperature=1,2,4", *SMALL, cwd=tmp_path)
    assert swept.returncode == 0, swept.stderr
    stages = [path.name.split("-")[0] for path in (tmp_path / "runs").glob("*/") if (path / "result.json").exists()]
    assert sorted(stages) == ["hint", "kd", "kd", "kd", "teacher"]


@pytest.mark.parametrize("words", [("--help",), ("--cfg", "job")])
def test_help_and_config_answer_at_once(tmp_path: Path, words: tuple) -> None:
    """Nothing heavy is imported; how long that takes is a matter for the benchmark."""
    answer, imported = typed_and_imported(*words, cwd=tmp_path)
    assert answer.returncode == 0 and "stage" in answer.stdout
    assert "hydra" in imported and not imported & HEAVY


def test_a_users_own_config_folder(tmp_path: Path) -> None:
    (tmp_path / "mine" / "student").mkdir(parents=True)
    (tmp_path / "mine" / "student" / "tiny.yaml").write_text(
        "name: tiny\nnet:\n  _target_: fitnets.models.thin.thin_maxout\n  blocks: [[2], [2], [2, 2]]\n"
    )
    small = [word for word in SMALL if not word.startswith("student")]
    done = typed("--config-dir", "mine", "student=tiny", "stage=backprop", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "backprop of tiny on digits" in done.stdout


def test_scripts_runs_lists_lineage_and_removes(tmp_path: Path) -> None:
    assert typed("stage=fitnet", *SMALL, cwd=tmp_path).returncode == 0

    def script(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "runs.py"), *words], cwd=tmp_path, capture_output=True, text=True
        )

    def listed() -> list[str]:
        return [line for line in script().stdout.splitlines() if "cached answers" not in line]

    lines = listed()
    assert [line.split("-")[0] for line in lines] == ["teacher", "  hint", "    kd"]
    assert "test " in lines[0] and "R2" in lines[1]
    refused = script("--remove", "hint")
    assert refused.returncode == 2 and "kd-thin_deep" in refused.stderr and len(listed()) == 3
    with FileLock(next((tmp_path / "runs" / ".locks").glob("kd-*"))):
        held = script("--remove", "kd-")
        assert held.returncode == 2 and "is being trained" in held.stderr and len(listed()) == 3
    unknown = script("--remove", "nope")
    assert unknown.returncode == 2 and "fits 0 runs" in unknown.stderr
    assert script("--remove", "hint", "--with-children").returncode == 0
    assert [line.split("-")[0] for line in listed()] == ["teacher"]

    assert "2 cached answers of teachers" in script().stdout
    assert script("--remove-answers").stdout.count("removed ") == 2
    assert "cached answers" not in script().stdout and len(listed()) == 1
