"""The main job at its real size: what the README promises of `make run`, over two of its five seeds."""

from pathlib import Path

import pytest

from fitnets.report.compare import rows
from fitnets.runs import plan, read_result, with_parents
from tests.conftest import composed, go


@pytest.mark.slow
def test_the_main_job_on_real_digits(tmp_path: Path) -> None:
    accuracy = {}
    for labels in ("all", 50):
        cfg = composed("seeds=[0,1]", f"dataset.labels={labels}", f"runs_dir={tmp_path}")
        go(cfg)
        named = plan(cfg)
        results = {run.fingerprint: read_result(run, tmp_path) for run in with_parents(named)}
        for row in rows(named, results, cfg["stage"]["arms"]):
            accuracy[labels, row.arm] = row.accuracy_mean
            assert row.updates == 810
        teacher = next(result for result in results.values() if result["stage"] == "teacher")
        assert teacher["test_accuracy"] >= 0.98
    assert all(accuracy["all", arm] > 0.96 for arm in ("backprop", "kd", "fitnet")), accuracy
    assert all(accuracy[50, arm] > accuracy[50, "backprop"] + 0.08 for arm in ("kd", "fitnet")), accuracy
    assert len(list(tmp_path.glob("hint-*"))) == 2, "few labels reuse the hint stages"
