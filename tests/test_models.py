"""The networks, at any input size and class count, and their initial weights."""

import pytest
import torch
from torch import nn

from fitnets.load import build_net
from fitnets.models.blocks import MaxoutConv2d, MaxoutLinear
from fitnets.models.init import scaled, uniform
from fitnets.models.layers import layer_shapes
from fitnets.training import cost
from tests.conftest import composed

pytestmark = pytest.mark.fast

NETS = [("teacher", "wide_shallow"), ("teacher", "wide_relu")]
NETS += [("student", "thin_deep"), ("student", "thin_deeper"), ("student", "thin_relu")]


def net_of(role: str, name: str, shape: tuple = (1, 8, 8), classes: int = 10) -> nn.Module:
    return build_net(composed(f"{role}={name}")[role]["net"], shape, classes)


def depth(net: nn.Module) -> int:
    return sum(isinstance(m, nn.Conv2d | nn.Linear) for m in net.modules())


@pytest.mark.parametrize(("role", "name"), NETS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 5, 9), (3, 1, 1)])
@pytest.mark.parametrize("classes", [2, 100])
def test_every_net_runs_at_any_size_and_class_count(role: str, name: str, shape: tuple, classes: int) -> None:
    with torch.device("meta"):
        net = net_of(role, name, shape, classes)
    shapes = layer_shapes(net, shape)
    assert shapes[""] == (classes,)
    assert set(net.positions) == {"early", "middle", "late"}
    assert all(len(shapes[layer]) == 3 for layer in net.positions.values())


def test_the_main_pair_is_thin_and_deep_against_wide_and_shallow() -> None:
    """At least 3x the depth, at most a quarter of the parameters."""
    teacher, student = net_of("teacher", "wide_shallow"), net_of("student", "thin_deep")
    assert depth(student) >= 3 * depth(teacher)
    assert 4 * cost.parameters(student) <= cost.parameters(teacher)


def test_thin_deep_has_the_widths_of_fitnet_1() -> None:
    net = net_of("student", "thin_deep", (3, 32, 32))
    convs = [m for m in net.modules() if isinstance(m, MaxoutConv2d)]
    assert [c.out_channels // c.pieces for c in convs] == [16, 16, 16, 32, 32, 32, 48, 48, 64]
    assert layer_shapes(net, (3, 32, 32))["conv6"] == (32, 8, 8)  # the guided map of Table 7
    assert layer_shapes(net, (3, 32, 32))["conv9"] == (64, 1, 1)


def test_maxout_pieces_are_interleaved() -> None:
    """Unit c takes the largest of channels c * pieces + i, as pylearn2's z[i::pieces] does."""
    conv = MaxoutConv2d(2, 3, 3, padding=1, pieces=4)
    x = torch.randn(2, 2, 5, 5)
    z = nn.functional.conv2d(x, conv.weight, conv.bias, padding=1)
    expected = torch.stack([z[:, i::4] for i in range(4)]).amax(0)
    torch.testing.assert_close(conv(x), expected)
    linear = MaxoutLinear(6, 3, pieces=5)
    x = torch.randn(2, 6)
    z = nn.functional.linear(x, linear.weight, linear.bias)
    torch.testing.assert_close(linear(x), torch.stack([z[:, i::5] for i in range(5)]).amax(0))


def test_pools_keep_partial_windows_and_skip_single_pixels() -> None:
    assert MaxoutConv2d(1, 2, 3, 1, pool=2)(torch.zeros(1, 1, 7, 7)).shape == (1, 2, 4, 4)
    assert MaxoutConv2d(1, 2, 3, 1, pool=2)(torch.zeros(1, 1, 1, 1)).shape == (1, 2, 1, 1)
    assert MaxoutConv2d(1, 2, 3, 1, pool="all")(torch.zeros(1, 1, 5, 7)).shape == (1, 2, 1, 1)


@pytest.mark.parametrize("name", ["thin_deep", "thin_deeper"])
def test_scaled_init_keeps_the_signal_and_papers_starves_it(name: str) -> None:
    """paper.md 3.6: at U(-0.005, 0.005) each layer has a gain of 0.05 to 0.1."""
    torch.manual_seed(0)
    net, x = net_of("student", name, (3, 32, 32)), torch.randn(16, 3, 32, 32)
    scaled(net)
    assert 0.1 < net(x).std() < 10
    uniform(net, 0.005)
    assert max(p.abs().max() for p in net.parameters()) <= 0.005
    assert net(x).std() < 1e-6


def test_relu_nets_get_twice_the_variance_and_biases_start_at_zero() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(64, 256, 3), MaxoutConv2d(64, 256, 3), nn.Linear(4096, 64))
    scaled(net)
    for layer, gain in zip(net, (2, 1, 1), strict=True):
        assert layer.weight.var().item() * layer.weight[0].numel() == pytest.approx(gain, rel=0.02)
        assert not layer.bias.any()


def test_costs_by_hand() -> None:
    net = nn.Sequential(MaxoutConv2d(3, 4, 3, padding=1, pieces=2), nn.Flatten(), nn.Linear(4 * 36, 5))
    assert cost.parameters(net) == 3 * 8 * 9 + 8 + 144 * 5 + 5
    assert cost.multiplications(net, (3, 6, 6)) == 3 * 8 * 9 * 36 + 144 * 5
    assert all(p.device.type == "cpu" for p in net.parameters()), "counting must not touch the net"
