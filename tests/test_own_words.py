"""What a user's own stage or loss may leave out, and what it gets wrong: said before any training."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from fitnets.config import check
from fitnets.plan import plan
from fitnets.store import folder_of, read_result, with_parents
from fitnets.training.preflight import problems_with
from tests.conftest import ROOT, composed, go, named_runs

MINE = '''
import torch
import torch.nn.functional as F

from fitnets.stages.hint import Hint
from fitnets.stages.kd import KD
from fitnets.stages.supervised import Supervised


class Means(Hint):
    """The guided layer's mean is the hint's: no regressor."""

    def terms(self, batch):
        ours, theirs = self.features(batch.x).features[0], self.hints(batch).features[0]
        return {"means": (ours.mean((1, 2, 3)) - theirs.mean((1, 2, 3))).square().mean()}


class Reversed(KD):
    """KL(student || teacher) where the teacher is sure: a mask, which the meta device does not know."""

    def terms(self, batch):
        ours, theirs = self(batch.x).log_softmax(1), self.answers(batch).logits.log_softmax(1)
        sure = theirs.exp().amax(1) > -1
        return {"reverse": F.kl_div(theirs[sure], ours[sure], reduction="batchmean", log_target=True)}


class Plain(Supervised):
    def terms(self, batch):
        return F.cross_entropy(self(batch.x), batch.y)


class Single(Supervised):
    def terms(self, batch):
        return {"each": F.cross_entropy(self(batch.x), batch.y, reduction="none"), "number": 3.0}


class Idle(Supervised):
    def terms(self, batch):
        return {"idle": self(batch.x).detach().mean()}


class Misspelt(Supervised):
    def weights(self):
        return {"los": 2.0}


class Optional(Supervised):
    def terms(self, batch):
        return {"loss": self.inputs.options["smoothing"] * self(batch.x).mean()}


class Broken(KD):
    def terms(self, batch):
        sure = self(batch.x).amax(1) > -torch.inf
        return {"kd": self.answers(batch).logits[sure].nothing()}


def plain_loss(student, teacher, batch, **_):
    return F.mse_loss(student.logits, teacher.logits)


def failing_loss(student, teacher, batch, **_):
    return {"loss": student.logits.mean() + undefined}
'''
KD = """title: a
_target_: fitnets.stages.kd.KD
trains: student
needs: {teacher: teacher}
labels: visible
decided_by: [kd_loss]
tested: true
"""


@pytest.fixture
def mine(importable: Path) -> Path:
    (importable / "mine.py").write_text(MINE)
    return importable


def problems(*words: str) -> list[str]:
    config = composed(*words)
    assert check(config.resolved) == []
    return problems_with(config, with_parents(named_runs(config)))


def test_a_hint_stage_with_terms_of_its_own_needs_no_objective_and_is_judged_by_its_own(small, mine: Path) -> None:
    config = small("stage=hint", "stage._target_=mine.Means", "stage.decided_by=[hint]", "epochs.hint=3", "keep=best")
    go(config)
    (run,), runs_dir = plan(config), Path(config["runs_dir"])
    assert "hint_loss" not in run.spec
    result, folder = read_result(run, runs_dir), folder_of(run, runs_dir)
    assert result is not None and "r2" not in result["validation"] and "regressor" not in result["hint"]
    assert {file.name for file in folder.glob("*.safetensors")} == {"student.safetensors", "preprocess.safetensors"}
    assert not (folder / "media" / "hint_maps.png").exists(), "nothing predicts the hint"
    with open(folder / "metrics.csv") as file:
        losses = [float(row["val/hint_loss"]) for row in csv.DictReader(file)]
    assert result["validation"]["hint_loss"] == min(losses) and losses[-1] < losses[0] < 1, "of its own terms"


def test_so_does_a_kd_stage(small, mine: Path) -> None:
    config = small("stage=kd", "stage._target_=mine.Reversed", "stage.decided_by=[]", "epochs.kd=1")
    assert problems_with(config, with_parents(plan(config))) == []
    go(config)
    result = read_result(plan(config)[-1], Path(config["runs_dir"]))
    assert result is not None and 0 < result["test_accuracy"] < 1 and "kd_loss" not in plan(config)[-1].spec


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["stage=hint", "stage.decided_by=[hint]"],
            "fitnets.stages.hint.Hint uses hint_loss: add it to decided_by in the stage's YAML",
        ),
        (["stage=kd", "stage.decided_by=[]"], "fitnets.stages.kd.KD uses kd_loss: add it to decided_by"),
        (["stage=kd", "~stage.needs.teacher"], "KD uses a teacher: type needs: {teacher: teacher} in the stage's YAML"),
        (["stage=backprop", "stage._target_=mine.Plain"], "the terms of mine.Plain are a Tensor: return them by name"),
        (["stage=backprop", "stage._target_=mine.Single"], "'each' of mine.Single has shape (2,): reduce it"),
        (["stage=backprop", "stage._target_=mine.Single"], "'number' of mine.Single is a float: keep it a tensor"),
        (["stage=backprop", "stage._target_=mine.Idle"], "no term of mine.Idle depends on what it trains: idle"),
        (["stage=backprop", "stage._target_=mine.Misspelt"], "weights() of mine.Misspelt has 'los', which is no term"),
        (
            ["stage=backprop", "stage._target_=mine.Optional", "+stage.options.smothing=0.1"],
            "stage.options has no 'smoothing'; it has: smothing",
        ),
        (
            ["stage=kd", "stage._target_=mine.Broken"],
            "AttributeError: 'Tensor' object has no attribute 'nothing' (m",
        ),
        (["stage=kd", "kd_loss._target_=mine.plain_loss"], "mine.plain_loss gives a Tensor: return its terms by name"),
        (["stage=kd", "kd_loss._target_=mine.failing_loss"], "name 'undefined' is not defined (mine.py, line "),
    ],
)
def test_what_is_wrong_in_ones_own_code_is_said_before_any_training(mine: Path, words: list[str], message: str) -> None:
    words = [*words, "~kd_loss.weights"] if "kd_loss._target_" in words[-1] else words
    assert any(message in problem for problem in problems(*words)), problems(*words)


@pytest.mark.parametrize(
    ("file", "text", "word", "message"),
    [
        (
            "arm/mine.yaml",
            "title: a\noverides: [stage=kd]\n",
            "stage.arms=[backprop,mine]",
            "arm/mine.yaml has title, ",
        ),
        ("stage/mine.yaml", f"name: other\n{KD}", "stage=mine", "stage/mine.yaml has name: other; type the file's own"),
        ("stage/mine.yaml", f"name: kd\n{KD}", "stage.arms=[backprop,mine]", "stage/mine.yaml has name: kd; type the"),
    ],
)
def test_files_that_are_not_what_they_should_be(tmp_path: Path, file: str, text: str, word: str, message: str) -> None:
    path = tmp_path / "conf" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    command = [sys.executable, str(ROOT / "run.py"), "--config-dir", "conf", word]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
