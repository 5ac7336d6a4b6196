"""What changes while a command reads it is told, and nothing is kept of it."""

import threading
import time
from pathlib import Path

import pytest

from fitnets.data import decoded, files
from fitnets.data.identity import DataError, content
from fitnets.ending import StageError
from fitnets.files import folder_at, locked, write_result
from fitnets.plan import plan
from fitnets.store import ensure, folder_of, read_result
from fitnets.training.recorder import Recorder
from tests.conftest import faked_folder, go


def test_pictures_that_are_written_while_they_are_decoded_are_refused(tmp_path: Path, monkeypatch) -> None:
    folder, before = faked_folder(tmp_path / "mine", sizes=(8,)), decoded._heads
    first, *_, last = sorted(folder.rglob("*.png"))

    def heads(*given):  # somebody's copy goes on after the hash was taken
        found = before(*given)
        first.write_bytes(last.read_bytes())
        return found

    monkeypatch.setattr(decoded, "_heads", heads)
    with pytest.raises(DataError, match="mine has changed while it was read; wait until nobody writes there"):
        files.folder(str(folder), 0, str(tmp_path / "kept"), size=8)
    assert not [*tmp_path.glob("kept/*.safetensors"), *tmp_path.glob("kept/*.json")]
    content.cache_clear()  # the next command
    assert len(files.folder(str(folder), 0, str(tmp_path / "kept"), size=8).labels)


def test_a_parent_that_is_trained_anew_meanwhile_is_waited_for(small, tmp_path: Path) -> None:
    """And one that is gone is named: each was a traceback of a file that is missing."""
    config = small("stage=kd")
    (child,), runs_dir = plan(config), Path(config["runs_dir"])
    (teacher,) = child.parents.values()
    write_result(folder_at(folder_of(teacher, runs_dir)), {"anew": 1})
    whole, said = folder_of(teacher, runs_dir), list[str]()
    held = threading.Event()

    def trained_anew() -> None:
        with locked(runs_dir / ".locks" / f"{teacher.name}.lock"):
            whole.rename(tmp_path / "gone")
            held.set()
            while not said:
                time.sleep(0.01)
            (tmp_path / "gone").rename(whole)

    def train(run, folder, parents) -> None:
        write_result(folder, {"from": read_result(teacher, runs_dir)})

    other = threading.Thread(target=trained_anew)
    other.start()
    held.wait()
    result, _ = ensure(child, runs_dir, train, say=said.append)
    other.join()
    assert result == {"from": {"anew": 1}} and "is training it; waiting for its result" in said[0]
    (whole / "result.json").unlink()
    with pytest.raises(StageError, match=r"starts from teacher .* seed 0, which is gone or broken now"):
        ensure(child, runs_dir, train, fresh=True)


def test_rows_that_somebody_else_has_written_are_not_kept(small, monkeypatch) -> None:
    config = small("stage=teacher")
    (run,), before = plan(config), Recorder.keep

    def keep(self, *given):
        file = self.folder / "metrics.csv"
        file.write_text(file.read_text() * 2)
        return before(self, *given)

    monkeypatch.setattr(Recorder, "keep", keep)
    go(config)
    rows = (folder_of(run, Path(config["runs_dir"])) / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + run.spec["epochs"]
