"""`python run.py` as a user types it."""

import importlib
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

import report as report_script
from fitnets.config import ConfigError
from fitnets.plan import plan
from fitnets.store import folder_of, read_result
from fitnets.training import cost, pictures
from tests.conftest import SMALL, go
from tests.typed import ENDS_ITS_PROCESS, ENV, HEAVY, command, each_typed, typed, typed_and_imported

TINY = "name: tiny\nnet:\n  _target_: fitnets.models.thin.thin_maxout\n  blocks: [[2], [2], [2, 2]]\n"


# ------------------------------------------------------------------------------------------ trainings


def test_stage_hint_from_nothing_again_and_what_to_type_next(tmp_path: Path) -> None:
    """Flags and quotes are kept: the printed command itself runs."""
    (tmp_path / "mine" / "student").mkdir(parents=True)
    (tmp_path / "mine" / "student" / "tiny.yaml").write_text(TINY)
    small = [word for word in SMALL if not word.startswith("student")]
    words = ["--config-dir", "mine", "stage=hint", "student=tiny", *small]
    first = typed(*words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "2 stages, 2 to train" in first.stdout
    for text in ("validation hint loss", "validation R2", "regressor", "lies in", "next", "stage=fitnet"):
        assert text in first.stdout
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/result.json")]
    assert sorted(result["stage"] for result in results) == ["hint", "teacher"]
    second, imported = typed_and_imported(*words, cwd=tmp_path)
    assert "Nothing to train" in second.stdout and second.returncode == 0
    assert not imported & HEAVY, "a command whose work is done is quick"
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "runs"}, "nothing is left but runs/"
    line = next(line for line in first.stdout.splitlines() if line.startswith("  next"))
    following = shlex.split(line.removeprefix("  next").partition("   (")[0])
    assert following[:2] == ["python", "run.py"] and "stage=fitnet" in following
    done = typed(*following[2:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 stages, 1 to train" in done.stdout and "kd of tiny on digits" in done.stdout


@pytest.mark.slow
def test_two_processes_at_once_train_the_teacher_once(tmp_path: Path) -> None:
    pair = [
        subprocess.Popen(
            command("stage=kd", f"seed={seed}", *SMALL, "epochs.teacher=10"),
            cwd=tmp_path, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for seed in (0, 1)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=600)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    trained = ["] teacher wide_shallow seed 0: val accuracy" in output for output in outputs]
    assert sorted(trained) == [False, True], outputs
    assert len(list((tmp_path / "runs").glob("teacher-*/result.json"))) == 1
    assert len(list((tmp_path / "runs").glob("kd-*/result.json"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "updates"), [("hint", 40), ("kd", 72 + 40)])
def test_killed_and_started_again_it_says_where_it_resumes_and_ends_bit_equal(
    tmp_path: Path, stage: str, updates: int
) -> None:
    """18 updates an epoch, four epochs a stage: each is killed in its third one."""
    (tmp_path / "mine.py").write_text(ENDS_ITS_PROCESS)
    words = ["stage=fitnet", *SMALL, "epochs.hint=4", "epochs.kd=4", "optimizer._target_=mine.Ends"]
    words.append("trainer.checkpoint_seconds=0")

    def run(name: str, **environment: str) -> subprocess.CompletedProcess:
        return typed(*words, f"runs_dir={tmp_path}/{name}", cwd=tmp_path, PYTHONPATH=str(tmp_path), **environment)

    through = run("through")
    assert through.returncode == 0, through.stderr
    assert run("killed", END_BEFORE=str(updates)).returncode == -9
    assert not list((tmp_path / "killed").glob(f"{stage}-*/result.json"))
    again = run("killed")
    assert again.returncode == 0, again.stderr
    assert f"{stage} thin_deep" in again.stdout and "resumes at epoch 3" in again.stdout
    files = sorted(path.relative_to(tmp_path / "killed") for path in (tmp_path / "killed").rglob("*.safetensors"))
    assert len(files) == 7
    for file in files:
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "through" / file).read_bytes(), file


@pytest.mark.slow
def test_a_sweep_shares_teacher_and_hint_names_a_bad_job_and_exits_with_2(tmp_path: Path) -> None:
    swept = typed("-m", "stage=fitnet", "temperature=0,1,2", *SMALL, cwd=tmp_path)
    assert swept.returncode == 2 and "Traceback" not in swept.stderr
    assert "temperature is 0" in swept.stderr and "2 of 3 jobs done" in swept.stdout
    stages = [path.parent.name.partition("-")[0] for path in (tmp_path / "runs").glob("*/result.json")]
    assert sorted(stages) == ["hint", "kd", "kd", "teacher"]


# ---------------------------------------------------------------------------------------- wrong words

MISSPELT = [  # -> what was meant
    (["temprature=3"], "did you mean temperature?"),
    (["+temprature=9"], "did you mean temperature?"),
    (["hint.teacher_layr=middle"], "did you mean hint.teacher_layer?"),
    (["--config-dir", "mine", "experiment=redution"], "did you mean hint_loss.reduction?"),
    (["studnt=thin_deep"], "did you mean student?"),
    (["student=thindeep"], "did you mean thin_deep"),
    (["stage=kdd"], "did you mean kd?"),
    (["kd_loss=hintn"], "did you mean hinton?"),
    (["hint_loss=fitnt"], "did you mean fitnet?"),
    (["experiment=few_lables"], "did you mean few_labels?"),
    (["sweep=temprature"], "did you mean temperature?"),
    (["stage.arms=[backprop,kdd]"], "did you mean kd"),
    (["stage=positions", "stage.arm=fitnt"], "did you mean fitnet"),
    (["student.net._target_=fitnets.models.thin.thin_maxot"], "thin_maxout"),
    (["-m", "temprature=1,2"], "did you mean temperature?"),
    (["--cfg", "job", "temprature=3"], "did you mean temperature?"),
    (["stage.arms=[backprop,hint]"], "hint is no arm: it gives no trained student to compare"),
    (["hint.reduction=mean"], "type hint_loss.reduction=mean"),
    (["kd_loss.name=hinton"], "type kd_loss=hinton"),
]


@pytest.mark.slow
def test_wrong_words_are_a_line_each_with_what_was_meant(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    (folder / "mine" / "experiment").mkdir(parents=True)
    (folder / "mine" / "experiment" / "redution.yaml").write_text("# @package _global_\nhint: {redution: mean}\n")
    several = ["stage=hint", "temperature=0", "keep=lst", "epochs.kd=1.5", "student.net._target_=no.where"]
    old = ["kd_loss.name=hinton", "kd_loss.alpha=0.5"]
    commands = [*(words for words, _ in MISSPELT), old, several]
    *misspelt, of_old, of_several = each_typed(commands, folder, tmp_path / "answers")
    for answer, (words, meant) in zip(misspelt, MISSPELT, strict=True):
        lines = answer.stderr.splitlines()
        assert lines[0] == "The config has 1 problem; nothing was trained.", (words, answer.stderr)
        assert len(lines) == 2 and meant in lines[1], (words, lines)
    assert of_old.stderr.splitlines()[1:] == [
        "  1. kd_loss.name is no key here: type kd_loss=hinton",
        "  2. kd_loss.alpha is no key here: type kd_loss=hinton kd_loss.alpha=0.5",
    ]
    assert "4 problems; nothing was trained" in of_several.stderr
    for text in ("temperature is 0", "temperature=3", "keep is 'lst'", "last | best", "epochs.kd is 1.5", "no.where"):
        assert text in of_several.stderr
    for answer in (*misspelt, of_old, of_several):
        assert answer.returncode == 2, answer
        for text in ("Traceback", "Error executing job", "search path", "HYDRA_FULL_ERROR"):
            assert text not in answer.stdout + answer.stderr
        assert not answer.imported & HEAVY, answer.words
    assert not list(folder.glob("runs/[!.]*")), "nothing is planned, trained or reported"


def test_an_unknown_layer_lists_the_layers(small, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        go(small("stage=hint", "hint.teacher_layer=conv7", "hint.student_layer=conv99"))
    of_teacher, of_student = refused.value.problems
    assert "the teacher has no layer 'conv7'" in of_teacher and "conv2 12x2x2" in of_teacher
    assert "the student has no layer 'conv99'" in of_student and "hint.student_layer=NAME" in of_student
    assert not list(tmp_path.iterdir())


def test_help_and_config_import_nothing_heavy(tmp_path: Path) -> None:
    """How long they take is a matter for the benchmark."""
    (tmp_path / "here").mkdir()
    for answer in each_typed([["--help"], ["--cfg", "job"]], tmp_path / "here", tmp_path / "answers"):
        assert answer.returncode == 0 and "stage" in answer.stdout
        assert "hydra" in answer.imported and not answer.imported & HEAVY


# --------------------------------------------------------------------- a runs_dir of an earlier version


def earlier_run(runs_dir: Path) -> dict[str, bytes]:
    """A finished run as the version before wrote it, and all of its files by name."""
    folder = runs_dir / "kd-thin_deep-digits-s0-0123456789"
    folder.mkdir(parents=True)
    parents = {"teacher": "teacher-wide_shallow-digits-s0-1234567890", "hint": "hint-thin_deep-digits-s0-2345678901"}
    config = {"stage": "kd", "arm": "fitnet", "seed": 0, "fingerprint": "0123456789abcdef", "parents": parents}
    config |= {"dataset": {"name": "digits"}, "split_seed": 0, "student": {"name": "thin_deep"}}
    result: dict[str, Any] = {"stage": "kd", "arm": "fitnet", "dataset": "digits", "labels": "all", "seed": 0}
    result |= {"student": "thin_deep", "teacher": "wide_shallow", "parents": {}, "fingerprint": "0123456789abcdef"}
    result |= {"test_accuracy": 0.9, "test": {"accuracy": 0.9}, "validation": {"accuracy": 0.9}, "updates": 90}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "student.safetensors").write_bytes(b"weights")
    return files_below(folder)


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_runs_of_an_earlier_version_are_named_once_and_left_as_they_are(
    small, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("stage=teacher", "epochs.teacher=1")
    runs_dir = Path(config["runs_dir"])
    before = earlier_run(runs_dir)
    assert report_script.main(["--runs-dir", str(runs_dir)]) == 2
    assert "holds no finished run" in capsys.readouterr().err
    go(config)
    lines = [line for line in capsys.readouterr().out.splitlines() if "earlier version" in line]
    assert lines == [f"{runs_dir}/ holds runs of an earlier version: they are left as they are, and not used again."]
    go(config)
    assert "earlier version" not in capsys.readouterr().out
    assert report_script.main(["--runs-dir", str(runs_dir)]) == 0
    assert "Page of 1 runs" in capsys.readouterr().out
    assert runs_command(monkeypatch, runs_dir) == 0
    assert "teacher-wide_shallow" in capsys.readouterr().out
    (folder,) = runs_dir.glob("kd-*")
    assert files_below(folder) == before


def runs_command(monkeypatch: pytest.MonkeyPatch, runs_dir: Path, *words: str) -> int:
    """`python scripts/runs.py --runs-dir RUNS_DIR WORDS`."""
    monkeypatch.setattr("sys.argv", ["runs.py", "--runs-dir", str(runs_dir), *words])
    return importlib.import_module("runs").main()  # of scripts/, whatever lies in runs/


# ------------------------------------------------------------------------------ measuring and drawing


def test_what_cannot_be_measured_or_drawn_is_a_line_and_the_training_is_kept(
    small, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError("no fonts\nhere")

    monkeypatch.setattr(pictures, "of_predictions", fails)
    monkeypatch.setattr(cost, "latency", fails)
    config = small("stage=teacher", "epochs.teacher=1")
    go(config)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all("(OSError: no fonts); the training is kept" in line for line in lines), lines
    run, runs_dir = plan(config)[0], Path(config["runs_dir"])
    result = read_result(run, runs_dir)
    assert result is not None and 0 < result["test_accuracy"] < 1 and result["cost"] == {} and result["observed"]
    assert result["details"]["confusion"] and 0 < result["test"]["ece"] < 1, "no picture costs its figures"
    names = {path.name for path in folder_of(run, runs_dir).iterdir()}
    assert {"result.json", "config.yaml", "metrics.csv", "teacher.safetensors"} <= names and "last.ckpt" not in names
    go(config)
    assert "Nothing to train" in capsys.readouterr().out


# ------------------------------------------------------------------------------------ scripts/runs.py


def test_scripts_runs_lists_lineage_and_removes(small, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small("stage=fitnet")
    go(config)
    runs_dir = Path(config["runs_dir"])

    def script(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = runs_command(monkeypatch, runs_dir, *words)
        return code, *capsys.readouterr()

    def listed() -> list[str]:
        return [line for line in script()[1].splitlines() if "cached answers" not in line]

    lines = listed()
    assert [line.split("-")[0] for line in lines] == ["teacher", "  hint", "    kd"]
    assert "test " in lines[0] and "R2" in lines[1]
    code, _, refused = script("--remove", "hint")
    assert code == 2 and "kd-thin_deep" in refused and len(listed()) == 3
    with FileLock(next((runs_dir / ".locks").glob("kd-*"))):
        code, _, held = script("--remove", "kd-")
        assert code == 2 and "is being trained" in held and len(listed()) == 3
    code, _, unknown = script("--remove", "nope")
    assert code == 2 and "fits 0 runs" in unknown
    assert script("--remove", "hint", "--with-children")[0] == 0
    assert [line.split("-")[0] for line in listed()] == ["teacher"]

    assert "2 cached answers of teachers" in script()[1]
    assert script("--remove-answers")[1].count("removed ") == 2
    assert "cached answers" not in script()[1] and len(listed()) == 1
