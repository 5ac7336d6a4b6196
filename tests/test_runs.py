"""Plans, fingerprints and the store."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fitnets import components
from fitnets.runs import ensure, folder_of, plan, read_result, status, with_parents
from tests.conftest import composed, go


def prints(*overrides: str) -> dict[str, str]:
    """Fingerprint by stage of `stage=fitnet` plus `backprop` and `kd` alone."""
    found = {}
    for stage in ("fitnet", "backprop", "kd"):
        for run in with_parents(plan(composed(f"stage={stage}", *overrides))):
            found[run.stage if stage == "fitnet" else f"{stage} alone" if run.stage == stage else run.stage] = (
                run.fingerprint
            )
    return found


ALL = {"teacher", "hint", "kd", "backprop alone", "kd alone"}
STUDENTS = ALL - {"teacher"}


@pytest.mark.parametrize(
    ("override", "moved"),
    [
        ("runs_dir=elsewhere", set()),
        ("logger=none", set()),
        ("logger=[wandb,tensorboard]", set()),
        ("trainer=gpu", set()),
        ("trainer.threads=1", set()),
        ("trainer.checkpoint_seconds=1", set()),
        ("fresh=true", set()),
        ("seeds=[5,6]", set()),
        ("temperature=3", set()),  # 3 and 3.0 are one temperature
        ("kd_loss.alpha=0.5", set()),  # Hinton's, and the paper's loss is in use
        ("temperature=2", {"kd", "kd alone"}),
        ("lambda_schedule.end=0", {"kd", "kd alone"}),
        ("kd_loss.name=hinton", {"kd", "kd alone"}),
        ("dataset.labels=50", {"kd", "kd alone", "backprop alone"}),
        ("hint.teacher_layer=conv2", {"hint", "kd"}),
        ("hint=early", {"hint", "kd"}),
        ("regressor=fc", {"hint", "kd"}),
        ("hint.reduction=mean", {"hint", "kd"}),
        ("epochs.kd=9", {"kd", "kd alone", "backprop alone"}),
        ("epochs.hint=9", STUDENTS),
        ("seed=1", STUDENTS),
        ("student=thin_relu", STUDENTS),
        ("init=paper", STUDENTS),
        ("optimizer.lr=0.1", STUDENTS),
        ("batch_size=32", STUDENTS),
        ("keep=best", {"kd", "kd alone", "backprop alone"}),
        ("teacher=wide_relu", {"teacher", "hint", "kd", "kd alone"}),
        ("teacher_seed=1", {"teacher", "hint", "kd", "kd alone"}),
        ("epochs.teacher=9", {"teacher", "hint", "kd", "kd alone"}),
        ("teacher.recipe.optimizer.lr=0.1", {"teacher", "hint", "kd", "kd alone"}),
        ("split_seed=1", ALL),
        ("dataset.val_fraction=0.3", ALL),
        ("trainer.precision=bf16-mixed", ALL),
    ],
)
def test_what_moves_a_fingerprint(override: str, moved: set[str]) -> None:
    before, after = prints(), prints(override)
    assert {stage for stage in ALL if before[stage] != after[stage]} == moved


def test_a_stage_version_moves_that_stage_and_what_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    from fitnets import runs

    before = prints()
    monkeypatch.setitem(runs.STAGE_VERSIONS, "hint", 99)
    after = prints()
    assert {stage for stage in ALL if before[stage] != after[stage]} == {"hint", "kd"}


@pytest.fixture
def my_nets(importable: Path) -> Path:
    """A package of the user's own with a student that imports a block from a sibling, both relatively and not."""
    package = importable / "my_nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "blocks.py").write_text(
        "from torch import nn\n\ndef block(i, o):\n    return nn.Conv2d(i, o, 3, padding=1)\n"
    )
    (package / "student.py").write_text(
        "from torch import nn\nfrom .blocks import block\n\n"
        "def student(input_shape, num_classes, width=4):\n"
        "    return nn.Sequential(block(input_shape[0], width), nn.ReLU(), block(width, width), nn.ReLU(),\n"
        "                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))\n"
    )
    return package


MINE = ["~student.net.blocks", "~student.net.pieces", "student.net._target_=my_nets.student.student"]


@pytest.mark.parametrize("file", ["student.py", "blocks.py"])
def test_editing_one_line_of_a_student_retrains_it_and_not_the_teacher(my_nets: Path, file: str) -> None:
    before = prints(*MINE)
    (my_nets / file).write_text((my_nets / file).read_text() + "\n# a line\n")
    components.source_hash.cache_clear()
    after = prints(*MINE)
    assert {stage for stage in ALL if before[stage] != after[stage]} == STUDENTS


def test_what_a_students_file_imports_from_elsewhere_counts_too(my_nets: Path) -> None:
    """A module beside it, as the README's layout has it; and a package whose __init__ only hands the name on."""
    (my_nets.parent / "my_head.py").write_text("head = 1\n")
    (my_nets / "student.py").write_text("from my_head import head\n" + (my_nets / "student.py").read_text())
    (my_nets / "__init__.py").write_text("from .student import student\n")
    mine = [*MINE[:2], "student.net._target_=my_nets.student"]
    components.source_hash.cache_clear()
    before = prints(*mine)
    for file in (my_nets.parent / "my_head.py", my_nets / "blocks.py"):
        file.write_text(file.read_text() + "# a line\n")
        components.source_hash.cache_clear()
        after = prints(*mine)
        assert {stage for stage in ALL if before[stage] != after[stage]} == STUDENTS, file
        before = after


def test_what_is_imported_for_readers_only_does_not_count_and_its_else_does(my_nets: Path) -> None:
    student = my_nets / "student.py"
    lines = [
        "from typing import TYPE_CHECKING",
        "if TYPE_CHECKING:",
        "    from my_read import x",
        "else:",
        "    from my_run import x",
    ]
    student.write_text("\n".join([*lines, student.read_text()]))
    for name in ("my_read", "my_run"):
        (my_nets.parent / f"{name}.py").write_text("x = 1\n")
    components.source_hash.cache_clear()
    before = prints(*MINE)
    for name, moved in (("my_read", set()), ("my_run", STUDENTS)):
        (my_nets.parent / f"{name}.py").write_text("x = 2\n")
        components.source_hash.cache_clear()
        after = prints(*MINE)
        assert {stage for stage in ALL if before[stage] != after[stage]} == moved, name


def test_a_layer_named_by_a_number_is_one_layer_however_it_is_written() -> None:
    as_number, as_text = (composed("stage=hint") for _ in range(2))
    as_number["hint"]["student_layer"], as_text["hint"]["student_layer"] = 5, "5"
    assert plan(as_number)[0].fingerprint == plan(as_text)[0].fingerprint


def test_editing_a_line_of_our_student_moves_it_and_not_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with fitnets' own files: teacher and student share maxout.py, but each has a file of its own."""
    before = prints()
    original = Path.read_bytes
    for name, moved in (
        ("thin.py", STUDENTS),
        ("wide_shallow.py", {"teacher", "hint", "kd", "kd alone"}),
        ("maxout.py", ALL),
    ):
        monkeypatch.setattr(
            Path, "read_bytes", lambda path, name=name: original(path) + (b"# edit" if path.name == name else b"")
        )
        components.source_hash.cache_clear()
        after = prints()
        assert {stage for stage in ALL if before[stage] != after[stage]} == moved, name
    monkeypatch.undo()
    components.source_hash.cache_clear()
    assert prints() == before


def test_a_users_own_student_runs_through_both_stages(my_nets: Path, small) -> None:
    """Any nn.Module: layers by module name, the non-linearity probed, no positions declared."""
    cfg = small("stage=fitnet", *[o for o in MINE], "hint.teacher_layer=conv1", 'hint.student_layer="1"')
    go(cfg)
    hint = read_result(plan(cfg)[0], Path(cfg["runs_dir"]))["hint"]
    assert hint["guided_layer"] == "1" and hint["hint_layer"] == "conv1"


def test_compare_shares_what_arms_have_in_common() -> None:
    runs = with_parents(plan(composed("seeds=[0,1,2]")))
    stages = [run.stage for run in runs]
    assert [stages.count(s) for s in ("teacher", "backprop", "hint", "kd")] == [1, 3, 3, 6]
    assert all(runs.index(parent) < runs.index(run) for run in runs for parent in run.parents.values())


def test_few_labels_reuse_teacher_and_hints_and_a_sweep_over_temperature_too() -> None:
    base = {run.fingerprint for run in with_parents(plan(composed("stage=fitnet")))}
    for override in ("dataset.labels=50", "temperature=5"):
        new = [r for r in with_parents(plan(composed("stage=fitnet", override))) if r.fingerprint not in base]
        assert [run.stage for run in new] == ["kd"]


def test_every_run_leaves_a_folder_that_explains_itself(compared) -> None:
    import yaml

    cfg, runs_dir = compared
    for run in with_parents(plan(cfg)):
        folder = folder_of(run, runs_dir)
        weights = {"teacher": {"teacher"}, "hint": {"student", "regressor"}}.get(run.stage, {"student"})
        files = {path.name for path in folder.iterdir()}
        always = {"result.json", "config.yaml", "metrics.csv", "preprocess.safetensors", "media"}
        assert files == always | {f"{name}.safetensors" for name in weights}
        result = json.loads((folder / "result.json").read_text())
        assert result["fingerprint"] == run.fingerprint and result["stage"] == run.stage
        assert result["parents"] == {role: parent.fingerprint for role, parent in run.parents.items()}
        keys = "stage arm dataset teacher student init seed test_accuracy validation params multiplications updates"
        assert set(keys.split()) | {"seconds", "versions", "hardware"} <= set(result)
        assert (result["test_accuracy"] is None) == (run.stage == "hint")
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert config["recipe"] == run.spec["recipe"] and config["epochs"] == run.spec["epochs"]
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


def test_a_second_identical_command_trains_nothing(small, capsys: pytest.CaptureFixture) -> None:
    cfg = small("stage=fitnet")
    go(cfg)
    stamps = {p: p.stat().st_mtime_ns for p in Path(cfg["runs_dir"]).rglob("*") if p.is_file()}
    capsys.readouterr()
    go(cfg)
    assert "Nothing to train" in capsys.readouterr().out
    assert stamps == {p: p.stat().st_mtime_ns for p in Path(cfg["runs_dir"]).rglob("*") if p.is_file()}


def test_fresh_redoes_the_stage_and_not_its_parents(small) -> None:
    cfg = small("stage=hint")
    go(cfg)
    stamps = {
        run.stage: (folder_of(run, Path(cfg["runs_dir"])) / "result.json").stat().st_mtime_ns
        for run in with_parents(plan(cfg))
    }
    go(cfg | {"fresh": True})
    after = {
        run.stage: (folder_of(run, Path(cfg["runs_dir"])) / "result.json").stat().st_mtime_ns
        for run in with_parents(plan(cfg))
    }
    assert after["teacher"] == stamps["teacher"] and after["hint"] > stamps["hint"]


def test_dry_run_prints_the_plan_and_leaves_nothing(small, capsys: pytest.CaptureFixture) -> None:
    cfg = small("stage=fitnet", "dry_run=true")
    go(cfg)
    out = capsys.readouterr().out
    assert "3 stages, 3 to train" in out and out.count("to train") == 4
    assert not Path(cfg["runs_dir"]).exists()


def test_a_lock_lets_one_train_and_the_others_wait(small) -> None:
    """Three threads ask for the same run at once: it is trained once, and all get its result."""
    cfg = small("stage=teacher")
    run, runs_dir = plan(cfg)[0], Path(cfg["runs_dir"])
    trained, said, results = [], [], []

    def train(run: Any, folder: Path, _parents: Any) -> None:
        trained.append(run)
        time.sleep(0.3)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps({"fingerprint": run.fingerprint}))

    threads = [
        threading.Thread(target=lambda: results.append(ensure(run, runs_dir, train, False, said.append)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trained) == 1 and [new for _, new in results].count(True) == 1
    assert len(said) == 2 and "another process is training it" in said[0]


def test_status_tells_done_half_finished_and_missing(small) -> None:
    cfg = small("stage=teacher")
    run, runs_dir = plan(cfg)[0], Path(cfg["runs_dir"])
    assert status(run, runs_dir) == "missing"
    folder = folder_of(run, runs_dir)
    os.makedirs(folder)
    (folder / "last.ckpt").write_text("")
    assert status(run, runs_dir) == "half-finished"
    (folder / "result.json").write_text("{}")
    assert status(run, runs_dir) == "done"
