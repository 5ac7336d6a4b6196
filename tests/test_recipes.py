"""Recipes: the paper's and its code's rules to the digit, stop rules, retraining, and who wins over whom."""

import csv
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from fitnets.check import check_config
from fitnets.losses import linear, saturating, soft_cross_entropy
from fitnets.models.maxout import MaxoutConv2d
from fitnets.optim import RMSPropFloor, bound_norms, lr_factor, make_optimizer
from fitnets.runs import ARMS, folder_of, plan, read_result, with_parents
from tests.conftest import composed, go


def test_rmsprop_is_pylearn2s() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    optimizer, square = RMSPropFloor([weight], lr=0.1), torch.zeros(3)
    expected = weight.detach().clone()
    for gradient in (torch.tensor([1.0, -2.0, 1e-9]), torch.tensor([0.5, 0.0, 1e-9])):
        weight.grad = gradient.clone()
        optimizer.step()
        square = 0.9 * square + 0.1 * gradient**2
        expected = expected - 0.1 * gradient / square.sqrt().clamp(min=1e-5)
    assert torch.allclose(weight.detach(), expected, rtol=1e-6)
    assert 3.0 - weight[2].item() < 1e-4, "below the floor a step shrinks with its gradient"


def test_lambda_of_the_original_code() -> None:
    cifar = {"start": 4.0, "end": 1.0, "begin": 5, "saturate": 400, "of_epochs": 288}
    at = {n: saturating(n - 1, 288, **cifar) for n in (4, 100, 200, 288)}  # n counts monitor calls, one before epoch 1
    assert {n: round(value, 3) for n, value in at.items()} == {4: 4.0, 100: 3.273, 200: 2.515, 288: 1.848}
    mnist = {"start": 4.0, "end": 0.0, "begin": 5, "saturate": 150, "of_epochs": 500}
    assert saturating(149, 500, **mnist) == 0.0 and saturating(499, 500, **mnist) == 0.0
    scaled = [saturating(epoch, 29, **cifar) for epoch in range(29)]
    assert scaled[0] > 3.9 and scaled[-1] == pytest.approx(1.848, abs=0.01), "a tenth of the epochs, the same end"


def test_constant_and_rising_lambda() -> None:
    assert {linear(epoch, 9, 2.0, 2.0) for epoch in range(9)} == {2.0}
    rising = [linear(epoch, 4, 1.0, 4.0) for epoch in range(4)]
    assert rising == [1.0, 2.0, 3.0, 4.0]


def test_the_codes_student_is_not_softened() -> None:
    student, teacher = torch.randn(5, 3), torch.randn(5, 3)
    expected = -((teacher / 3).softmax(1) * student.log_softmax(1)).sum(1).mean()
    assert torch.allclose(soft_cross_entropy(student, teacher, 3.0, student_temperature=1.0), expected)


def test_learning_rate_schedules() -> None:
    steps = [lr_factor("steps", step, 90_000, 0.0) for step in (39_999, 40_000, 60_000, 80_000)]
    assert steps == pytest.approx([1, 0.1, 0.01, 0.001])
    assert lr_factor("linear", 50, 100, 0.01) == pytest.approx(0.505)
    per_update = composed("teacher=maxout_mnist")["teacher"]["recipe"]["lr_end"]
    assert lr_factor("exponential", 1000, 7, per_update) == pytest.approx(1.00004**-1000, rel=1e-6)
    assert lr_factor("cosine", 100, 100, 0.1) == pytest.approx(0.1) and lr_factor("constant", 7, 9, 0.0) == 1


def tiny() -> nn.Sequential:
    return nn.Sequential(MaxoutConv2d(1, 2, 3, max_norm=0.5), nn.Flatten(), nn.Linear(2, 2))


def test_convolutions_have_their_own_rate_and_filters_their_bound() -> None:
    net = tiny()
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0}, "lr_schedule": "constant"}
    made = make_optimizer(net, net.parameters(), recipe | {"conv_lr_scale": 0.05, "max_norm": True}, 10)
    rates = {group["lr"]: len(group["params"]) for group in made["optimizer"].param_groups}
    assert rates == {1.0: 2, 0.05: 2}
    net[0].weight.data.fill_(1.0)
    net[0].weight.grad = torch.zeros_like(net[0].weight)
    made["optimizer"].step()
    assert torch.allclose(net[0].weight.flatten(1).norm(dim=1), torch.full((4,), 0.5), atol=1e-4)
    untouched = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    bound_norms([(untouched, 1.0)])
    assert torch.allclose(untouched, torch.tensor([[0.6, 0.8], [0.3, 0.4]]), atol=1e-5)


def test_momentum_rises_and_a_resumed_schedule_goes_on() -> None:
    recipe = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0, "momentum": 0.5},
        "lr_schedule": "linear",
        "lr_end": 0.0,
        "momentum": {"end": 0.7, "fraction": 0.5},
    }

    def made() -> tuple:
        net = tiny()
        configured = make_optimizer(net, net.parameters(), recipe, 10)
        return configured["optimizer"], configured["lr_scheduler"]["scheduler"]

    optimizer, scheduler = made()
    seen = []
    for _ in range(8):
        seen.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    assert seen[0] == 0.5 and seen[1] == pytest.approx(0.54) and seen[5:] == pytest.approx([0.7] * 3)
    again, other = made()
    again.load_state_dict(optimizer.state_dict())
    other.load_state_dict(json.loads(json.dumps(scheduler.state_dict())))
    again.step()
    other.step()
    assert again.param_groups[0]["lr"] == pytest.approx(0.1)


def test_experiment_over_recipe_over_defaults_and_the_command_line_over_all() -> None:
    mnist = ["experiment=paper/mnist", "dataset.path=owner/name"]
    assert composed()["optimizer"]["_target_"] == "torch.optim.AdamW"
    paper = composed(*mnist, "recipe=paper")
    assert paper["optimizer"] == {"_target_": "torch.optim.SGD", "lr": 0.0005, "decay": None, "floor": None}
    assert paper["init"]["name"] == "paper" and paper["dataset"]["name"] == "mnist" and not paper["max_norm"]
    code = composed(*mnist, "recipe=paper_code")
    assert code["max_norm"] and code["conv_lr_scale"] == 1.0 and code["optimizer"]["lr"] == 0.0005
    assert code["hint"]["reduction"] == "code" and code["kd_loss"]["name"] == "code"
    assert code["lambda_schedule"] == {
        "_target_": "fitnets.losses.saturating",
        "start": 4.0,
        "end": 0.0,
        "begin": 5,
        "saturate": 150,
        "of_epochs": 500,
    }
    cifar = composed("experiment=paper/cifar10_fitnet1", "recipe=paper_code")
    assert cifar["conv_lr_scale"] == 0.05 and cifar["epochs"]["kd"] == 288 and cifar["augment"]["crop"] == 8
    typed = composed(*mnist, "recipe=paper", "init=scaled", "optimizer.lr=0.1", "augment=flip", "teacher=wide_shallow")
    assert composed("experiment=paper_init")["init"]["name"] == "paper", "an experiment wins over its recipe's groups"
    assert typed["init"]["name"] == "scaled" and typed["optimizer"]["lr"] == 0.1 and typed["augment"]["flip"]
    assert typed["teacher"]["name"] == "wide_shallow", "the command line wins over an experiment's groups"


def test_a_teachers_recipe_is_untouched_by_the_students() -> None:
    def teacher(recipe: str) -> str:
        cfg = composed("stage=teacher", "experiment=paper/mnist", "dataset.path=owner/name", f"recipe={recipe}")
        return plan(cfg)[0].fingerprint

    assert teacher("paper") == teacher("paper_code") == teacher("modern")


def test_patience_stops_a_stage_after_epochs_without_a_better_figure(small) -> None:
    cfg = small("stage=fitnet", "patience=2", "epochs.hint=40", "epochs.kd=40", "keep=best", "optimizer.lr=0.05")
    go(cfg)
    runs_dir = Path(cfg["runs_dir"])
    stopped = 0
    for run in plan(cfg):
        result = read_result(run, runs_dir)
        assert result is not None
        with open(folder_of(run, runs_dir) / "metrics.csv") as file:
            rows = list(csv.DictReader(file))
        name, sign = ("val/hint_loss", 1) if run.stage == "hint" else ("val/accuracy", -1)
        figures = [sign * float(row[name]) for row in rows]
        assert result["epochs"] == len(rows)
        if len(rows) < 40:
            stopped += 1
            assert min(figures[-2:]) >= min(figures[:-2]) and figures.index(min(figures)) == len(figures) - 3
    assert stopped, "at this learning rate at least one stage stops early"


def test_retrained_on_all_for_the_epochs_that_validation_found(small) -> None:
    cfg = small("stage=fitnet", "retrain_on_all=true", "keep=best", "epochs.hint=3", "epochs.kd=4")
    go(cfg)
    runs_dir = Path(cfg["runs_dir"])
    runs = with_parents(plan(cfg))
    assert len(runs) == 6, "teacher, hint and KD, each found and then retrained"
    for run in plan(cfg):
        result, found = (read_result(r, runs_dir) for r in (run, run.parents["found"]))
        assert result is not None and found is not None
        assert result["epochs"] == found["kept_epoch"] and result["train_on"] == "all"
        assert result["validation"] == found["validation"], "what was validation is trained on now"
        assert result["updates"] == result["epochs"] * (1438 // 64), "train and validation images"
        assert "found" in run.parents["teacher"].parents


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_with_equal_updates(small, arm: str) -> None:
    cfg = small(f"stage={arm}", "epochs.hint=1", "epochs.kd=2", "epochs.teacher=1")
    go(cfg)
    runs_dir = Path(cfg["runs_dir"])
    results = [read_result(run, runs_dir) for run in plan(cfg)]
    assert sum(result["updates"] for result in results if result) == 3 * 18
    assert results[-1] is not None and results[-1]["test_accuracy"] > 0.05


def test_label_hints_leave_everything_above_the_guided_layer_as_it_was(small) -> None:
    from safetensors.torch import load_file

    cfg = small("stage=label_hint_kd", "epochs.hint=1", "epochs.kd=1", "epochs.teacher=1")
    go(cfg)
    hint = plan(cfg)[0]
    other = small("stage=label_hint_kd", "epochs.hint=2", "epochs.kd=1", "epochs.teacher=1")
    go(other)
    after = [load_file(folder_of(p, Path(cfg["runs_dir"])) / "student.safetensors") for p in (hint, plan(other)[0])]
    same = {name for name in after[0] if torch.equal(after[0][name], after[1][name])}
    assert {n for n in after[0] if n.startswith(("conv5", "conv6", "classifier"))} == same
    assert set(after[0]) == set(after[1]) and not any("head" in name for name in after[0])


def test_a_frozen_guided_half_stays_and_a_random_teacher_is_untrained(small) -> None:
    from safetensors.torch import load_file

    frozen = small("stage=frozen_guided", "epochs.hint=1", "epochs.kd=1", "epochs.teacher=1")
    go(frozen)
    runs_dir = Path(frozen["runs_dir"])
    hint, kd = (load_file(folder_of(run, runs_dir) / "student.safetensors") for run in plan(frozen))
    moved = {name.partition(".")[0] for name in hint if not torch.equal(hint[name], kd[name])}
    assert moved == {"conv5", "conv6", "classifier"}
    random = small("stage=random_teacher", "epochs.hint=1", "epochs.kd=1", "epochs.teacher=1")
    go(random)
    run = plan(random)
    untrained = read_result(run[0].parents["teacher"], runs_dir)
    assert untrained is not None and untrained["updates"] == 0
    assert run[1].parents["teacher"].spec["epochs"] == 1, "KD's own teacher is the trained one"


def test_joint_hint_sums_kd_and_the_hint_loss_and_keeps_no_regressor(small) -> None:
    from safetensors.torch import load_file

    cfg = small("stage=joint_hint_kd", "epochs.hint=1", "epochs.kd=1", "epochs.teacher=1")
    go(cfg)
    folder = folder_of(plan(cfg)[0], Path(cfg["runs_dir"]))
    with open(folder / "metrics.csv") as file:
        row = next(csv.DictReader(file))
    total = float(row["distill/hard"]) + float(row["distill/lambda"]) * float(row["distill/soft"])
    assert float(row["train/loss"]) == pytest.approx(total + float(row["distill/side"]), rel=1e-4)
    names = set(load_file(folder / "student.safetensors"))
    assert names == set(load_file(folder / "student.safetensors")) and not any("head" in n for n in names)


def test_cached_answers_of_augmented_images_are_refused() -> None:
    problems = check_config(composed("augment=crop4_flip", "answers=cached"))
    assert len(problems) == 1 and "type answers=online" in problems[0]
