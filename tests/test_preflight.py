"""What data, networks, layers and devices refuse before any training, and with what words; types: test_config.py."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fitnets.commands import Config
from fitnets.config import ConfigError, check
from fitnets.store import with_parents
from fitnets.training.preflight import problems_with
from tests.conftest import ROOT, composed, go, named_runs


def problems(*words: str) -> list[str]:
    config: Config = composed(*words)
    assert check(config) == []
    return problems_with(config, with_parents(named_runs(config)))


def test_the_defaults_pass() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hint.teacher_layer=nope"], "the teacher has no layer 'nope'; type hint.teacher_layer=NAME with one of: "),
        (
            ["hint.student_layer=classifier"],
            "no convolution takes 10 -> 192x2x2 (a map and a vector): type regressor=fc",
        ),
        (["regressor=strided", "hint.student_layer=conv9"], "type regressor=auto"),
        (["dataset.val_fraction=0.0001", "+dataset.val_split=last"], "would have no picture of 0, 1, 2"),
        (["trainer=cpu", "trainer.precision=16-mixed"], "trainer.precision=16-mixed needs a GPU"),
        (["dataset.labels=9"], "dataset.labels is 9; digits has 10 classes and 1168 training images"),
        (["dataset.labels=2000"], "type dataset.labels=N with N from 10 to 1168, or all"),
        (["student.net.blocks=[[4]]"], "the student fitnets.models.thin.thin_maxout does not run on 1x8x8 images"),
        (["+student.net.depth=3"], "unexpected keyword argument 'depth'"),
        (["optimizer._target_=torch.optim.Adum"], "optimizer torch.optim.Adum cannot be made"),
        (["+optimizer.momentum=1"], "optimizer torch.optim.AdamW cannot be made"),
    ],
)
def test_layers_shapes_and_components(words: list[str], message: str) -> None:
    (problem,) = problems("stage=hint", *words)
    assert message in problem


def test_layers_matter_where_a_hint_is_trained_or_labels_stand_in_its_place() -> None:
    assert problems("stage.arms=[backprop,kd]", "hint.student_layer=nope") == []
    (problem,) = problems("stage=label_hint_backprop", "hint.student_layer=nope")
    assert "the student has no layer 'nope'" in problem


def test_a_wrong_class_count_is_named(importable: Path) -> None:
    (importable / "hundred.py").write_text(
        "from torch import nn\n\ndef net(input_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 100))\n"
    )
    drop = ["~student.net.blocks", "~student.net.pieces"]
    (problem,) = problems("stage=backprop", *drop, "student.net._target_=hundred.net")
    assert "shape (100,)" in problem and "10 classes" in problem


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert problems("trainer=gpu") == ["trainer=gpu, but torch finds no GPU here: type trainer=auto or trainer=cpu"]


def test_all_problems_of_a_config_come_in_one_message_and_nothing_is_made(small) -> None:
    config = small("temperature=-1", "keep=x", "answers=y")
    with pytest.raises(ConfigError) as raised:
        go(config)
    assert "3 problems; nothing was trained" in str(raised.value) and len(raised.value.problems) == 3
    assert not Path(config["runs_dir"]).exists()


def test_names_numbers_and_the_plan_need_no_torch() -> None:
    """About a second for a command whose work is done."""
    code = (
        "import sys\nfrom fitnets.commands import composed\nfrom fitnets.config import check\n"
        "from fitnets.plan import plan\nfrom hydra import initialize_config_dir\n"
        f"with initialize_config_dir({str(ROOT / 'conf')!r}, version_base='1.3'):\n"
        "    config = composed(['stage=fitnet'])\n"
        "    assert check(config) == []\n    [run.fingerprint for run in plan(config)]\n"
        "print({'torch', 'sklearn', 'pytorch_lightning', 'matplotlib'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.strip() == "set()", answer.stderr
