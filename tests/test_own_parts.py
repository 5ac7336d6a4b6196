"""Parts of a user's own, in a folder outside the repository: planned, trained, killed, resumed, compared like ours.

docs/extending.md has the same as prose, and tests/test_readme.py runs its blocks.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.conftest import ROOT, SMALL

MY_STAGES = '''
import os
from pathlib import Path

from fitnets.stages.supervised import Supervised


class Halved(Supervised):
    """Half the cross-entropy; it dies where a file says so."""

    def on_train_start(self):
        with open("starts.txt", "a") as file:
            print(self.trainer.global_step, file=file)

    def terms(self, batch):
        if Path("die").exists() and self.trainer.global_step == 7:
            os._exit(9)  # as a kill would: nothing is cleaned up
        return {"halved": super().terms(batch)["loss"]}

    def weights(self):
        return {"halved": 0.5}
'''
MY_LOSSES = '''
import torch
from torch import nn

from fitnets.losses.logits import hard_cross_entropy


def match(student, teacher, batch, power):
    """A KD loss as a function."""
    return {"hard": hard_cross_entropy(student.logits, batch.y),
            "match": (student.logits - teacher.logits).abs().pow(power).mean()}


class Calibrated(nn.Module):
    """A KD loss as a module with a parameter of its own, and a layer that has the student's name."""

    def __init__(self, context, start):
        super().__init__()
        self.scale = nn.Parameter(torch.full((context.num_classes,), start))
        self.student = nn.Linear(context.num_classes, context.num_classes)

    def forward(self, student, teacher, batch):
        return {"calibrated": (self.student(student.logits) * self.scale - teacher.logits).square().mean()}


def mean_maps(student, teacher, batch):
    """A hint loss as a function: the means of the maps at each layer."""
    pairs = zip(student.features, teacher.features)
    return {"means": sum((ours.mean((1, 2, 3)) - theirs.mean((1, 2, 3))).square().mean() for ours, theirs in pairs)}
'''
FILES = {
    "my_stages.py": MY_STAGES,
    "my_losses.py": MY_LOSSES,
    "my_conf/stage/halved.yaml": (
        "name: halved\ntitle: half the loss\n_target_: my_stages.Halved\ntrains: student\nneeds: {}\n"
        "labels: visible\ndecided_by: []\ntested: true\n"
    ),
    "my_conf/stage/hint_halved.yaml": "name: hint_halved\ntitle: hint then half the loss\nsteps: [hint, halved]\n",
    "my_conf/kd_loss/match.yaml": "_target_: my_losses.match\npower: 2\nweights: {hard: 0.5, match: 0.1}\n",
    "my_conf/kd_loss/calibrated.yaml": "_target_: my_losses.Calibrated\nstart: 1.0\n",
    "my_conf/hint_loss/mean_maps.yaml": "_target_: my_losses.mean_maps\n",
    "my_conf/arm/matched.yaml": "title: my match\noverrides: [stage=kd, kd_loss=match, kd_loss.power=1]\n",
    "my_conf/arm/calibrated.yaml": "title: my calibration\noverrides: [stage=kd, kd_loss=calibrated]\n",
    "my_conf/arm/both.yaml": (
        "title: all mine\noverrides: [stage=joint_hint_kd, hint_loss=mean_maps, kd_loss=match, hint=all]\n"
    ),
}
ARMS = {
    "backprop": "backprop",
    "matched": "my match",
    "calibrated": "my calibration",
    "both": "all mine",
    "hint_halved": "hint then half the loss",
    "halved": "half the loss",
}


pytestmark = pytest.mark.slow  # tests/test_extending.py runs a shorter one by default


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the user's, after a comparison that died in the middle and was started again."""
    folder = tmp_path_factory.mktemp("mine")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "die").touch()
    first = compare(folder)
    assert first.returncode == 9, first.stdout + first.stderr
    (folder / "die").unlink()
    second = compare(folder)
    assert second.returncode == 0, second.stdout + second.stderr
    (folder / "out.txt").write_text(second.stdout)
    return folder


def compare(folder: Path) -> subprocess.CompletedProcess:
    words = [f"stage.arms=[{','.join(ARMS)}]", "seeds=[0,1]", "epochs.hint=1", "epochs.kd=1", "trainer.threads=1"]
    words += ["trainer.checkpoint_seconds=0", "runs_dir=runs"]
    small = [word for word in SMALL if not word.startswith(("epochs.hint", "epochs.kd"))]
    command = [sys.executable, str(ROOT / "run.py"), "--config-dir", "my_conf", *small, *words]
    env = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600)


def test_a_stage_that_is_killed_goes_on_where_it_was(mine: Path) -> None:
    """And what was finished before is not trained again: one start of each run, a second one of the killed."""
    starts = [int(line) for line in (mine / "starts.txt").read_text().split()]
    assert len(starts) == 1 + 4, "hint_halved and halved, two seeds each"
    assert starts[0] == 0 and starts[1] == 7 and starts[2:] == [0, 0, 0]
    assert "half-finished" in (mine / "out.txt").read_text() or "resume" in (mine / "out.txt").read_text()


def test_my_arms_stand_in_the_table_and_on_the_page_under_their_titles(mine: Path) -> None:
    (report,) = (mine / "runs" / "reports").iterdir()
    table, page = (report / "table.md").read_text(), (report / "page.html").read_text()
    for title in ARMS.values():
        assert f"| {title} |" in table and title in page
    with open(report / "table.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == list(ARMS)
    assert len({row["updates"] for row in rows}) == 1, "equal updates"
    assert list(report.glob("*.png"))


def test_my_objectives_are_what_is_trained_with(mine: Path) -> None:
    """Each of its terms is in metrics.csv; its state lies beside the student, whose file holds the student alone."""
    terms = {"matched": {"hard", "match"}, "calibrated": {"calibrated"}, "both": {"hard", "match", "means"}}
    seen = {}
    for config in sorted((mine / "runs").glob("*/config.yaml")):
        for arm, names in terms.items():
            if f"name: {arm}\n" in config.read_text() and "-s0-" in config.parent.name:
                header = (config.parent / "metrics.csv").read_text().splitlines()[0].split(",")
                assert {name.removeprefix("distill/weighted_") for name in header if "weighted_" in name} == names
                seen[arm] = config.parent
    assert seen.keys() == terms.keys()
    students = [load_file(folder / "student.safetensors").keys() for folder in seen.values()]
    assert students[0] == students[1] == students[2]
    beside = {path.stem for path in seen["calibrated"].glob("*.safetensors")} - {"student", "preprocess"}
    (state,) = (load_file(seen["calibrated"] / f"{name}.safetensors") for name in beside)
    assert set(state) == {"scale", "student.weight", "student.bias"} and (state["scale"] != 1).all(), "it has learned"
