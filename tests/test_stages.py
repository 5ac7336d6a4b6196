"""What every stage in conf/stage promises, on a small training of each: nobody's teacher moves, arms are comparable."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fitnets import load_student, load_teacher
from fitnets.assemble import make_data
from fitnets.data.batch import UNLABELLED
from fitnets.data.module import DataModule
from fitnets.plan import plan
from fitnets.store import Run, folder_of, read_result
from fitnets.training.engine import train
from tests.conftest import composed, go, named_runs, one_in, plan_parents
from tests.stopping import Stop, StopAt
from tests.trained import differing, figures, finished, pick, stage_of, state, trained_stage, weights
from tests.watched import SMALL, Watched, stage_files, train_all

FILES = stage_files()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Every arm that conf/stage has, trained at small sizes, and what was seen of it. Only read it."""
    return train_all(tmp_path_factory.mktemp("watched") / "runs")


WITHOUT_LABELS = [name for name, stage in FILES.items() if stage.get("labels") == "none"]
WITH_TEACHER = [name for name, stage in FILES.items() if "teacher" in stage.get("needs", {})]


def run_of(watched: Watched, stage: str) -> Run:
    """The run of a stage, wherever it is a step."""
    return plan(watched.config.at_stage(stage))[0]


# ----------------------------------------------------------------------------------------- teachers


def test_the_teacher_is_bit_equal_after_a_whole_training_and_never_runs_in_train_mode(watched: Watched) -> None:
    """Parameters and batch norm's buffers, after training, testing, measuring and drawing; its answers kept or not."""
    seen = set()
    for training in watched.watch.trainings.values():
        run = training.run
        assert len(training.teachers) == ("teacher" in run.parents), run
        for teacher in training.teachers:
            seen.add((run.arm.name, run.spec["answers"]))
            assert teacher.forwards and not teacher.in_train_mode, run
            assert not differing(teacher.before, state(teacher.net)), run
            assert not differing(teacher.before, weights(run.parents["teacher"], watched.runs_dir, "teacher"))
            assert all(p.grad is None and not p.requires_grad for p in teacher.net.parameters())
    assert {arm for arm, _ in seen} >= {arm for arm, runs in watched.arms.items() if "teacher" in runs[-1].parents}
    assert {how for _, how in seen} == {"cached", "online"}


@pytest.mark.parametrize("name", WITH_TEACHER)
def test_the_teacher_stays_in_eval_mode_whatever_anyone_calls(watched: Watched, name: str) -> None:
    stage, _ = stage_of(run_of(watched, name), watched.runs_dir)
    stage.train()
    stage.teacher.train()
    assert not any(module.training for module in stage.teacher.modules()) and stage.net.training
    assert not any(p.requires_grad for p in stage.teacher.parameters())


@pytest.mark.parametrize("name", WITH_TEACHER)
def test_the_teacher_is_in_no_checkpoint_and_no_optimizer(watched: Watched, tmp_path: Path, name: str) -> None:
    """No tensor of the checkpoint, wherever it stands, is one of the teacher's."""
    run = run_of(watched, name)
    run = replace(run, spec=run.spec | {"answers": "online"})
    options = watched.config["trainer"] | {"checkpoint_seconds": 0}
    optimized: list[int] = []

    class Look(StopAt):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            groups = trainer.optimizers[0].param_groups
            optimized.extend(id(p) for group in groups for p in group["params"])
            own = {id(p) for p in [*pl_module.net.parameters(), *pl_module.projector.parameters()]}
            assert optimized and set(optimized) <= own and len(optimized) == len(set(optimized))

    with pytest.raises(Stop):
        train(run, tmp_path, plan_parents(run, watched.runs_dir), options, [Look(update=2)])
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    teacher = weights(run.parents["teacher"], watched.runs_dir, "teacher")
    large = {
        name: tensor for name, tensor in teacher.items() if tensor.is_floating_point() and tensor.unique().numel() > 4
    }
    for tensor in tensors_in(saved):
        assert not any(tensor.shape == other.shape and torch.equal(tensor, other) for other in large.values())


def tensors_in(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    entries = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return [tensor for entry in entries for tensor in tensors_in(entry)]


def test_load_teacher_gives_the_trained_one(compared) -> None:
    config, runs_dir = compared
    run = plan(config.at_stage("teacher"))[0]
    teacher, data = load_teacher(folder_of(run, runs_dir)), make_data(run, {})
    batch = next(iter(data.test_dataloader()))
    accuracy = (teacher(batch.x).argmax(1) == batch.y).float().mean().item()
    assert accuracy == pytest.approx(read_result(run, runs_dir)["test_accuracy"])


# ----------------------------------------------------------------------------------- what is handed on


def test_no_arms_student_file_holds_anything_but_the_student(watched: Watched) -> None:
    """Not the regressor, not a head, not a projector: names, shapes and the count are those of the network alone."""
    for run in watched.runs:
        if run.trains != "student":
            continue
        student = watched.watch.of(run).start
        kept = weights(run, watched.runs_dir)
        assert {name: tensor.shape for name, tensor in kept.items()} == {n: t.shape for n, t in student.items()}, run
        buffers = ("running_mean", "running_var", "num_batches_tracked")
        count = sum(tensor.numel() for name, tensor in student.items() if not name.endswith(buffers))
        assert read_result(run, watched.runs_dir)["params"] == count
    beside = {
        run.stage for run in watched.runs if (folder_of(run, watched.runs_dir) / "regressor.safetensors").exists()
    }
    assert "hint" in beside, "a regressor has a file of its own"


def test_every_tested_stage_gives_weights_that_load_and_the_accuracy_that_it_says(watched: Watched) -> None:
    for run in watched.runs:
        result = read_result(run, watched.runs_dir)
        assert (result["test_accuracy"] is None) == (not run.tested)
        if not run.tested:
            continue
        load = load_teacher if run.trains == "teacher" else load_student
        net, data = load(folder_of(run, watched.runs_dir)), make_data(run, plan_parents(run, watched.runs_dir))
        with torch.no_grad():
            right = net(data.images.test_images).argmax(1) == data.images.test_labels
        assert right.float().mean().item() == pytest.approx(result["test_accuracy"]), run
    assert {run.arm.name for run in watched.runs if run.tested} >= set(watched.arms)


def test_the_test_part_is_read_once_after_training_and_only_where_it_is_tested(watched: Watched) -> None:
    for training in watched.watch.trainings.values():
        epochs = training.run.spec["epochs"]
        assert training.tested == ([(epochs, 359)] if training.run.tested else []), training.run


@pytest.mark.parametrize("name", WITHOUT_LABELS)
@pytest.mark.parametrize(
    "words",
    one_in(2, [[], ["hint_loss=attention"], ["hint_loss=crd", "hint=penultimate", "hint_loss.negatives=32"]]),
    ids=str,
)
def test_a_stage_that_says_that_it_uses_no_labels_uses_none(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: list[str]
) -> None:
    """The same weights, byte for byte, with every label of the data set poisoned, for training and validation."""
    config = composed(*SMALL, *words, f"runs_dir={watched.runs_dir}").at_stage(name)
    (run,) = plan(config)
    assert "labels" not in run.spec
    parents = plan_parents(run, watched.runs_dir)
    train(run, tmp_path / "clean", parents, config["trainer"], [])
    setup = DataModule.setup

    def poisoned(self: DataModule, stage: str | None = None) -> None:
        if self.images is None:
            setup(self, stage)
            assert self.images is not None
            wrong = torch.full_like(self.images.labels, 10**6)
            hidden = self.visible_labels == UNLABELLED
            self.visible_labels, self.given_labels = torch.where(hidden, UNLABELLED, wrong), wrong.clone()
            self.images = replace(self.images, labels=wrong, test_labels=self.images.test_labels + 10**6)

    monkeypatch.setattr(DataModule, "setup", poisoned)
    train(run, tmp_path / "poisoned", parents, config["trainer"], [])
    files = sorted(path.name for path in (tmp_path / "clean").glob("*.safetensors"))
    assert "student.safetensors" in files
    for file in files:
        assert (tmp_path / "clean" / file).read_bytes() == (tmp_path / "poisoned" / file).read_bytes(), file


# ---------------------------------------------------------------------------------------- fair arms


def test_all_arms_start_from_the_same_student_and_see_the_same_batches(watched: Watched) -> None:
    firsts = {arm: watched.watch.of(runs[0]) for arm, runs in watched.arms.items()}
    reference = firsts["backprop"]
    for arm, training in firsts.items():
        assert not differing(reference.start, training.start), arm
        assert training.batches == reference.batches and len(training.batches) == 3, arm


def test_a_later_step_starts_from_what_the_one_before_left_and_goes_on_in_the_data(watched: Watched) -> None:
    seconds = {arm: runs for arm, runs in watched.arms.items() if len(runs) == 2}
    assert len(seconds) >= 5
    for arm, (first, second) in seconds.items():
        training = watched.watch.of(second)
        assert not differing(training.start, weights(first, watched.runs_dir)), arm
        data = make_data(second, plan_parents(second, watched.runs_dir))
        assert data.first_epoch == first.spec["epochs"]
        assert training.batches != watched.watch.of(first).batches


def test_all_arms_train_with_one_optimizer_and_the_same_number_of_updates(watched: Watched) -> None:
    """As it is when training starts, group by group; a slowed half is in a group of its own, a frozen one in none."""
    seen = set()
    for arm, runs in watched.arms.items():
        for run in runs:
            name, groups = watched.watch.of(run).optimizer
            slowed = run.spec.get("guided_lr_scale", 1.0) != 1.0
            assert groups.count('"lr"') == (2 if run.spec.get("guided_lr_scale") not in (None, 0, 1) else 1)
            if not slowed:
                seen.add((name, groups))
        assert sum(read_result(run, watched.runs_dir)["updates"] for run in runs) == 3 * 18, arm
        rates = figures(runs[-1], watched.runs_dir, "train/lr")
        assert rates[0] > rates[-1] == pytest.approx(0, abs=1e-6), "the cosine ends with the arm"
    assert len(seen) == 1
    assert watched.config["optimizer"]["lr"] != 0 and '"lr": 0.002' in next(iter(seen))[1]


def test_arms_of_a_seed_share_start_and_order_and_differ_between_seeds(compared) -> None:
    config, runs_dir = compared
    starts = {
        (arm, seed): state(stage_of(pick(config, stage, arm, seed), runs_dir)[0].net)
        for stage, arm in (("backprop", "backprop"), ("kd", "kd"), ("hint", "fitnet"))
        for seed in (0, 1)
    }
    for arm in ("kd", "fitnet"):
        for seed in (0, 1):
            assert not differing(starts[arm, seed], starts["backprop", seed])
    assert differing(starts["backprop", 0], starts["backprop", 1])


def test_arms_get_the_same_number_of_updates_in_the_same_order(compared) -> None:
    """All batches of all epochs: a KD stage goes on where its hint stage ended."""
    config, runs_dir = compared
    updates = {arm: 0 for arm in ("backprop", "kd", "fitnet")}
    orders: dict[str, list] = {arm: [] for arm in updates}
    for run in named_runs(config):
        if run.seed == 0:
            updates[run.arm.name] += read_result(run, runs_dir)["updates"]
            loader = make_data(run, plan_parents(run, runs_dir)).train_dataloader()
            orders[run.arm.name] += [batch.ids.tolist() for _ in range(run.spec["epochs"]) for batch in loader]
    assert set(updates.values()) == {5 * 18}
    assert orders["backprop"] == orders["kd"] == orders["fitnet"]


# --------------------------------------------------------------------------------- what is kept


def spoiled_after_one_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learning rate that wrecks the network from the second of three epochs on."""
    from fitnets.stages import optimizers

    monkeypatch.setattr(optimizers, "lr_factor", lambda _name, step, steps, _end: 1.0 if step < steps / 3 else 500.0)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_best_validation_hint_loss_is_what_goes_on(small, monkeypatch: pytest.MonkeyPatch, keep: str) -> None:
    """Whatever `keep` says of accuracies, a hint stage that gets worse hands on its first epoch's weights."""
    config = small("stage=hint", "epochs.hint=3", f"keep={keep}")
    go(config.at_stage("teacher"))
    spoiled_after_one_epoch(monkeypatch)
    go(config)
    (run,), runs_dir = plan(config), Path(config["runs_dir"])
    losses = figures(run, runs_dir, "val/hint_loss")
    assert losses[0] == min(losses) and losses[0] < losses[-1]
    result = read_result(run, runs_dir)
    assert result["kept_epoch"] == 1 and result["validation"]["hint_loss"] == pytest.approx(losses[0])
    stage, data = trained_stage(run, runs_dir)
    batch = next(iter(data.val_dataloader()))
    (hint,), (predicted,) = stage.prediction(batch.x)
    loss = 0.5 * (predicted - hint).pow(2)
    assert loss.flatten(1).sum(1).mean().item() == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("last", 3)])
def test_keep_chooses_the_weights_that_are_tested(
    small, monkeypatch: pytest.MonkeyPatch, keep: str, epoch: int
) -> None:
    config = small("stage=backprop", "epochs.hint=1", "epochs.kd=2", f"keep={keep}")
    spoiled_after_one_epoch(monkeypatch)
    go(config)
    run, folder = finished(config)
    result = read_result(run, Path(config["runs_dir"]))
    assert result["kept_epoch"] == epoch
    data = make_data(run, {})
    with torch.no_grad():
        logits = load_student(folder)(data.images.images[data.val_index])
    accuracy = (logits.argmax(1) == data.images.labels[data.val_index]).float().mean().item()
    assert result["validation"]["accuracy"] == pytest.approx(accuracy)
    assert load_file(folder / "student.safetensors").keys() == load_student(folder).net.state_dict().keys()
