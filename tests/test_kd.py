"""The KD stage and the joint ones: what their loss is, what is logged of it, how the answers come."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from fitnets import load_student, load_teacher
from fitnets.assemble import make_data
from fitnets.components import build
from fitnets.plan import plan
from fitnets.store import folder_of, read_result, with_parents
from fitnets.training.engine import make_trainer
from tests.conftest import go, named_runs, one_in, plan_parents
from tests.trained import differing, figures, finished, pick, stage_of, trained_stage, weights


def test_kd_starts_from_the_hint_weights_and_trains_them_on(compared) -> None:
    config, runs_dir = compared
    run = pick(config, "kd", "fitnet")
    hint = weights(run.parents["student"], runs_dir)
    assert not differing(stage_of(run, runs_dir)[0].net.state_dict(), hint)
    assert differing(hint, weights(run, runs_dir)) == set(hint), "guided layers keep training"


def test_kd_starts_with_fresh_optimizer_state_and_schedule(compared, tmp_path: Path) -> None:
    config, runs_dir = compared
    run = pick(config, "kd", "fitnet")
    seen: list[Any] = []

    class Look(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            optimizer = trainer.optimizers[0]
            seen.append((len(optimizer.state), optimizer.param_groups[0]["lr"], pl_module.weights()["soft"]))

    stage, data = stage_of(run, runs_dir)
    trainer, _ = make_trainer(run, tmp_path, run.spec["epochs"], config["trainer"], [Look()])
    trainer.fit(stage, datamodule=data)
    assert seen == [(0, config["optimizer"]["lr"], config["lambda_schedule"]["start"])]


def test_lambda_is_annealed_per_epoch_of_the_kd_stage(compared) -> None:
    config, runs_dir = compared
    values = figures(pick(config, "kd", "fitnet"), runs_dir, "distill/lambda")
    assert values == pytest.approx([build(config["lambda_schedule"], epoch, 3) for epoch in range(3)])
    assert values == pytest.approx([4.0, 2.5, 1.0])


def at_epoch(stage: Any, epoch: int) -> Any:
    """The stage as it is in an epoch of its training."""
    stage.trainer = type("Trainer", (), {"current_epoch": epoch})()
    return stage


def kd_loss(logits: torch.Tensor, answer: torch.Tensor, labels: torch.Tensor, weight: float) -> torch.Tensor:
    """Paper eq. 2 at temperature 3."""
    soft = -((answer / 3).softmax(1) * (logits / 3).log_softmax(1)).sum(1).mean()
    return F.cross_entropy(logits, labels) + weight * soft


def test_the_step_loss_is_equation_2(compared) -> None:
    config, runs_dir = compared
    run = pick(config, "kd", "kd")
    stage, data = stage_of(run, runs_dir)
    batch = next(iter(data.train_dataloader()))
    teacher = load_teacher(folder_of(run.parents["teacher"], runs_dir))
    with torch.no_grad():
        expected = kd_loss(stage.net(batch.x), teacher(batch.x), batch.y, 4.0)
        assert at_epoch(stage, 0).training_loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("word", ["joint_label_backprop", "joint_hint_backprop", "joint_label_kd", "joint_hint_kd"])
def test_a_joint_stage_sums_its_two_losses(trained_arm, word: str) -> None:
    """Written out from the trained networks: the end's own loss and that at the guided layer, in the last epoch."""
    (run,), runs_dir = trained_arm(word)
    stage, data = trained_stage(run, runs_dir)
    batch = next(iter(data.val_dataloader()))
    student, features = stage.net, []
    student.get_submodule("conv4").register_forward_hook(lambda *call: features.append(call[-1]))
    with torch.no_grad():
        logits = student(batch.x)
        end = F.cross_entropy(logits, batch.y)
        if "teacher" in run.parents:
            teacher, hints = load_teacher(folder_of(run.parents["teacher"], runs_dir)).net, []
            teacher.get_submodule("conv2").register_forward_hook(lambda *call: hints.append(call[-1]))
            answer = teacher(batch.x)
        if word.endswith("_kd"):
            end = kd_loss(logits, answer, batch.y, 1.0)
        if "label" in word:
            side = F.cross_entropy(stage.head(features[0]), batch.y)
        else:
            regressor = stage.nets["regressor"]
            side = 0.5 * (regressor(features[0]) - hints[0]).square().flatten(1).sum(1).mean()
        total = at_epoch(stage, 2).training_loss(batch)
    assert side > 0.01 and total.item() == pytest.approx((end + side).item(), rel=1e-4)


def test_terms_and_weights_are_logged_and_add_up(trained_arm) -> None:
    """Every term raw and weighted; the loss is their sum. A hint joined to KD is called hint_loss, labels side."""
    sides = {"joint_hint_kd": "hint_loss", "joint_label_kd": "side"}
    for word, side in sides.items():
        (run,), runs_dir = trained_arm(word)
        names = ("train/loss", "distill/hard", "distill/soft", "distill/lambda", f"distill/{side}")
        columns = [figures(run, runs_dir, name) for name in names]
        for loss, hard, soft, weight, at_side in zip(*columns, strict=True):
            assert loss == pytest.approx(hard + weight * soft + at_side, rel=1e-4)
        assert columns[3] == pytest.approx([4.0, 2.5, 1.0])
        assert figures(run, runs_dir, "distill/temperature") == [3.0] * 3
        weighted = figures(run, runs_dir, "distill/weighted_soft")
        assert weighted == pytest.approx([w * s for w, s in zip(columns[3], columns[2], strict=True)], rel=1e-5)


AUGMENTED = ["augment=crop4_flip augment.variants=3", "augment=flip", "augment=none"]


@pytest.mark.parametrize("augment", one_in(3, AUGMENTED))
def test_cached_and_online_answers_agree(small, augment: str) -> None:
    """To 1e-4 relative in every epoch's loss, for hints and for answers, in every way that can be cached."""
    histories = {}
    for answers in ("cached", "online"):
        config = small("stage=fitnet", f"answers={answers}", *augment.split())
        go(config)
        for run, name in zip(plan(config), ("train/hint_loss", "train/loss"), strict=True):
            histories[answers, run.stage] = figures(run, Path(config["runs_dir"]), name)
    for stage in ("hint", "kd"):
        assert histories["cached", stage] == pytest.approx(histories["online", stage], rel=1e-4)


def test_agreement_and_kl_come_with_every_kd_result(compared) -> None:
    config, runs_dir = compared
    for run in (run for run in named_runs(config) if run.stage == "kd" and run.seed == 0):
        result = read_result(run, runs_dir)
        student = load_student(folder_of(run, runs_dir))
        teacher = load_teacher(folder_of(run.parents["teacher"], runs_dir))
        batch = next(iter(make_data(run, plan_parents(run, runs_dir)).test_dataloader()))
        with torch.no_grad():
            s, t = student(batch.x).log_softmax(1), teacher(batch.x).log_softmax(1)
        agreement = (s.argmax(1) == t.argmax(1)).float().mean().item()
        assert result["test"]["agreement"] == pytest.approx(agreement)
        assert result["test"]["kl"] == pytest.approx((t.exp() * (t - s)).sum(1).mean().item(), rel=1e-3)
        assert {"agreement", "kl", "accuracy", "nll"} <= set(result["validation"])


@pytest.mark.parametrize("loss", one_in(3, ["code", "hinton", "dkd"]))
def test_another_kd_loss_has_its_own_terms_and_is_finite_without_labels(small, loss: str) -> None:
    """Where most labels are hidden, some batches have none."""
    config = small("stage=kd", f"kd_loss={loss}", "dataset.labels=10", "epochs.hint=1", "epochs.kd=1")
    go(config)
    run, folder = finished(config)
    terms = {"code": {"hard", "soft"}, "hinton": {"hard", "soft"}, "dkd": {"hard", "target", "others"}}[loss]
    header = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {name.removeprefix("distill/weighted_") for name in header if "weighted_" in name} == terms
    columns = [figures(run, Path(config["runs_dir"]), f"distill/{term}") for term in terms]
    assert torch.isfinite(torch.tensor(columns)).all() and all(column[0] > 0 for column in columns)


def test_crd_keeps_its_state_beside_the_student(small) -> None:
    """Projection heads and memory banks have files of their own, and a student that goes on has none of them."""
    words = ["stage=joint_hint_backprop", "hint_loss=crd", "hint=penultimate", "hint_loss.negatives=32"]
    config = small(*words, "epochs.hint=1", "epochs.kd=1")
    go(config)
    run, folder = finished(config)
    (teacher,) = (run for run in with_parents([run]) if run.trains == "teacher")
    files = {path.stem for path in folder.glob("*.safetensors")}
    assert {"student", "student_head", "teacher_head", "student_bank", "teacher_bank"} <= files
    fresh = stage_of(run, Path(config["runs_dir"]))[0].net.state_dict()
    assert weights(run, Path(config["runs_dir"])).keys() == fresh.keys()
    data = make_data(run, plan_parents(run, Path(config["runs_dir"])))
    for name in ("student", "teacher"):
        rows = weights(run, Path(config["runs_dir"]), f"{name}_bank")["rows"]
        length = rows[data.train_index].norm(dim=1)
        assert torch.allclose(length, torch.ones_like(length), atol=1e-5), "every training sample was written"
    result = read_result(run, Path(config["runs_dir"]))
    assert result["hint"] == {"hint_layer": "classifier:input", "guided_layer": "classifier:input"}
    assert teacher.fingerprint == result["parents"]["teacher"]
