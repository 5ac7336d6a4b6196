"""Folders under a runs_dir that no command of ours has made, or that somebody has changed by hand."""

import importlib
from pathlib import Path

import pytest

from fitnets.files import StorageError, made_once


def script(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["runs.py", *words])
    return importlib.import_module("runs").main()  # of scripts/


@pytest.mark.parametrize(
    ("config", "result"),
    [
        ("parents: 3", "{}"),
        ("parents: [1]", "{}"),
        ("parents:", "{}"),
        ("parents: {}", '{"test": {"accuracy": "<b>"}}'),
        ("parents: {}", '{"test": 3}'),
    ],
)
def test_what_is_no_run_is_left_out_of_the_list(config, result, tmp_path: Path, capsys, monkeypatch) -> None:
    for name, text, found in (("odd", config, result), ("half", "parents: {}", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
        (tmp_path / name / "result.json").write_text(found)
    assert script(monkeypatch, "--runs-dir", str(tmp_path)) == 0
    said = capsys.readouterr()
    assert said.err.startswith("odd is left out, it is no run: ") and said.out.startswith("half ")


def test_runs_that_name_each_other_as_parents_can_be_removed(tmp_path: Path, capsys, monkeypatch) -> None:
    for name, parent in (("a", "b"), ("b", "a"), ("c", "c")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(f"parents: {{student: {parent}}}")
    assert script(monkeypatch, "--runs-dir", str(tmp_path), "--remove", "c", "c") == 0
    assert script(monkeypatch, "--runs-dir", str(tmp_path), "--remove", "a", "--with-children") == 0
    assert capsys.readouterr().out == "removed c\nremoved a\nremoved b\n"


def test_answers_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    (tmp_path / ".answers").write_text("a file, where a folder should be")
    with pytest.raises(StorageError, match=r"\.answers cannot be written: File exists; something is in the way"):
        made_once(tmp_path / ".answers" / "a.npy", lambda: None)


def test_a_page_that_cannot_be_written_is_one_line(compared, tmp_path: Path, capsys) -> None:
    config, _ = compared
    report = importlib.import_module("report")
    assert report.main(["--runs-dir", str(config["runs_dir"]), "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"{tmp_path} cannot be written: ")
