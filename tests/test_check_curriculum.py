"""Curricula that are refused before the training, and with what words."""

from pathlib import Path

import numpy as np
import pytest

from fitnets.check import check_config, check_nets
from tests.conftest import composed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["curriculum=easy_to_hard", "curriculum.score=c_scor"], "type curriculum/score=NAME with one of: c_score"),
        (["curriculum=easy_to_hard", "curriculum.pacing=linear"], "type curriculum/pacing=NAME with one of: comp"),
        (["curriculum=easy_to_hard", "curriculum.order=hard_to_easy"], "type curriculum/order=NAME"),
        (["curriculum=easy_to_hard", "curriculum.order.name=anti-curr"], "easy_to_hard | hard_to_easy | random"),
        (["curriculum=easy_to_hard", "curriculum.pacing.start=0"], "curriculum.pacing.start is 0"),
        (["curriculum=easy_to_hard", "curriculum.pacing.full_at=-1"], "curriculum.pacing.full_at is -1"),
        (["curriculum=easy_to_hard", "curriculum.balanced=yes"], "curriculum.balanced is 'yes'"),
        (["curriculum=self_paced", "curriculum.score.every=0"], "curriculum.score.every is 0"),
        (["+curriculum.score.name=c_score"], "curriculum.name is none, with score given"),
        (["curriculum=easy_to_hard", "curriculum.name=none"], "with balanced, order, pacing, score given"),
        (["curriculum=easy_to_hard", "+curriculum.ballanced=true"], "curriculum.ballanced is no key; curriculum has:"),
        (["curriculum=random", "+curriculum.order.seed=1"], "curriculum.order.seed is no key"),
        (["curriculum=self_paced", "+curriculum.score.evry=5"], "curriculum.score.evry is no key"),
        (["stage=score"], "stage=score needs a curriculum: type curriculum=easy_to_hard"),
        (["stage=score", "curriculum=self_paced"], "stage=score needs another score"),
        (["stage=teacher", "curriculum=easy_to_hard"], "stage=teacher knows no curriculum"),
        (["curriculum=easy_to_hard", "retrain_on_all=true"], "type retrain_on_all=false"),
        (["experiment=curriculum/controls", "stage.orders=[iid,anti]"], "iid | random | hard_to_easy | easy_to_hard"),
        (["experiment=curriculum/controls", "stage.arm=kdd"], "stage.arm is 'kdd'"),
        (["experiment=curriculum/controls", "curriculum=none"], "stage=controls needs a curriculum"),
        (["experiment=curriculum/controls", "seeds=[0]"], "seeds is [0]"),
        (["dataset.label_noise=1"], "dataset.label_noise is 1"),
        (["updates_per_epoch=0"], "updates_per_epoch is 0"),
        (["curriculum=easy_to_hard", "curriculum/score=file", "curriculum.score.path=no"], "there is no such file"),
        (["curriculum=easy_to_hard", "curriculum/score=svm_margin", "curriculum.score.features=teacher"], "has one"),
        (["curriculum=easy_to_hard", "curriculum.pacing._target_=fitnets.data.pacing.cubic"], "defines no 'cubic'"),
    ],
)  # fmt: skip
def test_bad_curricula(words: list[str], told: str) -> None:
    stage = [] if any(word.startswith(("stage", "experiment")) for word in words) else ["stage=backprop"]
    problems = check_config(composed(*stage, *words))
    assert len(problems) == 1 and told in problems[0], problems


def test_options_of_a_score_and_a_pacing_are_checked_before_training() -> None:
    cfg = composed(
        "stage=backprop", "curriculum=easy_to_hard", "+curriculum.pacing.begin=1", "+curriculum.score.fold=3"
    )
    problems = check_nets(cfg)
    assert len(problems) == 2 and "start, full_at, power" in problems[0] and "features, components" in problems[1]


@pytest.mark.parametrize(
    ("words", "told"),
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
def test_scores_and_pacings_are_checked_against_the_data(words: list[str], told: str) -> None:
    drop = ["~curriculum.pacing.power", "~curriculum.pacing.full_at"] if "per_cent" in words[-1] else []
    (problem,) = check_nets(composed("stage=backprop", "curriculum=easy_to_hard", *words, *drop))
    assert told in problem


def test_a_score_without_what_it_needs_is_told() -> None:
    (problem,) = check_config(composed("stage=backprop", "curriculum=self_paced", "~curriculum.score.every"))
    assert "so curriculum.score must have: every" in problem


def test_a_file_of_the_wrong_length_says_how_many_it_must_hold(small, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "few.txt", np.arange(10.0))
    cfg = small(
        "stage=score", "curriculum=easy_to_hard", "curriculum/score=file", f"curriculum.score.path={tmp_path}/few.txt"
    )
    (problem,) = check_nets(cfg)
    assert "holds numbers of shape (10,); it must hold 1438 finite numbers" in problem


def test_an_empty_score_file_is_told(small, tmp_path: Path) -> None:
    (tmp_path / "empty.npy").touch()
    words = ["curriculum=easy_to_hard", "curriculum/score=file", f"curriculum.score.path={tmp_path}/empty.npy"]
    (problem,) = check_nets(small("stage=score", *words))
    assert "empty.npy cannot be read" in problem


def test_samples_may_be_left_out_on_purpose() -> None:
    words = ["curriculum=easy_to_hard", "curriculum/pacing=step", "curriculum.pacing.full_at=2"]
    assert check_nets(composed("stage=backprop", *words)) == []
