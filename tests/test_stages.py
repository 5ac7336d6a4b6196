"""The promises of the three stages, on real runs: what is trained, what stays bit-equal, what goes on."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fitnets import load_student, load_teacher
from fitnets.assemble import choose_nonlinearity, make_data, make_module
from fitnets.components import build
from fitnets.runs import Run, ensure, folder_of, plan, read_result, with_parents
from fitnets.stages.kd import KDModule
from fitnets.train import make_trainer
from tests.conftest import composed, go, plan_parents

CPU = torch.device("cpu")


def finished(cfg: dict[str, Any]) -> tuple[Run, Path]:
    """The run that a finished command named, and its folder."""
    run = plan(cfg)[-1]
    return run, folder_of(run, Path(cfg["runs_dir"]))


def state(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def differing(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in a if not torch.equal(a[name], b[name])}


def module_of(run: Run, runs_dir: Path) -> tuple[Any, Any]:
    """The stage's module before training, and its data."""
    parents = plan_parents(run, runs_dir)
    data = make_data(run, parents)
    return make_module(run, data, parents, CPU), data


def pick(cfg: dict[str, Any], stage: str, arm: str, seed: int = 0) -> Run:
    return next(r for r in plan(cfg) if (r.stage, r.arm, r.seed) == (stage, arm, seed))


# --------------------------------------------------------------------------------------- hint stage


@pytest.mark.parametrize("student", ["thin_deep", "thin_relu"])
def test_the_hint_stage_leaves_everything_above_the_guided_layer_bit_equal(small, student: str) -> None:
    """Parameters and buffers: thin_relu has batch-norm statistics above that any forward in train mode would move."""
    cfg = small("stage=hint", f"student={student}")
    go(cfg)
    run, folder = finished(cfg)
    fresh = state(module_of(run, Path(cfg["runs_dir"]))[0].nets["student"])
    changed = differing(fresh, load_file(folder / "student.safetensors"))
    guided = {name for name in fresh if name.split(".")[0] in ("conv1", "conv2", "conv3", "conv4")}
    assert changed == guided, "the blocks are 2 + 2 + 2 layers; middle is the end of the second"


def test_neither_network_runs_past_its_named_layer(small) -> None:
    cfg = small("stage=hint", "answers=online")
    go(cfg | {"stage": {"name": "teacher"}})
    run = plan(cfg)[-1]
    module, data = module_of(run, Path(cfg["runs_dir"]))
    ran: list[str] = []
    student, teacher = module.nets["student"], module.teacher.net.net
    for whose, net in (("student", student), ("teacher", teacher)):
        for name, child in net.named_children():
            child.register_forward_hook(lambda *_, label=f"{whose}.{name}": ran.append(label))
    batch = next(iter(data.train_dataloader()))
    module.training_loss(batch)
    module.eval()
    predicted = module.regressor(module.guided(batch.x))
    assert predicted.shape == module.hints(batch).shape
    # The named layers, conv4 and conv2, run, but the cut's own hook stops the pass before these hooks are called.
    assert set(ran) == {f"student.conv{n}" for n in range(1, 4)} | {
        f"teacher.{name}" for name in ("drop0", "conv1", "drop1")
    }


def test_a_branching_student_is_guided_by_what_runs(small, importable: Path) -> None:
    """Two branches, registered in another order than they run in; batch norm above the join stays bit-equal."""
    (importable / "branching.py").write_text(
        "from torch import nn\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, input_shape, num_classes):\n"
        "        super().__init__()\n"
        "        self.head = nn.Linear(8, num_classes)\n"
        "        self.top = nn.BatchNorm2d(8)\n"
        "        self.join = nn.BatchNorm2d(8)\n"
        "        self.right = nn.Conv2d(input_shape[0], 8, 3, padding=1)\n"
        "        self.left = nn.Conv2d(input_shape[0], 8, 1)\n\n"
        "    def forward(self, x):\n"
        "        return self.head(self.top(self.join(self.left(x) + self.right(x))).mean((2, 3)))\n"
    )
    drop = ["~student.net.blocks", "~student.net.pieces", "student.net._target_=branching.Net"]
    cfg = small("stage=hint", "hint.student_layer=join", *drop)
    go(cfg)
    run, folder = finished(cfg)
    fresh = state(module_of(run, Path(cfg["runs_dir"]))[0].nets["student"])
    changed = differing(fresh, load_file(folder / "student.safetensors"))
    assert changed <= {name for name in fresh if name.split(".")[0] in ("left", "right", "join")}
    assert {"left.weight", "right.weight", "join.weight", "join.running_mean"} <= changed


def test_the_hint_stage_uses_no_labels(small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights with every training label poisoned."""
    cfg = small("stage=hint")
    go(cfg)
    run, folder = finished(cfg)
    expected = load_file(folder / "student.safetensors")
    from fitnets.data import module as data_module

    original = data_module.DataModule.train_batch
    monkeypatch.setattr(
        data_module.DataModule,
        "train_batch",
        lambda self, index, t: original(self, index, t)._replace(y=torch.full((len(index),), 10**6)),
    )
    go(cfg | {"fresh": True})
    assert not differing(expected, load_file(folder / "student.safetensors"))
    assert "labels" not in run.spec


def spoiled_after_one_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learning rate that wrecks the network from the second of three epochs on."""
    from fitnets import optim

    monkeypatch.setattr(optim, "lr_factor", lambda _name, step, steps, _end: 1.0 if step < steps / 3 else 500.0)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_best_validation_hint_loss_is_what_goes_on(small, monkeypatch: pytest.MonkeyPatch, keep: str) -> None:
    """Whatever `keep` says of accuracies, a hint stage that gets worse hands on its first epoch's weights."""
    cfg = small("stage=hint", "epochs.hint=3", f"keep={keep}")
    go(cfg | {"stage": {"name": "teacher"}})
    spoiled_after_one_epoch(monkeypatch)
    go(cfg)
    run, folder = finished(cfg)
    rows = (folder / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("val/hint_loss")
    losses = [float(row.split(",")[column]) for row in rows[1:]]
    assert losses[0] == min(losses) and losses[0] < losses[-1]
    result = read_result(run, Path(cfg["runs_dir"]))
    assert result["kept_epoch"] == 1 and result["validation"]["hint_loss"] == pytest.approx(losses[0])
    module, data = module_of(run, Path(cfg["runs_dir"]))
    module.nets["student"].load_state_dict(load_file(folder / "student.safetensors"))
    module.nets["regressor"].load_state_dict(load_file(folder / "regressor.safetensors"))
    module.eval()
    batch = next(iter(data.val_dataloader()))
    loss = 0.5 * (module.regressor(module.guided(batch.x)) - module.hints(batch)).pow(2)
    assert loss.flatten(1).sum(1).mean().item() == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("last", 3)])
def test_keep_chooses_the_weights_that_are_tested(
    small, monkeypatch: pytest.MonkeyPatch, keep: str, epoch: int
) -> None:
    cfg = small("stage=backprop", "epochs.hint=1", "epochs.kd=2", f"keep={keep}")
    spoiled_after_one_epoch(monkeypatch)
    go(cfg)
    run, folder = finished(cfg)
    result = read_result(run, Path(cfg["runs_dir"]))
    assert result["kept_epoch"] == epoch
    data = make_data(run, {})
    with torch.no_grad():
        logits = load_student(folder)(data.images.images[data.val_index])
    accuracy = (logits.argmax(1) == data.images.labels[data.val_index]).float().mean().item()
    assert result["validation"]["accuracy"] == pytest.approx(accuracy)


def test_r2_is_of_the_regressor_on_validation(small) -> None:
    cfg = small("stage=hint")
    go(cfg)
    run, folder = finished(cfg)
    module, data = module_of(run, Path(cfg["runs_dir"]))
    module.nets["student"].load_state_dict(load_file(folder / "student.safetensors"))
    module.nets["regressor"].load_state_dict(load_file(folder / "regressor.safetensors"))
    module.eval()
    batch = next(iter(data.val_dataloader()))
    hint = module.hints(batch)
    error = (module.regressor(module.guided(batch.x)) - hint).pow(2).sum()
    expected = 1 - error / (hint - hint.mean(0)).pow(2).sum()
    result = read_result(run, Path(cfg["runs_dir"]))
    assert result["validation"]["r2"] == pytest.approx(expected.item(), abs=1e-4)


def test_the_regressor_is_never_part_of_the_student(compared) -> None:
    cfg, runs_dir = compared
    run = pick(cfg, "hint", "fitnet")
    student = module_of(run, runs_dir)[0].nets["student"]
    for trained in (run, pick(cfg, "kd", "fitnet")):
        folder = folder_of(trained, runs_dir)
        assert set(load_file(folder / "student.safetensors")) == set(student.state_dict())
        assert read_result(trained, runs_dir)["params"] == sum(p.numel() for p in student.parameters())
    assert (folder_of(pick(cfg, "hint", "fitnet"), runs_dir) / "regressor.safetensors").exists()
    assert not (folder / "regressor.safetensors").exists()


@pytest.mark.parametrize(
    ("choice", "sign", "expected"),
    [("auto", 1, "relu"), ("auto", -1, "linear"), ("linear", 1, "linear"), ("relu", -1, "relu")],
)
def test_an_undeclared_nonlinearity_is_probed(choice: str, sign: int, expected: str) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1))
    hints = torch.rand(8, 2, 3, 3)
    hints[0, 0, 0, 0] *= sign
    assert choose_nonlinearity(choice, net, "0", hints)[0] == expected


@pytest.mark.parametrize(("teacher", "expected"), [("wide_shallow", "maxout"), ("wide_relu", "relu")])
def test_the_regressor_ends_as_the_hint_layer_does_and_says_why(small, teacher: str, expected: str) -> None:
    cfg = composed(
        "stage=hint", f"teacher={teacher}", "teacher.net.widths=[8,12]", "epochs.teacher=1", "epochs.hint=1",
        "trainer=cpu", f"runs_dir={small()['runs_dir']}",
    )  # fmt: skip
    go(cfg)
    hint = read_result(finished(cfg)[0], Path(cfg["runs_dir"]))["hint"]
    assert hint["regressor_nonlinearity"] == expected and "declares" in hint["nonlinearity_because"]


# ------------------------------------------------------------------------------------------ teacher


@pytest.mark.parametrize("answers", ["cached", "online"])
@pytest.mark.parametrize("stage", ["hint", "kd"])
def test_the_teacher_is_bit_equal_after_any_stage(small, stage: str, answers: str) -> None:
    """Parameters and batch-norm buffers, also when somebody calls train() on everything."""
    cfg = composed(
        f"stage={stage}", "teacher=wide_relu", "teacher.net.widths=[8,12]", "student=thin_relu", "trainer=cpu",
        "epochs.teacher=1", "epochs.hint=1", "epochs.kd=1", f"answers={answers}", f"runs_dir={small()['runs_dir']}",
    )  # fmt: skip
    go(cfg | {"stage": {"name": "teacher"}})
    run, runs_dir = plan(cfg)[-1], Path(cfg["runs_dir"])
    before = load_file(folder_of(run.parents["teacher"], runs_dir) / "teacher.safetensors")
    module, data = module_of(run, runs_dir)
    trainer, _ = make_trainer(run, Path(cfg["runs_dir"]), run.spec["epochs"], cfg["trainer"], [])
    module.train()
    module.teacher.train()
    assert not any(m.training for m in module.teacher.modules())
    trainer.fit(module, datamodule=data)
    if stage == "kd":
        trainer.test(module, datamodule=data, verbose=False)
    net = module.teacher.net.net if stage == "hint" else module.teacher.net
    assert not differing(before, net.state_dict())
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("stage", ["hint", "kd"])
def test_the_teacher_is_in_no_checkpoint_and_no_optimizer(compared, tmp_path: Path, stage: str) -> None:
    cfg, runs_dir = compared
    cfg = copy.deepcopy(cfg) | {"answers": "online"}
    run = plan(cfg | {"stage": {"name": stage}})[-1]
    module, data = module_of(run, runs_dir)
    module.train()
    trainer, _ = make_trainer(run, tmp_path, run.spec["epochs"], cfg["trainer"] | {"checkpoint_seconds": 0}, [])
    trainer.fit(module, datamodule=data)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    own = {"hint": ("guided.net.", "regressor."), "kd": ("student.",)}[stage]
    assert all(name.startswith(own) for name in saved["state_dict"])
    owned = {id(p) for net in module.nets.values() for p in net.parameters()}
    optimized = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert optimized <= owned
    assert (optimized == owned) == (stage == "kd"), "in the hint stage the upper half is in no optimizer"


def test_load_teacher_gives_the_trained_one(compared) -> None:
    cfg, runs_dir = compared
    run = with_parents(plan(cfg | {"stage": {"name": "teacher"}}))[-1]
    teacher, data = load_teacher(folder_of(run, runs_dir)), make_data(run, plan_parents(run, runs_dir))
    batch = next(iter(data.test_dataloader()))
    accuracy = (teacher(batch.x).argmax(1) == batch.y).float().mean().item()
    assert accuracy == pytest.approx(read_result(run, runs_dir)["test_accuracy"])


# ------------------------------------------------------------------------------------------------ kd


def test_kd_starts_from_the_hint_weights_and_trains_them_on(compared) -> None:
    cfg, runs_dir = compared
    run = pick(cfg, "kd", "fitnet")
    start = state(module_of(run, runs_dir)[0].student)
    hint = load_file(folder_of(run.parents["hint"], runs_dir) / "student.safetensors")
    assert not differing(start, hint)
    assert differing(hint, load_file(folder_of(run, runs_dir) / "student.safetensors")) == set(hint), (
        "guided layers keep training"
    )


def test_kd_starts_with_fresh_optimizer_state_and_schedule(compared, tmp_path: Path) -> None:
    import pytorch_lightning as pl

    cfg, runs_dir = compared
    run = pick(cfg, "kd", "fitnet")
    seen: list[Any] = []

    class Look(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            optimizer = trainer.optimizers[0]
            seen.append((len(optimizer.state), optimizer.param_groups[0]["lr"], pl_module.lambda_))

    module, data = module_of(run, runs_dir)
    trainer, _ = make_trainer(run, tmp_path, run.spec["epochs"], cfg["trainer"], [Look()])
    trainer.fit(module, datamodule=data)
    assert seen == [(0, cfg["optimizer"]["lr"], cfg["lambda_schedule"]["start"])]


def test_lambda_is_annealed_per_epoch_of_the_kd_stage(compared) -> None:
    cfg, runs_dir = compared
    rows = (folder_of(pick(cfg, "kd", "fitnet"), runs_dir) / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("distill/lambda")
    values = [float(row.split(",")[column]) for row in rows[1:]]
    assert values == pytest.approx([build(cfg["lambda_schedule"], e, 3) for e in range(3)])
    assert values == pytest.approx([4.0, 2.5, 1.0])


def test_the_step_loss_is_equation_2(compared) -> None:
    cfg, runs_dir = compared
    run = pick(cfg, "kd", "kd")
    module, data = module_of(run, runs_dir)
    batch = next(iter(data.train_dataloader()))
    teacher = load_teacher(folder_of(run.parents["teacher"], runs_dir))
    logits, answer = module.student(batch.x), teacher(batch.x)
    hard = torch.nn.functional.cross_entropy(logits, batch.y)
    soft = -((answer / 3).softmax(1) * (logits / 3).log_softmax(1)).sum(1).mean()
    module.trainer = type("Trainer", (), {"current_epoch": 0})()
    assert isinstance(module, KDModule)
    assert module.training_loss(batch).item() == pytest.approx((hard + 4 * soft).item(), rel=1e-5)


@pytest.mark.parametrize("augment", ["augment=none", "augment=flip", "augment=crop4_flip augment.variants=3"])
def test_cached_and_online_answers_agree(small, augment: str) -> None:
    """To 1e-4 relative in every epoch's loss, for hints and for answers, in every way that can be cached."""
    histories = {}
    for answers in ("cached", "online"):
        cfg = small("stage=fitnet", f"answers={answers}", *augment.split())
        go(cfg)
        for run in with_parents(plan(cfg))[1:]:
            rows = (folder_of(run, Path(cfg["runs_dir"])) / "metrics.csv").read_text().splitlines()
            column = rows[0].split(",").index("train/hint_loss" if run.stage == "hint" else "train/loss")
            histories[answers, run.stage] = [float(row.split(",")[column]) for row in rows[1:]]
    for stage in ("hint", "kd"):
        assert histories["cached", stage] == pytest.approx(histories["online", stage], rel=1e-4)


def test_agreement_and_kl_come_with_every_kd_result(compared) -> None:
    cfg, runs_dir = compared
    for arm in ("kd", "fitnet"):
        run = pick(cfg, "kd", arm)
        result = read_result(run, runs_dir)
        student = load_student(folder_of(run, runs_dir))
        teacher = load_teacher(folder_of(run.parents["teacher"], runs_dir))
        batch = next(iter(make_data(run, plan_parents(run, runs_dir)).test_dataloader()))
        with torch.no_grad():
            s, t = student(batch.x).log_softmax(1), teacher(batch.x).log_softmax(1)
        agreement = (s.argmax(1) == t.argmax(1)).float().mean().item()
        kl = (t.exp() * (t - s)).sum(1).mean().item()
        assert result["test"]["agreement"] == pytest.approx(agreement)
        assert result["test"]["kl"] == pytest.approx(kl, rel=1e-3)
        assert {"agreement", "kl", "accuracy", "nll"} <= set(result["validation"])


def test_hintons_loss_runs_and_differs(small) -> None:
    results = {}
    for name in ("paper", "hinton"):
        cfg = small("stage=kd", f"kd_loss.name={name}")
        go(cfg)
        results[name] = load_file(finished(cfg)[1] / "student.safetensors")
    assert differing(results["paper"], results["hinton"])


# ------------------------------------------------------------------------------------ the test part


def test_the_test_part_is_read_once_at_the_end(small, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass over its 359 images in each of teacher, backprop and kd, after training; none in the hint stage."""
    from fitnets import train as training
    from fitnets.data.module import DataModule

    reads: list[tuple[str, int]] = []
    original, original_train = DataModule.test_batch, training.train
    current: dict[str, Any] = {}

    def train(run: Run, folder: Path, *rest: Any) -> None:
        current.update(run=run, folder=folder)
        original_train(run, folder, *rest)

    def test_batch(self: DataModule, index: torch.Tensor) -> Any:
        rows = (current["folder"] / "metrics.csv").read_text().splitlines()
        assert len(rows) == 1 + current["run"].spec["epochs"], "training is over"
        reads.append((current["run"].stage, len(index)))
        return original(self, index)

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(DataModule, "test_batch", test_batch)
    go(small("stage=fitnet"))
    go(small("stage=backprop"))
    assert reads == [("teacher", 359), ("kd", 359), ("backprop", 359)]


# ---------------------------------------------------------------------------------------- fair arms


def test_arms_start_from_the_same_weights_and_differ_by_seed(compared) -> None:
    cfg, runs_dir = compared
    starts = {
        (arm, seed): state(module_of(pick(cfg, stage, arm, seed), runs_dir)[0].nets["student"])
        for stage, arm in (("backprop", "backprop"), ("kd", "kd"), ("hint", "fitnet"))
        for seed in (0, 1)
    }
    for arm in ("kd", "fitnet"):
        for seed in (0, 1):
            assert not differing(starts[arm, seed], starts["backprop", seed])
    assert differing(starts["backprop", 0], starts["backprop", 1])


def test_arms_get_the_same_number_of_updates_in_the_same_order(compared) -> None:
    cfg, runs_dir = compared
    updates = {arm: 0 for arm in ("backprop", "kd", "fitnet")}
    orders: dict[str, list] = {arm: [] for arm in updates}
    for run in plan(cfg):
        if run.seed == 0:
            updates[run.arm] += read_result(run, runs_dir)["updates"]
            loader = make_data(run, plan_parents(run, runs_dir)).train_dataloader()
            orders[run.arm] += [batch.ids.tolist() for _ in range(run.spec["epochs"]) for batch in loader]
    assert set(updates.values()) == {5 * 18}
    assert orders["backprop"] == orders["kd"] == orders["fitnet"]


def test_ensure_hands_the_result_of_a_finished_run_back(compared) -> None:
    cfg, runs_dir = compared
    run = pick(cfg, "kd", "kd")

    def never(*_: Any) -> None:
        raise AssertionError("it is finished")

    result, trained = ensure(run, runs_dir, never)
    assert not trained and result["fingerprint"] == run.fingerprint
