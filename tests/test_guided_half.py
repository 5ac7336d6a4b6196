"""The half that hints train: every parameter that the guided output depends on, however it is used, and no other."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fitnets.models.layers import LayerError, guided_modules, guided_parameters
from fitnets.store import folder_of
from tests.conftest import go, named_runs, one_in
from tests.trained import differing, weights

SHAPE = (1, 6, 6)


class Net(nn.Module):
    """A block of one's own between a stem and what lies above it."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.head = nn.Linear(4, 3)  # registered first, runs last
        self.idle = nn.Conv2d(1, 4, 1)  # never runs
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.block = block
        self.top = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.top(self.block(self.stem(x))).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return (tokens + self.mha(tokens, tokens, tokens, need_weights=False)[0]).transpose(1, 2).reshape(x.shape)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)  # whose fast path shows no graph

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)


class Bare(nn.Module):
    """Weights that no module is called for: two lists, a dict, a tensor of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(4, 1, 1)) for _ in range(2)])
        self.shifts = nn.ParameterDict({"a": nn.Parameter(torch.zeros(4, 1, 1))})
        self.kernel = nn.Parameter(torch.ones(4, 1, 3, 3))
        self.conv = nn.Conv2d(4, 4, 1)  # used by its weight alone

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x * self.scales[0], self.kernel, padding=1, groups=4) * self.scales[1] + self.shifts["a"]
        return F.conv2d(x, self.conv.weight, self.conv.bias)


class Token(nn.Module):
    """A class token that is put before the others and taken away again."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.mix = nn.Linear(37, 37)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.token.expand(len(x), 1, 4), x.flatten(2).transpose(1, 2)], 1)
        return self.mix(tokens.transpose(1, 2))[..., 1:].reshape(x.shape)


class Untied(nn.Module):
    """What it has and does not use is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.fixed = nn.Parameter(torch.ones(4, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        self.unused(x)
        return F.relu(self.used(x) * self.fixed, inplace=True)


class Recomputed(nn.Module):
    def __init__(self, reentrant: bool):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.conv, x, use_reentrant=self.reentrant)


BLOCKS = {
    "attention": (Attention, ["mha.in_proj_weight", "mha.in_proj_bias", "mha.out_proj.weight", "mha.out_proj.bias"]),
    "transformer": (Transformer, [f"layer.{name}" for name, _ in Transformer().layer.named_parameters()]),
    "bare": (Bare, ["scales.0", "scales.1", "shifts.a", "kernel", "conv.weight", "conv.bias"]),
    "token": (Token, ["token", "mix.weight", "mix.bias"]),
    "unused": (Untied, ["used.weight", "used.bias"]),
    "weight norm": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
        ["bias", "parametrizations.weight.original0", "parametrizations.weight.original1"],
    ),
    "recomputed": (lambda: Recomputed(reentrant=False), ["conv.weight", "conv.bias"]),
}


@pytest.mark.fast
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("kind", BLOCKS)
def test_all_that_the_guided_output_depends_on(kind: str, device: str) -> None:
    make, expected = BLOCKS[kind]
    net = Net(make()).to(device).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    names = {parameter: name for name, parameter in net.named_parameters()}
    found = {names[parameter] for parameter in guided_parameters(net, ["block"], SHAPE)}
    assert found == {"stem.weight", "stem.bias", *(f"block.{name}" for name in expected)}
    assert all(module.training for module in net.modules()), "a look moves nothing"
    assert all(parameter.grad is None for parameter in net.parameters())
    if device == "cpu":
        assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.fast
def test_several_layers_and_the_input_of_one() -> None:
    net = Net(Bare())
    both = guided_parameters(net, ["stem", "block", "stem"], SHAPE)
    assert len(both) == len(set(both)) == 8
    assert guided_parameters(net, ["head:input"], SHAPE) == [p for p in both] + list(net.top.parameters())


@pytest.mark.fast
def test_what_cannot_be_guided_is_said() -> None:
    net = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(9, 3))
    with pytest.raises(LayerError, match="nothing that could be trained lies below 0"):
        guided_parameters(net, ["0"], SHAPE)
    with pytest.raises(LayerError, match="use_reentrant=False"):
        guided_parameters(Net(Recomputed(reentrant=True)), ["block"], SHAPE)


class Shared(nn.Module):
    """A dropout that runs below and above the guided layer, a batch norm below it."""

    def __init__(self) -> None:
        super().__init__()
        self.below = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4))
        self.drop = nn.Dropout(0.5)
        self.above = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.above(self.drop(self.below(x)))).mean((2, 3)))


@pytest.mark.fast
def test_frozen_are_the_modules_that_run_below_alone() -> None:
    net = Shared()
    names = {module: name for name, module in net.named_modules()}
    assert {names[module] for module in guided_modules(net, ["below"], SHAPE)} == {"below", "below.0", "below.1"}
    assert {names[module] for module in guided_modules(net, ["above.0"], SHAPE)} == {
        *("below", "below.0", "below.1", "above.0")
    }
    assert guided_modules(net, ["below:input"], SHAPE) == []


NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.stem = nn.Conv2d(input_shape[0], 4, 3, padding=1)
        self.mid = nn.Sequential(nn.BatchNorm2d(4, momentum=0.5), nn.ReLU(inplace=True), nn.Dropout(0.3))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.guided = nn.Conv2d(4, 4, 3, padding=1)
        self.top = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x):
        x = self.mid(self.stem(x) * self.scale)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(self.top(self.guided(x + tokens.transpose(1, 2).reshape(x.shape))).relu().mean((2, 3)))
"""


@pytest.mark.parametrize(("scale", "moves_below"), one_in(2, [(0, False), (0.5, True)]))
def test_stage_2_freezes_or_slows_what_the_hints_have_trained(
    small: Any, importable: Path, scale: float, moves_below: bool
) -> None:
    """Of the whole lower half: weights, bare tensors and running statistics; all of it moves in the hint stage."""
    (importable / "own_net.py").write_text(NETS)
    config = small("stage=fitnet", "hint.student_layer=guided", f"guided_lr_scale={scale}")
    config = config.changed({"student": {"name": "own", "net": {"_target_": "own_net.Net"}}})
    go(config)
    (kd,) = named_runs(config)[-1:]
    hint, runs_dir = kd.parents["student"], Path(config["runs_dir"])
    before, after = weights(hint, runs_dir), weights(kd, runs_dir)
    below = {name for name in before if name.partition(".")[0] not in ("top", "head")}
    moved = differing(before, after)
    assert {name for name in moved if name not in below} == before.keys() - below
    assert moved & below == (below if moves_below else set())
    from fitnets.assemble import new_net
    from fitnets.load import load_student

    data = type("Data", (), {"input_shape": (1, 8, 8), "num_classes": 10})
    start = new_net(hint.spec["student"]["net"], hint.spec["init"]["student"], hint.seed, "student", data).state_dict()
    assert differing(start, load_student(folder_of(hint, runs_dir), trust=["own_net"]).net.state_dict()) == below, (
        "all of it, and no more"
    )
