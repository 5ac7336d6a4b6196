"""Recipes: the paper's and its code's rules to the digit, stop rules, retraining, and who wins over whom."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from fitnets.config import check
from fitnets.losses.logits import soft_cross_entropy
from fitnets.losses.schedules import linear, saturating
from fitnets.models.blocks import MaxoutConv2d
from fitnets.plan import plan
from fitnets.stages.optimizers import RMSPropFloor, bound_norms, lr_factor, make_optimizer, parameter_factors
from fitnets.store import read_result, with_parents
from tests.conftest import composed, go
from tests.trained import differing, figures, stage_of, state, weights
from tests.watched import Watch


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
    assert {linear(epoch, 9, start=2.0, end=2.0) for epoch in range(9)} == {2.0}
    rising = [linear(epoch, 4, start=1.0, end=4.0) for epoch in range(4)]
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


def optimizer_of(net: nn.Module, recipe: dict, updates: int = 10, projector: nn.Module | None = None) -> dict:
    factors = parameter_factors(net, net.parameters(), recipe, {})
    return make_optimizer(net, factors, projector or nn.ModuleList(), recipe, updates)


def test_convolutions_have_their_own_rate_and_filters_their_bound() -> None:
    net = tiny()
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0}, "lr_schedule": "constant"}
    made = optimizer_of(net, recipe | {"conv_lr_scale": 0.05, "max_norm": True})
    rates = {group["lr"]: len(group["params"]) for group in made["optimizer"].param_groups}
    assert rates == {1.0: 2, 0.05: 2}
    net[0].weight.data.fill_(1.0)
    net[0].weight.grad = torch.zeros_like(net[0].weight)
    made["optimizer"].step()
    assert torch.allclose(net[0].weight.flatten(1).norm(dim=1), torch.full((4,), 0.5), atol=1e-4)
    untouched = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    bound_norms([(untouched, 1.0)])
    assert torch.allclose(untouched, torch.tensor([[0.6, 0.8], [0.3, 0.4]]), atol=1e-5)


def test_no_bound_moves_a_weight_that_does_not_learn() -> None:
    """Those above the guided layer in a hint stage, those of a frozen half after it."""
    below, above = tiny()[0], tiny()[0]
    above.weight.data.fill_(1.0)
    before, net = above.weight.clone(), nn.Sequential(below, above)
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0}, "lr_schedule": "constant", "max_norm": True}
    factors = parameter_factors(net, below.parameters(), recipe, {})
    optimizer = make_optimizer(net, factors, nn.ModuleList(), recipe, 10)["optimizer"]
    below.weight.grad = torch.zeros_like(below.weight)
    optimizer.step()
    assert torch.equal(above.weight, before)


def test_what_learns_along_has_the_plain_rate_and_the_guided_half_its_own() -> None:
    net, projector = tiny(), nn.ModuleList([nn.Linear(3, 2)])
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0}, "lr_schedule": "constant", "conv_lr_scale": 0.5}
    factors = parameter_factors(net, net.parameters(), recipe, {0.1: list(net[0].parameters())})
    groups = make_optimizer(net, factors, projector, recipe, 10)["optimizer"].param_groups
    rates = {p: group["lr"] for group in groups for p in group["params"]}
    assert {rates[p] for p in net[0].parameters()} == {0.05}, "the recipe's factor times the guided half's"
    assert {rates[p] for p in [*net[2].parameters(), *projector.parameters()]} == {1.0}


def test_momentum_rises_and_a_resumed_schedule_goes_on() -> None:
    recipe = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0, "momentum": 0.5},
        "lr_schedule": "linear",
        "lr_end": 0.0,
        "momentum": {"end": 0.7, "fraction": 0.5},
    }

    def made() -> tuple:
        net = tiny()
        configured = optimizer_of(net, recipe)
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
    assert code["hint_loss"]["reduction"] == "code" and code["kd_loss"]["student_temperature"] == 1
    assert paper["hint_loss"]["reduction"] == "example" and "student_temperature" not in paper["kd_loss"]
    assert code["kd_loss"]["weights"]["soft"] == code["lambda_schedule"]
    assert code["lambda_schedule"] == {
        "_target_": "fitnets.losses.schedules.saturating",
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


@pytest.mark.slow
def test_patience_stops_a_stage_after_epochs_without_a_better_figure(small) -> None:
    config = small("stage=fitnet", "patience=2", "epochs.hint=40", "epochs.kd=40", "keep=best", "optimizer.lr=0.05")
    go(config)
    runs_dir = Path(config["runs_dir"])
    stopped = 0
    for run, (name, sign) in zip(plan(config), (("val/hint_loss", 1), ("val/accuracy", -1)), strict=True):
        found = [sign * figure for figure in figures(run, runs_dir, name)]
        assert read_result(run, runs_dir)["epochs"] == len(found)
        if len(found) < 40:
            stopped += 1
            assert min(found[-2:]) >= min(found[:-2]) and found.index(min(found)) == len(found) - 3
    assert stopped, "at this learning rate at least one stage stops early"


def test_retrained_on_all_for_the_epochs_that_validation_found(small) -> None:
    """And the test part is read once by each arm: not by the first training, which searched the epochs."""
    config, watch = small("stage=fitnet", "retrain_on_all=true", "keep=best", "epochs.hint=3", "epochs.kd=4"), Watch()
    watch.run(config)
    runs_dir = Path(config["runs_dir"])
    runs = with_parents(plan(config))
    assert len(runs) == 6, "teacher, hint and KD, each searched and then retrained"
    for run in plan(config):
        result, searched = read_result(run, runs_dir), read_result(run.parents["searched"], runs_dir)
        assert result["epochs"] == searched["kept_epoch"] and result["train_on"] == "all"
        assert result["validation"] == searched["validation"], "what was validation is trained on now"
        assert result["updates"] == result["epochs"] * (1438 // 64), "train and validation images"
        assert "searched" in run.parents["teacher"].parents
    read = {(run.stage, "searched" in run.parents): watch.of(run).tested for run in runs}
    retrained = {run.stage: read_result(run, runs_dir)["epochs"] for run in runs if "searched" in run.parents}
    assert {which: reads for which, reads in read.items() if reads} == {
        (stage, True): [(retrained[stage], 359)] for stage in ("teacher", "kd")
    }
    assert all(read_result(run, runs_dir)["test"] == {} for run in runs if "searched" not in run.parents)


def test_a_frozen_guided_half_stays_and_a_random_teacher_is_untrained(trained_arm) -> None:
    frozen, runs_dir = trained_arm("frozen_guided")
    hint, kd = (weights(run, runs_dir) for run in frozen)
    assert {name.partition(".")[0] for name in differing(hint, kd)} == {"conv5", "conv6", "classifier"}
    (hint_run, kd_run), _ = trained_arm("random_teacher")
    untrained = hint_run.parents["teacher"]
    assert read_result(untrained, runs_dir)["updates"] == 0
    teacher = stage_of(hint_run, runs_dir)[0].teacher.net.net
    assert not differing(weights(untrained, runs_dir, "teacher"), state(teacher))
    assert kd_run.parents["teacher"].spec["epochs"] == 1, "KD's own teacher is the trained one"


def test_cached_answers_of_augmented_images_are_refused() -> None:
    (problem,) = check(composed("augment=crop4_flip", "answers=cached").resolved)
    assert "answers=online" in problem
