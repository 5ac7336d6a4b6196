"""Scores: their direction on planted difficulty, who scores whom, what is said of them and what they are reused by."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from fitnets.assemble import make_data
from fitnets.curriculum import scores
from fitnets.curriculum.agreement import agreements
from fitnets.data.images import folds_of
from fitnets.load import load_teacher
from fitnets.plan import plan
from fitnets.store import folder_of
from tests.conftest import ROOT, SMALL, composed, go, quick
from tests.planted import hard_ones

FIXED = sorted(
    file.stem for file in (ROOT / "conf" / "curriculum" / "score").glob("*.yaml") if file.stem != "current_loss"
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Words for a small training on digits of which a fifth is noisy; one runs_dir, so teachers are shared."""
    runs_dir = tmp_path_factory.mktemp("planted")
    nets = [word for word in SMALL if "net" in word and "student" not in word]
    data = ["dataset._target_=tests.planted.planted", "dataset.name=planted"]
    return [
        *nets,
        *data,
        "student.net.blocks=[[8],[12],[16]]",
        "epochs.teacher=8",
        "trainer=cpu",
        f"runs_dir={runs_dir}",
    ]


def scored(words: list[str], name: str, *more: str) -> tuple[Path, dict, torch.Tensor]:
    cfg = composed("stage=score", "curriculum=easy_to_hard", f"curriculum/score={name}", *words, *more)
    go(cfg)
    folder = folder_of(plan(cfg)[-1], Path(cfg["runs_dir"]))
    return (
        folder,
        json.loads((folder / "result.json").read_text()),
        load_file(folder / "scores.safetensors")["difficulty"],
    )


BRIEF = {"self_taught": 6, "learned_epoch": 6, "c_score": 6, "hint_error": 3}


@pytest.mark.parametrize("name", quick(FIXED, lambda name: name in ("file", "teacher_loss")))
def test_planted_hard_samples_rank_hardest(planted: list[str], tmp_path: Path, name: str) -> None:
    more = [f"curriculum.score.epochs={BRIEF[name]}"] if name in BRIEF else []
    more += ["curriculum.score.repeats=1", "curriculum.score.folds=3"] if name == "c_score" else []
    if name == "file":  # the user's numbers: here larger is easier
        np.save(tmp_path / "easy.npy", (~hard_ones(1438)).float().numpy())
        more = [f"curriculum.score.path={tmp_path}/easy.npy", "curriculum.score.higher_is=easier"]
    folder, result, difficulty = scored(planted, name, *more)
    known = torch.isfinite(difficulty)
    assert int(known.sum()) == 1168 == result["score"]["samples"], "the train part, and no validation image"
    auroc = roc_auc_score(hard_ones(len(difficulty))[known].numpy(), difficulty[known].numpy())
    assert auroc > 0.65, f"{name} ranks the noisy ones no higher: AUROC {auroc:.3f}"
    assert (folder / "media" / "easiest_hardest.png").stat().st_size > 5000
    if name.startswith("teacher"):
        run = plan(composed("stage=score", "curriculum=easy_to_hard", f"curriculum/score={name}", *planted))[-1]
        data = make_data(run, {})
        teacher = load_teacher(folder_of(run.parents["teacher"], folder.parent))
        with torch.no_grad():
            answers = teacher(data.images.images[data.train_index]).double().softmax(1)
        sure = float((answers.amax(1) > 0.999).double().mean())
        assert sure < 0.5 and result["score"]["teacher_sure"] == pytest.approx(sure, abs=1e-6)


def test_scores_are_reused_and_agree_with_each_other(planted: list[str], capsys) -> None:
    scored(planted, "teacher_loss")
    capsys.readouterr()
    folder, _, _ = scored(planted, "teacher_confidence")
    out = capsys.readouterr().out
    assert "rank agreement with      teacher_loss: 1.000" in out, "1 - p and -log p rank alike"
    assert "c_score" in out and "% sure of" in out
    assert agreements(folder, "teacher_confidence")["teacher_loss"] == pytest.approx(1, abs=1e-6)
    scored(planted, "teacher_confidence")
    assert "Nothing to train" in capsys.readouterr().out


def test_wrong_labels_rank_hardest_and_are_said(planted: list[str]) -> None:
    words = [word for word in planted if not word.startswith("dataset.")]
    _, result, _ = scored(words, "svm_margin", "dataset.label_noise=0.3")
    assert result["score"]["auroc_of_wrong_labels"] > 0.9


def test_folds_are_balanced_and_leave_every_sample_out_once() -> None:
    labels = torch.arange(103) % 10
    folds = folds_of(labels, 4, seed=0)
    assert folds.bincount().tolist() == [26, 26, 26, 25]
    counts = torch.stack([labels[folds == fold].bincount(minlength=10) for fold in range(4)])
    assert (counts.amax(0) - counts.amin(0)).max() <= 1
    assert not torch.equal(folds, folds_of(labels, 4, seed=1))


class Pixels:
    """As much of a data module as a score of pixels looks at."""

    def __init__(self, x: torch.Tensor, labels: torch.Tensor):
        self.x, self.given_labels, self.train_index = x, labels, torch.arange(len(x))

    def preprocessed(self, index: torch.Tensor) -> torch.Tensor:
        return self.x[index]


def test_the_svm_that_scores_a_sample_has_not_seen_it() -> None:
    """Labels drawn at random: an SVM knows those that it was fitted on, and guesses the others."""
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(80, 60, generator=generator), torch.randint(2, (80,), generator=generator)
    margin = scores.svm_margin(scores.Scored(Pixels(x, labels), {}), "pixels", 60, 5, 100.0)
    assert 0.3 < (margin < 0).double().mean() < 0.7, "as often right as chance has it"


def test_the_student_that_scores_a_sample_has_not_seen_it(planted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fold's student answers for that fold alone, and every sample is scored in every repeat."""
    run = plan(composed("stage=score", "curriculum=easy_to_hard", "curriculum/score=c_score", *planted))[-1]
    data = make_data(run, {})
    monkeypatch.setattr(scores, "load_student", lambda folder, _trust: folder.name)
    asked = {}

    class Asked(scores.Scored):
        def logits(self, net: str, index: torch.Tensor) -> torch.Tensor:
            asked[net] = index
            return torch.zeros(len(index), 10, dtype=torch.float64)

    difficulty = scores.c_score(Asked(data, {role: Path(role) for role in run.parents}), 4, 2, 15, 0)
    assert asked.keys() == run.parents.keys() and len(asked) == 8
    for role, parent in run.parents.items():
        assert torch.equal(asked[role], data.fold(*parent.spec["held_out"])), "which it was trained without"
    assert torch.allclose(difficulty, torch.full_like(difficulty, np.log(10))), "each sample once a repeat"


def test_fold_students_have_not_seen_their_fold(planted: list[str]) -> None:
    cfg = composed("stage=score", "curriculum=easy_to_hard", "curriculum/score=c_score", *planted)
    (score,) = plan(cfg)
    assert len(score.parents) == 4 * 2 and len({run.fingerprint for run in score.parents.values()}) == 8
    whole = make_data(score, {})
    for role in ("fold0_0", "fold3_1"):
        run = score.parents[role]
        held_out = whole.fold(*run.spec["held_out"])
        data = make_data(run, {})
        assert not torch.isin(held_out, data.train_index).any()
        assert len(held_out) + len(data.train_index) == len(whole.train_index)


def test_scores_use_all_labels_and_are_shared(planted: list[str]) -> None:
    words = ["stage=backprop", "curriculum=easy_to_hard", "curriculum/score=self_taught", "batch_size=16", *planted]
    few, every = (plan(composed(*words, f"dataset.labels={labels}"))[0] for labels in (50, "all"))
    assert few.fingerprint != every.fingerprint
    assert few.parents["score"].fingerprint == every.parents["score"].fingerprint
    assert few.parents["score"].parents["student"].spec["labels"] == "all"
