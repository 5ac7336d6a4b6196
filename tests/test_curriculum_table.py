"""scripts/reproduce.py on the curriculum's controls: every condition's figures from what is on disk."""

import csv
import json
import re
from itertools import combinations
from pathlib import Path
from statistics import mean

import pytest

import reproduce
from tests.conftest import SMALL

TINY = f"""
words: [experiment=curriculum/controls, {json.dumps(SMALL)[1:-1]}]
seeds: [0, 1]
axes:
  score: {{svm_margin: [curriculum/score=svm_margin]}}
  pacing: {{linear: []}}
  wrong_labels: {{0 %: [dataset.label_noise=0], 40 %: [dataset.label_noise=0.4]}}
  budget: {{all: [updates_per_epoch=2]}}
also:
  - at: {{score: svm_margin, pacing: "linear, balanced", wrong_labels: 40 %, budget: all}}
    words: [curriculum.balanced=true]
columns: orders
correlated: {{svm_margin: [], teacher_loss: []}}
"""


@pytest.mark.slow
def test_the_table_is_made_of_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.setitem(reproduce.TABLES, "tiny", tmp_path / "tiny.yaml")
    words = ["tiny", "--runs-dir", f"{tmp_path}/runs", "--out", f"{tmp_path}/out"]
    assert reproduce.main([*words, "--only-table"]) == 1 and "run it without --only-table" in capsys.readouterr().err
    assert reproduce.main(words) == 0
    with open(tmp_path / "out" / "tiny.csv") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert len(rows) == 3 * 4, "without and with wrong labels, and one more; four orders each"
    assert [row["arm"] for row in rows[:4]] == ["iid", "random", "hard_to_easy", "easy_to_hard"]
    assert {row["n"] for row in rows} == {"2"} and {row["pacing"] for row in rows} == {"linear", "linear, balanced"}
    for of in (rows[k : k + 4] for k in range(0, 12, 4)):
        iid, random, *_ = (float(row["accuracy_mean"]) for row in of)
        for row in of[1:]:
            assert float(row["vs_iid"]) == pytest.approx(float(row["accuracy_mean"]) - iid)
        for row in (of[0], *of[2:]):
            assert float(row["vs_random"]) == pytest.approx(float(row["accuracy_mean"]) - random)
        assert all(float(row["validation_mean"]) <= float(row["validation_best"]) <= 1 for row in of)

    of_runs = [column(folder / "metrics.csv", "val/accuracy") for folder in (tmp_path / "runs").glob("backprop-*")]
    (iid,) = [row for row in rows[:4] if row["arm"] == "iid"]
    pairs = [mean([mean(a), mean(b)]) for a, b in combinations(of_runs, 2)]
    assert any(float(iid["validation_mean"]) == pytest.approx(pair) for pair in pairs), "of two seeds' own means"
    text = (tmp_path / "out" / "tiny.md").read_text()
    assert len(re.findall(r"^\| svm_margin \| linear", text, re.MULTILINE)) == 12
    assert "| teacher_loss |" in text and "AUROC for the wrong labels" in text and "more than 99.9 % sure" in text
    assert (tmp_path / "out" / "tiny.png").stat().st_size > 10_000

    before = {file: file.read_text() for file in (tmp_path / "out").glob("*.[mc]*")}
    assert reproduce.main([*words, "--only-table"]) == 0
    assert {file: file.read_text() for file in before} == before, "the same table from what is on disk"


def column(path: Path, name: str) -> list[float]:
    with open(path) as file:
        return [float(row[name]) for row in csv.DictReader(file)]
