"""The paper's networks hold its figures: weights and multiplications as computed from its layers, and map shapes.

Counts are weights without biases, as the original computeNumberParams.py counts them.
"""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from fitnets.load import build_net
from fitnets.models.blocks import MaxoutConv2d
from fitnets.models.layers import LayerError, layer_shapes, resolve_layer
from fitnets.models.regressors import plan_regressor
from fitnets.training.cost import multiplications, parameters
from tests.conftest import composed

pytestmark = pytest.mark.fast

CIFAR, MNIST, FACES = (3, 32, 32), (1, 28, 28), (3, 16, 16)


def net_of(role: str, name: str, shape: tuple[int, int, int], *overrides: str, classes: int = 10) -> nn.Module:
    cfg = composed(f"{role}={name}", *overrides)
    with torch.device("meta"):
        return build_net(cfg[role]["net"], shape, classes)


def weights(net: nn.Module) -> int:
    return sum(p.numel() for name, p in net.named_parameters() if not name.endswith("bias"))


@pytest.mark.parametrize(
    ("student", "two_pieces", "five_pieces"),
    [
        ("fitnet1", 249_576, 345_576),
        ("fitnet2", 861_928, 1_053_928),
        ("fitnet3", 1_503_304, 1_695_304),
        ("fitnet4", 2_544_712, 2_736_712),
    ],
)
def test_weights_of_fitnets_with_both_fc_variants(student: str, two_pieces: int, five_pieces: int) -> None:
    assert weights(net_of("student", student, CIFAR)) == five_pieces
    assert weights(net_of("student", student, CIFAR, "student.net.fc.pieces=2")) == two_pieces


@pytest.mark.parametrize(
    ("student", "millions"), [("fitnet1", "30.15"), ("fitnet2", "107.8"), ("fitnet3", "323.9"), ("fitnet4", "381.7")]
)
def test_multiplications_of_fitnets(student: str, millions: str) -> None:
    net = net_of("student", student, CIFAR, "student.net.fc.pieces=2")
    assert printed(multiplications(net, CIFAR) / 1e6, millions) == millions


def printed(value: float, like: str) -> str:
    return f"{value:.{len(like.partition('.')[2])}f}"


def test_the_cifar_teacher() -> None:
    five, two = (net_of("teacher", "maxout_cifar", CIFAR, f"teacher.net.fc.pieces={p}") for p in (5, 2))
    assert printed(weights(five) / 1e6, "16.24") == "16.24" and printed(weights(two) / 1e6, "9.04") == "9.04"
    assert printed(multiplications(two, CIFAR) / 1e6, "725.1") == "725.1"
    assert printed(multiplications(five, CIFAR) / 1e6, "732.3") == "732.3"
    shapes = layer_shapes(five, CIFAR)
    assert [shapes[f"conv{i}"] for i in (1, 2, 3)] == [(96, 16, 16), (192, 7, 7), (192, 5, 5)]
    assert shapes["fc"] == (500,)


def test_the_mnist_pair() -> None:
    assert weights(net_of("teacher", "maxout_mnist", MNIST)) == 360_816
    convs = copy.deepcopy(composed("teacher=maxout_mnist")["teacher"]["net"])
    convs["convs"][2]["pieces"] = 4
    with torch.device("meta"):
        assert weights(build_net(convs, MNIST, 10)) == 418_416
    assert weights(net_of("student", "mnist_fitnet", MNIST)) == 29_944
    assert weights(net_of("student", "mnist_fitnet", MNIST, "student.pieces=4")) == 35_992
    teacher = layer_shapes(net_of("teacher", "maxout_mnist", MNIST), MNIST)
    student = layer_shapes(net_of("student", "mnist_fitnet", MNIST), MNIST)
    assert [teacher[f"conv{i}"] for i in (1, 2, 3)] == [(48, 10, 10), (48, 4, 4), (24, 3, 3)]
    maps = [(16, 24, 24), (16, 10, 10), (16, 12, 12), (16, 4, 4), (12, 8, 8), (12, 3, 3)]
    assert [student[f"conv{i}"] for i in range(1, 7)] == maps


def test_the_svhn_teacher_and_its_hint_that_the_rule_cannot_reach() -> None:
    five, two = (net_of("teacher", "maxout_svhn", CIFAR, f"teacher.net.fc.pieces={p}") for p in (5, 2))
    assert printed(weights(five) / 1e6, "10.46") == "10.46" and printed(weights(two) / 1e6, "4.93") == "4.93"
    shapes = layer_shapes(five, CIFAR)
    assert [shapes[f"conv{i}"][1] for i in (1, 2, 3)] == [18, 10, 6]
    guided = layer_shapes(net_of("student", "fitnet3", CIFAR), CIFAR)["conv8"]
    assert guided == (80, 8, 8)
    plan = plan_regressor(guided, shapes["conv2"])
    assert plan.kind == "upsample", "8x8 -> 10x10: the published rule has no solution; ours is 1x1 after upsampling"


@pytest.mark.parametrize(
    ("student", "guided", "shape"),
    [("fitnet1", "conv6", (32, 8, 8)), ("fitnet2", "conv6", (80, 8, 8)), ("fitnet3", "conv8", (80, 8, 8)),
     ("fitnet4", "conv11", (80, 8, 8))],
)  # fmt: skip
def test_hint_and_guided_layers_on_cifar(student: str, guided: str, shape: tuple[int, ...]) -> None:
    name, found = resolve_layer(net_of("student", student, CIFAR), "middle", CIFAR, "student", "k")
    assert (name, found) == (guided, shape)
    hint_name, hint = resolve_layer(net_of("teacher", "maxout_cifar", CIFAR), "middle", CIFAR, "teacher", "k")
    assert (hint_name, hint) == ("conv2", (192, 7, 7))
    plan = plan_regressor(found, hint, "auto", "maxout", 2)
    assert plan.kind == "conv" and plan.kernel == (2, 2)
    regressor = plan.build()
    assert weights(regressor) == 2 * (2 * 2 * 192 * shape[0])  # the paper's formula, times the pieces


@pytest.mark.parametrize(
    ("student", "layers", "guided"),
    [("depth5_30m", 3, "conv2"), ("depth7_30m", 5, "conv4"), ("depth9_30m", 7, "conv5"), ("fitnet1", 9, "conv6"),
     ("depth5_107m", 3, "conv2"), ("depth7_107m", 5, "conv4"), ("depth9_107m", 7, "conv5"), ("fitnet2", 9, "conv6")],
)  # fmt: skip
def test_the_depth_study_keeps_its_budgets(student: str, layers: int, guided: str) -> None:
    net = net_of("student", student, CIFAR, "student.net.fc.pieces=2")
    assert sum(isinstance(m, MaxoutConv2d) for m in net.modules()) == layers
    assert resolve_layer(net, "middle", CIFAR, "student", "k") == (guided, layer_shapes(net, CIFAR)[guided])
    low, high = (27.2, 30.2) if student in ("fitnet1",) or student.endswith("_30m") else (101.6, 107.9)
    assert low <= round(multiplications(net, CIFAR) / 1e6, 1) <= high


@pytest.mark.parametrize("student", ["aflw_fitnet1", "aflw_fitnet2"])
def test_the_face_networks(student: str) -> None:
    teacher, net = net_of("teacher", "relu_aflw", FACES, classes=2), net_of("student", student, FACES, classes=2)
    hint = resolve_layer(teacher, "middle", FACES, "teacher", "k")[1]
    guided = resolve_layer(net, "middle", FACES, "student", "k")[1]
    assert hint == (512, 2, 2) and guided[1:] == (6, 6)
    assert plan_regressor(guided, hint).kernel == (5, 5)


@pytest.mark.parametrize(
    ("role", "name", "classes", "count"),
    [  # as the distillation benchmarks print them: RepDistiller's networks on CIFAR-100, He et al. on CIFAR-10
        ("student", "resnet20", 100, 278_324),
        ("teacher", "resnet56", 100, 861_620),
        ("student", "wrn_16_2", 100, 703_284),
        ("teacher", "wrn_40_2", 100, 2_255_156),
        ("student", "resnet20", 10, 272_474),
    ],
)
def test_the_residual_pairs_have_the_literatures_counts(role: str, name: str, classes: int, count: int) -> None:
    assert parameters(net_of(role, name, CIFAR, classes=classes)) == count


def test_residual_pairs_meet_at_every_position() -> None:
    for teacher, student in (("resnet56", "resnet20"), ("wrn_40_2", "wrn_16_2")):
        for position in ("early", "middle", "late"):
            shapes = [
                resolve_layer(net_of(role, name, CIFAR), position, CIFAR, role, "k")[1]
                for role, name in (("student", student), ("teacher", teacher))
            ]
            assert shapes[0] == shapes[1]


def test_pieces_are_interleaved_and_partial_windows_kept() -> None:
    conv: Any = MaxoutConv2d(1, 3, 1, pieces=2, pool=(4, 2))
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -1.0, 2.0, -2.0, 3.0, -3.0]).view(6, 1, 1, 1))
        conv.bias.zero_()
        out = conv(torch.full((1, 1, 9, 9), -1.0))
    assert out.shape == (1, 3, 4, 4) and out[0, :, 0, 0].tolist() == [1.0, 2.0, 3.0]  # ceil((9 - 4) / 2) + 1 = 4


def test_a_net_that_the_images_are_too_small_for_is_an_error() -> None:
    with pytest.raises(RuntimeError):
        net_of("student", "mnist_fitnet", (1, 8, 8))
    with pytest.raises((LayerError, ValueError)):
        net_of("student", "resnet20", CIFAR, "student.net.depth=21")
