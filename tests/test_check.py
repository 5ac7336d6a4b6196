"""Every kind of bad input is named, with what was expected and what to type; all problems come at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from fitnets.check import ConfigError, check_config, check_nets
from tests.conftest import ROOT, composed, go


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("temperature=0", "temperature is 0; it must be a number > 0: type temperature=3"),
        ("temperature=cold", "temperature is 'cold'"),
        ("temperature=nan", "temperature is nan"),
        ("temperature=null", "temperature is None"),
        ("epochs.kd=0", "epochs.kd is 0; it must be a whole number >= 1"),
        ("epochs.hint=2.5", "epochs.hint is 2.5"),
        ("batch_size=-1", "batch_size is -1"),
        ("seed=-1", "seed is -1; it must be a whole number >= 0"),
        ("seeds=[1]", "seeds is [1]; it must be 2 or more different whole numbers"),
        ("seeds=[1,1]", "seeds is [1, 1]"),
        ("seeds=3", "seeds is 3"),
        ("stage.arms=[kd,kd]", "each once: backprop | kd | fitnet"),
        ("fresh=no", "fresh is 'no'; type fresh= one of: true | false"),
        ("dry_run=1", "dry_run is 1; type dry_run= one of: true | false"),
        ("runs_dir=null", "runs_dir is None; it must be a name"),
        ("epochs=50", "epochs is 50; it has parts, set one of them: epochs.teacher, epochs.hint, epochs.kd"),
        ("kd_loss=hinton", "kd_loss is 'hinton'; it has parts, set one of them: kd_loss.name"),
        ("lambda_schedule=2", "lambda_schedule is 2; it has parts"),
        ("optimizer=sgd", "optimizer is 'sgd'; it has parts, set one of them: optimizer.lr, optimizer._target_"),
        ("teacher.recipe=null", "teacher.recipe is None; it has parts"),
        ("~hint.reduction", "hint.reduction is missing; type hint.reduction= one of: example | mean | code"),
        ("~teacher.net._target_", "teacher.net._target_ is missing; it must be a dotted path"),
        ("hint.teacher_layer=null", "hint.teacher_layer is None"),
        (
            "stage.arms=[kdd]",
            "stage.arms is ['kdd']; type stage.arms=[...] with some of, each once: backprop | kd | fitnet",
        ),
        ("+lambda_schedule.fraction=0", "lambda_schedule.fraction is 0"),
        ("lambda_schedule.start=-1", "lambda_schedule.start is -1"),
        ("kd_loss.name=hintons", "kd_loss.name is 'hintons'; type kd_loss.name= one of: paper | code | hinton"),
        ("kd_loss.alpha=2", "kd_loss.alpha is 2"),
        ("regressor=big", "regressor is 'big'; type regressor= one of: auto | strided | fc"),
        ("hint.nonlinearity=tanh", "auto | relu | linear | maxout"),
        ("hint.reduction=sum", "example | mean | code"),
        ("lr_schedule=step", "cosine | linear | exponential | steps | constant"),
        ("answers=cache", "cached | online"),
        ("keep=first", "last | best"),
        ("+momentum.end=0.9", "momentum is {'end': 0.9}; it must be null or have numbers"),
        ("+momentum={end:0.9,fraction:0.5}", "AdamW is given none: type momentum=null"),
        ("patience=0", "patience is 0; it must be null or a whole number >= 1"),
        ("dataset=hub", "dataset.path is '???'"),
        ("augment.flip=maybe", "augment.flip is 'maybe'; type augment.flip= one of: true | false"),
        ("optimizer.lr=0", "optimizer.lr is 0"),
        ("dataset.labels=some", "dataset.labels is 'some'; it must be all or a whole number >= 1"),
        ("dataset.test_fraction=2", "dataset.test_fraction is 2"),
        ("dataset.val_fraction=1", "dataset.val_fraction is 1"),
        ("trainer.threads=0", "trainer.threads is 0"),
        ("student.net._target_=fitnets.models.thin.thik", "thin.py defines no 'thik'; it has: "),
        ("teacher.net._target_=fitnets.models.nope.Net", "there is no module 'fitnets.models.nope'"),
        ("dataset._target_=digits", "'digits' is no dotted path"),
    ],
)
def test_bad_names_and_numbers(override: str, told: str) -> None:
    problems = check_config(composed(override))
    assert len(problems) == 1 and told in problems[0]


def test_the_defaults_and_every_group_pass() -> None:
    assert check_config(composed()) == [] and check_nets(composed()) == []


def test_names_and_numbers_are_checked_without_torch() -> None:
    """About a second for the whole command: nothing heavy is imported for them."""
    code = (
        "import sys\nfrom fitnets.check import check_config\nfrom fitnets.runs import plan\n"
        "from hydra import compose, initialize_config_dir\nfrom omegaconf import OmegaConf\n"
        f"with initialize_config_dir({str(ROOT / 'conf')!r}, version_base='1.3'):\n"
        "    cfg = OmegaConf.to_container(compose('config'), resolve=True)\n"
        "assert check_config(cfg) == []\n[run.fingerprint for run in plan(cfg)]\n"
        "print([name for name in ('torch', 'sklearn', 'pytorch_lightning', 'matplotlib') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["hint.teacher_layer=nope"], "the teacher has no layer 'nope'; type hint.teacher_layer=NAME with one of: "),
        (
            ["hint.student_layer=classifier"],
            "no convolution takes 10 -> 192x2x2 (a map and a vector): type regressor=fc",
        ),
        (["regressor=strided", "hint.student_layer=conv9"], "type regressor=auto"),
        (["+init.student.gain=2"], "init.student fitnets.models.init.scaled cannot fill a network's weights"),
        (["+init.regressor.gain=2"], "init.regressor fitnets.models.init.scaled cannot fill a network's weights"),
        (["+teacher.init.gain=2"], "teacher.init fitnets.models.init.scaled cannot fill a network's weights"),
        (["dataset.val_fraction=0.0001"], "dataset digits has 1438 train, 0 validation and 359 test images"),
        (["trainer=cpu", "trainer.precision=16-mixed"], "trainer.precision=16-mixed needs a GPU"),
        (["dataset.labels=9"], "dataset.labels is 9; digits has 10 classes and 1168 training images"),
        (["dataset.labels=2000"], "type dataset.labels=N with N from 10 to 1168, or all"),
        (["student.net.blocks=[[4]]"], "the student fitnets.models.thin.thin_maxout does not run on 1x8x8 images"),
        (["+student.net.depth=3"], "unexpected keyword argument 'depth'"),
        (["optimizer._target_=torch.optim.Adum"], "optimizer torch.optim.Adum cannot be made"),
        (["+optimizer.momentum=1"], "optimizer torch.optim.AdamW cannot be made"),
        (["dataset._target_=fitnets.data.images.without"], "dataset digits cannot be read"),
    ],
)
def test_layers_shapes_and_components(overrides: list[str], told: str) -> None:
    cfg = composed("stage=hint", *overrides)
    assert check_config(cfg) == []
    problems = check_nets(cfg)
    assert len(problems) == 1 and told in problems[0], problems


def test_seeds_matter_to_compare_only() -> None:
    assert check_config(composed("stage=kd", "seeds=[0]")) == []


def test_layers_and_shapes_are_checked_without_lightning() -> None:
    code = (
        "import sys\nfrom fitnets.check import check_nets\nfrom tests.conftest import composed\n"
        "lightning = [name for name in sys.modules if name.startswith(('pytorch_lightning', 'torchmetrics'))]\n"
        "assert check_nets(composed('stage=hint')) == []\nprint(lightning, 'pytorch_lightning' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.strip() == "[] False", answer.stderr


def test_a_wrong_class_count_is_named(importable: Path) -> None:
    (importable / "hundred.py").write_text(
        "from torch import nn\n\ndef net(input_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 100))\n"
    )
    drop = ["~student.net.blocks", "~student.net.pieces"]
    problems = check_nets(composed("stage=backprop", *drop, "student.net._target_=hundred.net"))
    assert len(problems) == 1 and "shape (100,)" in problems[0] and "10 classes" in problems[0]


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    problems = check_nets(composed("trainer=gpu"))
    assert problems == ["trainer=gpu, but torch finds no GPU here: type trainer=auto or trainer=cpu"]


def test_all_problems_come_in_one_message_and_nothing_is_made(small) -> None:
    cfg = small("temperature=-1", "keep=x", "answers=y")
    with pytest.raises(ConfigError) as raised:
        go(cfg)
    assert "3 problems; nothing was trained" in str(raised.value) and len(raised.value.problems) == 3
    assert not Path(cfg["runs_dir"]).exists()


def test_options_that_a_schedule_does_not_take_are_told_before_training() -> None:
    problems = check_nets(composed("lambda_schedule._target_=fitnets.losses.saturating", "+preprocess.scal=2"))
    assert len(problems) == 2
    assert "missing a required argument: 'begin'; its options are: start, end, begin, saturate" in problems[0]
    assert "got an unexpected keyword argument 'scal'" in problems[1]
