"""The hint stage: neither network past its named layer, only the guided half moves, and what the regressor is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fitnets.data.module import DataModule
from fitnets.plan import plan
from fitnets.stages.base import StageInputs
from fitnets.stages.pairs import layer_pairs
from fitnets.store import read_result
from tests.conftest import composed, go, one_in
from tests.trained import differing, finished, stage_of, state, trained_stage, weights


@pytest.mark.parametrize("student", ["thin_deep", "thin_relu"])
def test_the_hint_stage_leaves_everything_above_the_guided_layer_bit_equal(small, student: str) -> None:
    """Parameters and buffers: thin_relu has batch-norm statistics above that any forward in train mode would move."""
    config = small("stage=hint", f"student={student}")
    go(config)
    run, _ = finished(config)
    fresh = state(stage_of(run, Path(config["runs_dir"]))[0].net)
    changed = differing(fresh, weights(run, Path(config["runs_dir"])))
    guided = {name for name in fresh if name.split(".")[0] in ("conv1", "conv2", "conv3", "conv4")}
    assert changed == guided, "the blocks are 2 + 2 + 2 layers; middle is the end of the second"


def test_a_label_hint_does_so_too_and_leaves_no_head(trained_arm) -> None:
    (run,), runs_dir = trained_arm("label_hint")
    changed = differing(state(stage_of(run, runs_dir)[0].net), weights(run, runs_dir))
    assert {name.split(".")[0] for name in changed} == {"conv1", "conv2", "conv3", "conv4"}


@pytest.mark.parametrize("answers", ["online", "cached"])
def test_neither_network_runs_past_its_named_layer(small, answers: str) -> None:
    """In a training's updates, in filling the kept answers, in validation and in the picture."""
    config = small("stage=hint", f"answers={answers}")
    go(config.at_stage("teacher"))
    (run,), ran = plan(config), []
    hooks: list[Any] = []

    def hear(whose: str, net: nn.Module) -> None:
        for name, child in net.named_children():
            hooks.append(child.register_forward_hook(lambda *_, label=f"{whose}.{name}": ran.append(label)))

    from fitnets import assemble

    load, new = assemble.trained_net, assemble.new_student
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(assemble, "trained_net", lambda *args: heard("teacher", load(*args), hear))
        patched.setattr(assemble, "new_student", lambda *args: heard("student", new(*args), hear))
        stage, data = stage_of(run, Path(config["runs_dir"]))
    ran.clear()  # layers' shapes are learned from a whole pass
    batch = next(iter(data.train_dataloader()))
    stage.training_loss(batch)
    if answers == "online":
        assert "teacher.conv1" in ran
    stage.eval()
    stage.validation_step(next(iter(data.val_dataloader())), 0)
    hints, predicted = stage.prediction(batch.x)
    assert stage.hint_maps(batch.x) is not None
    assert [p.shape for p in predicted] == [h.shape for h in hints]
    # The named layers, conv4 and conv2, run, but the cut's own hook may stop the pass before these hooks are called.
    assert set(ran) - {"student.conv4", "teacher.conv2"} == {f"student.conv{n}" for n in range(1, 4)} | {
        f"teacher.{name}" for name in ("drop0", "conv1", "drop1")
    }


def heard(whose: str, net: nn.Module, hear: Any) -> nn.Module:
    hear(whose, net)
    return net


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
    config = small("stage=hint", "hint.student_layer=join", *drop)
    go(config)
    run, _ = finished(config)
    fresh = state(stage_of(run, Path(config["runs_dir"]))[0].net)
    changed = differing(fresh, weights(run, Path(config["runs_dir"])))
    assert changed <= {name for name in fresh if name.split(".")[0] in ("left", "right", "join")}
    assert {"left.weight", "right.weight", "join.weight", "join.running_mean"} <= changed


def test_r2_is_of_the_regressor_on_validation(compared) -> None:
    config, runs_dir = compared
    run = plan(config.at_stage("hint"))[0]
    stage, data = trained_stage(run, runs_dir)
    batch = next(iter(data.val_dataloader()))
    (hint,), (predicted,) = stage.prediction(batch.x)
    expected = 1 - (predicted - hint).pow(2).sum() / (hint - hint.mean(0)).pow(2).sum()
    assert read_result(run, runs_dir)["validation"]["r2"] == pytest.approx(expected.item(), abs=1e-4)


def test_several_layers_are_guided_at_once(small) -> None:
    """A list of pairs: a regressor each, the half below the deepest guided layer moves, result.json names them all."""
    config = small("stage=hint", "hint.teacher_layer=[conv1,conv2]", "hint.student_layer=[conv2,conv4]")
    go(config)
    run, _ = finished(config)
    fresh = state(stage_of(run, Path(config["runs_dir"]))[0].net)
    changed = differing(fresh, weights(run, Path(config["runs_dir"])))
    assert {name.split(".")[0] for name in changed} == {"conv1", "conv2", "conv3", "conv4"}
    result = read_result(run, Path(config["runs_dir"]))
    assert (result["hint"]["hint_layer"], result["hint"]["guided_layer"]) == ("conv1, conv2", "conv2, conv4")
    assert {name.split(".")[0] for name in weights(run, Path(config["runs_dir"]), "regressor")} == {"0", "1"}


def test_the_input_of_the_classifier_can_be_the_guided_layer(small) -> None:
    config = small("stage=hint", "hint=penultimate", "epochs.hint=1")
    go(config)
    run, _ = finished(config)
    stage, _ = stage_of(run, Path(config["runs_dir"]))
    changed = differing(state(stage.net), weights(run, Path(config["runs_dir"])))
    assert {name.split(".")[0] for name in changed} == {f"conv{n}" for n in range(1, 7)}
    classifier = {id(p) for p in stage.net.classifier.parameters()}
    assert not classifier & {id(p) for p in stage.trained}, "nor is it in the optimizer"


# ------------------------------------------------------------------------------- the regressor's end


@pytest.mark.parametrize(("sign", "expected"), [(1, "relu"), (-1, "linear")])
def test_an_undeclared_nonlinearity_is_probed(sign: int, expected: str) -> None:
    """A hint layer without a negative output on training images ends in a ReLU; one negative value tells."""
    teacher = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(128, 10))
    nn.init.constant_(teacher[0].weight, 1.0)
    data = DataModule(composed()["dataset"], 0, 64, seed=0)
    data.setup()
    images = torch.rand(600, 1, 8, 8)
    images[70, 0, 0, 0] *= sign
    data.preprocessed = lambda index: images[: len(index)]  # type: ignore[method-assign]
    student = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(128, 10))
    spec = {"hint": {"teacher_layer": "0", "student_layer": "0"}}
    inputs = StageInputs(spec, "student", data, student, seed=0, epochs=1, recipe={}, teacher=teacher)
    (pair,) = layer_pairs(inputs)
    assert pair.ending()[0] == expected
    with torch.device("meta"):
        meta = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(128, 10))
    (pair,) = layer_pairs(StageInputs(spec, "student", data, student, seed=0, epochs=1, recipe={}, teacher=meta))
    assert pair.ending()[0] == "linear", "before training there are no weights to probe"


ENDINGS = [
    (["teacher=wide_shallow"], "maxout", 24),  # two pieces a unit
    (["teacher=wide_relu"], "relu", 12),
    (["teacher=wide_relu", "regressor.nonlinearity=linear"], "linear", 12),
    (["teacher=wide_shallow", "regressor.nonlinearity=relu"], "relu", 12),
]


@pytest.mark.parametrize(("words", "expected", "weights_of"), one_in(2, ENDINGS))
def test_the_regressor_ends_as_the_hint_layer_does_or_as_asked(
    small, words: list[str], expected: str, weights_of: int
) -> None:
    small_ones = ["teacher.net.widths=[8,12]", "teacher.net.kernel_size=3", "epochs.teacher=1", "epochs.hint=1"]
    config = composed("stage=hint", *words, *small_ones, "trainer=cpu", f"runs_dir={small()['runs_dir']}")
    go(config)
    run, _ = finished(config)
    assert read_result(run, Path(config["runs_dir"]))["hint"]["regressor_nonlinearity"] == expected
    stage, data = trained_stage(run, Path(config["runs_dir"]))
    _, (predicted,) = stage.prediction(next(iter(data.val_dataloader())).x)
    assert bool((predicted < 0).any()) == (expected != "relu")
    assert len(next(iter(weights(run, Path(config["runs_dir"]), "regressor").values()))) == weights_of
