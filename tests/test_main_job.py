"""The main job at its real size: what the README promises of `make run`, over two of its five seeds."""

import csv
from pathlib import Path

import pytest

from fitnets.plan import plan
from fitnets.store import read_result
from tests.conftest import composed, go


@pytest.mark.slow
def test_the_main_job_on_real_digits(tmp_path: Path) -> None:
    accuracy: dict[str, dict[str, float]] = {}
    for labels in ("all", "50"):
        config = composed("seeds=[0,1]", f"dataset.labels={labels}", f"runs_dir={tmp_path}")
        before = set(tmp_path.glob("reports/*"))
        go(config)
        (folder,) = set(tmp_path.glob("reports/*")) - before
        with open(folder / "table.csv") as file:
            table = list(csv.DictReader(file))
        assert {row["updates"] for row in table} == {"810"}
        accuracy[labels] = {row["arm"]: float(row["accuracy_mean"]) for row in table}
        teacher = read_result(plan(config.at_stage("teacher"))[0], tmp_path)
        assert teacher["test_accuracy"] >= 0.98
    assert all(accuracy["all"][arm] > 0.96 for arm in ("backprop", "kd", "fitnet")), accuracy
    assert all(accuracy["50"][arm] > accuracy["50"]["backprop"] + 0.08 for arm in ("kd", "fitnet")), accuracy
    assert len(list(tmp_path.glob("hint-*"))) == 2, "few labels reuse the hint stages"
