"""Curricula that the data or the plan refuse before the training, and with what words; types: test_config.py."""

from pathlib import Path

import numpy as np
import pytest

from fitnets.commands import Config
from fitnets.store import with_parents
from fitnets.training.preflight import problems_with
from tests.conftest import composed, named_runs


def problems(config: Config) -> list[str]:
    return problems_with(config, with_parents(named_runs(config)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["curriculum/score=svm_margin", "curriculum.score.folds=500"], "folds is 500; the smallest"),
        (["curriculum.pacing.start=1e-9", "curriculum.pacing._target_=tests.planted.per_cent"], "must give fractions"),
        (["dataset.labels=50"], "batch_size is 64 and stage backprop draws from 50 samples"),
        (["batch_size=1168"], "batch_size is 1168 and stage backprop draws from 1168 samples"),
        (
            ["curriculum/pacing=single_step", "epochs.hint=0", "epochs.kd=2"],
            "has let in 234 of 1,168 samples when stage backprop ends after 36 updates",
        ),
        (
            ["curriculum/pacing=exponential_varied", "curriculum.pacing.start=0.01"],
            "curriculum/pacing=step curriculum.pacing.full_at=2",
        ),
    ],
)
def test_scores_and_pacings_are_checked_against_the_data(words: list[str], message: str) -> None:
    drop = ["~curriculum.pacing.power", "~curriculum.pacing.full_at"] if "per_cent" in words[-1] else []
    (problem,) = problems(composed("stage=backprop", "curriculum=easy_to_hard", *words, *drop))
    assert message in problem


def test_a_file_of_the_wrong_length_says_how_many_it_must_hold(small, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "few.txt", np.arange(10.0))
    cfg = small(
        "stage=score", "curriculum=easy_to_hard", "curriculum/score=file", f"curriculum.score.path={tmp_path}/few.txt"
    )
    (problem,) = problems(cfg)
    assert "holds numbers of shape (10,); it must hold 1438 finite numbers" in problem


def test_an_empty_score_file_is_told(small, tmp_path: Path) -> None:
    (tmp_path / "empty.npy").touch()
    words = ["curriculum=easy_to_hard", "curriculum/score=file", f"curriculum.score.path={tmp_path}/empty.npy"]
    (problem,) = problems(small("stage=score", *words))
    assert "empty.npy cannot be read" in problem


def test_samples_may_be_left_out_on_purpose() -> None:
    words = ["curriculum=easy_to_hard", "curriculum/pacing=step", "curriculum.pacing.full_at=2"]
    assert problems(composed("stage=backprop", *words)) == []
