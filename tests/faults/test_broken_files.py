"""What is read later is checked against its hash: what is truncated, flipped or half there is named and made again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fitnets.plan import plan
from fitnets.report.folders import NoRuns, read
from fitnets.store import folder_of, with_parents
from tests.conftest import SMALL, composed, copied, faked_parquet, go, quick
from tests.stopping import Stop, StopAt
from tests.trained import contents

# every kind of file: a teacher, a hint stage, KD, a score, answers, decoded pictures, whitening
WORDS = ["stage=fitnet", "curriculum=easy_to_hard", "curriculum/score=teacher_loss", "epochs.hint=1", "epochs.kd=1"]
OF_A_SET = ["dataset=cifar10", "preprocess=gcn_zca", "hint=early", "batch_size=16", "optimizer.lr=1e-6", "augment=none"]


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def emptied(_content: bytes) -> bytes:
    return b""


def doubled(content: bytes) -> bytes:
    return content + content[-8:]


DAMAGES = [truncated, flipped, emptied, doubled]
FILES = [
    *("runs/teacher-*/teacher.safetensors", "runs/hint-*/student.safetensors", "runs/hint-*/regressor.safetensors"),
    *("runs/kd-*/student.safetensors", "runs/teacher-*/preprocess.safetensors", "runs/score-*/scores.safetensors"),
    *("runs/teacher-*/result.json", "runs/kd-*/result.json", "runs/hint-*/metrics.csv", "runs/kd-*/config.yaml"),
    *("runs/kd-*/hashes.json", "runs/.answers/*.npy", "runs/.answers/*.json", "data/*-*.safetensors", "data/*-*.json"),
    *("data/zca-*.safetensors", "data/zca-*.json", "runs/kd-*/media/*.png"),
]


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Callable[[Path], Any], Path]:
    """A finished command's folder, and its config for a folder like it. Tests only read it."""
    place = tmp_path_factory.mktemp("whole")
    source = faked_parquet(place / "source", size=32, channels=1, n=60)

    def config_in(folder: Path) -> Any:
        paths = [f"dataset.path={source}", f"dataset.cache_dir={folder}/data", f"runs_dir={folder}/runs"]
        return composed(*SMALL, *WORDS, *OF_A_SET, *paths)

    go(config_in(place))
    return config_in, place


CASES = [(file, damage) for file in FILES for damage in DAMAGES]
QUICK = {0: 1, 8: 3, 13: 1}  # one damage of weights, of a table, of decoded pictures


@pytest.mark.parametrize(
    ("file", "damage"),
    quick(CASES, lambda case: QUICK.get(FILES.index(case[0])) == DAMAGES.index(case[1])),
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_is_broken_is_named_set_aside_and_made_again(
    whole: Any, tmp_path: Path, capsys: pytest.CaptureFixture, file: str, damage: Callable[[bytes], bytes]
) -> None:
    config_in, place = whole
    for part in ("runs", "data"):
        shutil.copytree(place / part, tmp_path / part)
    (broken, *_) = sorted(tmp_path.glob(file))
    before = broken.read_bytes()
    broken.write_bytes(damage(before))
    if "answers" in file or "data/" in file:  # which a finished command does not read
        for folder in tmp_path.glob("runs/kd-*"):
            shutil.rmtree(folder)
        for folder in tmp_path.glob("runs/hint-*") if ".answers" in file else ():
            shutil.rmtree(folder)
    capsys.readouterr()
    go(config_in(tmp_path))
    said = "".join(capsys.readouterr())
    assert "Traceback" not in said and "set aside as" in said, said
    assert broken.name in said or broken.with_suffix(".npy").name in said or broken.stem in said
    kept = [path for path in tmp_path.rglob("*") if path.parent.name == ".set_aside"]
    assert len(kept) == 1
    assert contents(tmp_path / "runs") == contents(place / "runs"), "made again, bit for bit"
    go(config_in(tmp_path))
    assert "set aside" not in "".join(capsys.readouterr()), "once"


@pytest.mark.parametrize(
    "file",
    quick(["teacher.safetensors", "metrics.csv", "config.yaml", "hashes.json"], lambda file: file == "hashes.json"),
)
def test_a_file_that_is_missing_from_a_finished_run_is_found(whole: Any, tmp_path: Path, capsys, file: str) -> None:
    config_in, place = whole
    for part in ("runs", "data"):
        shutil.copytree(place / part, tmp_path / part)
    next(tmp_path.glob(f"runs/teacher-*/{file}")).unlink()
    go(config_in(tmp_path))
    said = "".join(capsys.readouterr())
    assert f"{file} is missing" in said and "set aside as" in said
    assert contents(tmp_path / "runs") == contents(place / "runs")


@pytest.mark.parametrize("damage", quick(DAMAGES, lambda damage: damage is truncated))
def test_a_broken_checkpoint_is_set_aside_and_the_stage_begins_again(small, capsys, tmp_path: Path, damage) -> None:
    config = small("stage=teacher", "trainer.checkpoint_seconds=0")
    (run,), runs_dir = plan(config), Path(config["runs_dir"])
    from fitnets.training.engine import train

    with pytest.raises(Stop):
        train(run, folder_of(run, runs_dir), {}, config["trainer"], [StopAt(update=20)])
    checkpoint = folder_of(run, runs_dir) / "last.ckpt"
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    go(config)
    said = "".join(capsys.readouterr())
    assert "last.ckpt is not as it was written" in said and "begins again" in said and "Traceback" not in said
    assert (runs_dir / ".set_aside" / run.name / "last.ckpt.1").exists()
    through = config.changed({"runs_dir": str(tmp_path / "through")})
    go(through)
    ended = folder_of(run, tmp_path / "through") / "teacher.safetensors"
    assert ended.read_bytes() == (folder_of(run, runs_dir) / "teacher.safetensors").read_bytes()


def test_a_report_refuses_what_is_not_as_it_was_written(compared, tmp_path: Path) -> None:
    shutil.copytree(compared[1], tmp_path / "runs")
    folder = next((tmp_path / "runs").glob("backprop-*"))
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"test_accuracy": 1.0}))
    with pytest.raises(NoRuns, match=r"result\.json is not as it was written"):
        read([folder])
    assert read([copied(folder, tmp_path / "without")])[0].result["test_accuracy"] == 1.0, "no hash says otherwise"


def test_hashes_are_read_once_a_process(whole, monkeypatch: pytest.MonkeyPatch) -> None:
    from fitnets import files
    from fitnets.store import states_of

    config_in, place = whole
    runs = with_parents(plan(config_in(place)))
    monkeypatch.setattr(files, "_hashes", {})
    hashed: list[Path] = []
    whole_digest = files.hashlib.file_digest
    monkeypatch.setattr(
        files.hashlib, "file_digest", lambda file, kind: hashed.append(file.name) or whole_digest(file, kind)
    )
    for _ in range(2):
        assert set(states_of(runs, place / "runs").values()) == {"done"}
    assert len(hashed) == len(set(hashed)) > 20
