"""Layers of any network: named, cut, heard, what runs below them; and the regressor that two shapes ask for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fitnets.models.blocks import MaxoutConv2d
from fitnets.models.layers import (
    Cut,
    LayerError,
    Tap,
    declared_nonlinearity,
    guided_parameters,
    layer_shapes,
    penultimate,
    resolve_layer,
)
from fitnets.models.regressors import plan_regressor

pytestmark = pytest.mark.fast

SHAPE = (1, 8, 8)


class Branching(nn.Module):
    """Two branches meet in `join`; modules are registered in another order than they run in."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)  # runs last, registered first
        self.join = nn.BatchNorm2d(8)
        self.right = nn.Conv2d(1, 8, 3, padding=1)
        self.left = nn.Conv2d(1, 8, 1)
        self.idle = nn.Conv2d(1, 8, 1)  # never runs
        self.top = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        joined = self.join(self.left(x) + self.right(x))
        return self.head(self.top(joined).mean((2, 3)))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inp = nn.Conv2d(1, 4, 1)
        self.block = nn.Conv2d(4, 4, 3, padding=1)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.block(self.block(self.inp(x))).mean((2, 3)))


def test_shapes_are_listed_in_the_order_in_which_layers_run() -> None:
    shapes = layer_shapes(Branching(), SHAPE)
    assert list(shapes) == ["left", "right", "join", "top", "head", ""]
    assert shapes["join"] == (8, 8, 8) and shapes["head"] == (3,) and shapes[""] == (3,)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_probing_moves_nothing(device: str) -> None:
    net = Branching().to(device).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    layer_shapes(net, SHAPE)
    guided_parameters(net, ["join"], SHAPE)
    assert all(module.training for module in net.modules())
    if device == "cpu":
        assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_probing_keeps_each_modules_own_mode() -> None:
    net = Branching().train()
    net.join.eval()
    layer_shapes(net, SHAPE)
    assert net.training and not net.join.training


def test_cut_gives_the_layers_output_and_runs_nothing_above() -> None:
    net = Branching().train()
    ran = []
    net.top.register_forward_hook(lambda *_: ran.append("top"))
    net.head.register_forward_hook(lambda *_: ran.append("head"))
    x = torch.randn(4, *SHAPE)
    expected = net.left(x) + net.right(x)
    top_before = net.top.running_mean.clone()
    output = Cut(net, "join")(x)
    torch.testing.assert_close(output, torch.nn.functional.batch_norm(expected, None, None, training=True))
    assert ran == [] and torch.equal(net.top.running_mean, top_before)
    net(x)
    assert ran == ["top", "head"], "the network itself must still run whole"


def test_guided_half_is_what_runs_not_what_is_registered() -> None:
    net = Branching()
    trained = {id(p) for p in guided_parameters(net, ["join"], SHAPE)}
    assert trained == {id(p) for m in (net.left, net.right, net.join) for p in m.parameters()}
    several = guided_parameters(net, ["left", "join", "left"], SHAPE)
    assert {id(p) for p in several} == trained and len(several) == len(trained), "each once"


def test_a_layer_inside_a_container_and_a_container_itself() -> None:
    net = nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), nn.Flatten(), nn.Linear(144, 3))
    assert resolve_layer(net, "0.0", SHAPE, "teacher", "k") == ("0.0", (4, 6, 6))
    assert resolve_layer(net, "0", SHAPE, "teacher", "k") == ("0", (4, 6, 6))
    assert (Cut(net, "0")(torch.randn(2, *SHAPE)) >= 0).all()


def test_a_layer_used_twice_is_an_error_that_says_so() -> None:
    with pytest.raises(LayerError, match=r"uses 'block' 2 times.*hint\.student_layer=NAME.*inp 4x8x8"):
        resolve_layer(Twice(), "block", SHAPE, "student", "hint.student_layer")


@pytest.mark.parametrize(
    ("layer", "message"),
    [("nope", "has no layer 'nope'"), ("idle", "does not run"), ("middle", "declares no positions")],
)
def test_an_unusable_layer_is_an_error_that_lists_the_layers(layer: str, message: str) -> None:
    with pytest.raises(LayerError, match=f"{message}.*left 8x8x8, right 8x8x8, join 8x8x8"):
        resolve_layer(Branching(), layer, SHAPE, "teacher", "hint.teacher_layer")


def test_an_output_that_is_not_one_map_or_vector_is_refused() -> None:
    class Pairs(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pairs, self.tokens, self.out = Pairs(), nn.Flatten(2), nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.tokens(self.pairs(x)[0]))

    for layer in ("pairs", "tokens"):  # a tuple; (C, HW) a sample
        with pytest.raises(LayerError, match="not one map"):
            resolve_layer(Net(), layer, SHAPE, "teacher", "k")


# ---------------------------------------------------------------------------------- several layers


def convolutions(inplace: bool) -> nn.Sequential:
    """Two convolutions, batch norm and a ReLU after each; the same weights every time."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels in (1, 4):
        layers += [nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=inplace)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


@pytest.mark.parametrize("layers", [["1"], ["4", "1"], ["0", "2", "4"]], ids=str)
@pytest.mark.parametrize("to_end", [True, False])
def test_a_relu_that_overwrites_a_layers_output_does_not_change_its_feature(layers: list[str], to_end: bool) -> None:
    """`nn.ReLU(inplace=True)` after the named layer is the same function: the same features and the same gradients."""
    x = torch.randn(5, *SHAPE)
    found = []
    for inplace in (False, True):
        net = convolutions(inplace).train()
        logits, features = Tap(net, layers, SHAPE, to_end)(x)
        assert (logits is not None) == to_end
        sum(feature.square().sum() for feature in features).backward()
        found.append([*features, *(p.grad for p in net.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1]) > len(layers)
    assert all(torch.equal(plain, overwritten) for plain, overwritten in zip(*found, strict=True))
    assert any((feature < 0).any() for feature in found[0][: len(layers)]), "else a ReLU would not show"


def test_features_come_in_the_order_asked_for_and_logits_are_the_networks_own() -> None:
    net, x = Branching().eval(), torch.randn(3, *SHAPE)
    with torch.no_grad():
        logits, (join, left) = Tap(net, ["join", "left"], SHAPE)(x)
        assert torch.equal(logits, net(x)) and torch.equal(left, net.left(x)) and torch.equal(join, Cut(net, "join")(x))


def test_a_tap_that_does_not_go_to_the_end_stops_at_its_last_layer() -> None:
    net = Branching()
    tap, ran = Tap(net, ["join", "right"], SHAPE, to_end=False), []
    for name in ("left", "right", "top", "head"):
        net.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    logits, features = tap(torch.randn(2, *SHAPE))
    assert logits is None and len(features) == 2 and ran == ["left", "right"]
    net(torch.randn(2, *SHAPE))
    assert ran[2:] == ["left", "right", "top", "head"], "the network itself still runs whole"


@pytest.mark.parametrize("net", [Branching(), convolutions(True)], ids=["branching", "sequential"])
def test_penultimate_is_what_the_last_linear_layer_is_given(net: nn.Module) -> None:
    last = {"Branching": "head", "Sequential": "8"}[type(net).__name__]
    name, shape = resolve_layer(net, "penultimate", SHAPE, "student", "k")
    assert (name, shape) == penultimate(net, SHAPE) == (f"{last}:input", (net.get_submodule(last).in_features,))
    net, x = net.eval(), torch.randn(2, *SHAPE)
    with torch.no_grad():
        logits, (feature,) = Tap(net, [name], SHAPE)(x)
        assert feature.shape == (2, *shape) and torch.equal(net.get_submodule(last)(feature), logits)
        assert torch.equal(Tap(net, [name], SHAPE, to_end=False)(x)[1][0], feature)
    below = {id(p) for p in guided_parameters(net, [name], SHAPE)}
    assert below and not below & {id(p) for p in net.get_submodule(last).parameters()}, "it is not run before its input"
    assert declared_nonlinearity(net, name) is None


def test_a_network_without_a_linear_layer_has_no_penultimate_one() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert penultimate(net, SHAPE) is None
    with pytest.raises(LayerError, match="penultimate"):
        resolve_layer(net, "penultimate", SHAPE, "student", "k")


# --------------------------------------------------------------------------------------- regressors

sizes = st.integers(1, 9)
channels = st.integers(1, 5)


@settings(deadline=None, max_examples=60)
@given(
    guided=st.tuples(channels, sizes, sizes),
    hint=st.tuples(channels, sizes, sizes),
    end=st.sampled_from(["linear", "relu", "maxout"]),
)
def test_every_planned_regressor_gives_the_hints_shape(guided: tuple, hint: tuple, end: str) -> None:
    for kind in ("auto", "strided", "fc"):
        try:
            plan = plan_regressor(guided, hint, kind, end)
        except LayerError:
            mixed = len({(g > h) - (g < h) for g, h in zip(guided[1:], hint[1:], strict=True)} - {0}) == 2
            smaller = any(g < h for g, h in zip(guided[1:], hint[1:], strict=True))
            assert kind != "fc" and (mixed or (kind == "strided" and smaller))
            continue
        assert plan.build()(torch.zeros(2, *guided)).shape == (2, *hint)


@settings(deadline=None)
@given(hint=sizes, extra=st.integers(0, 6), c_guided=channels, c_hint=channels)
def test_auto_is_the_papers_rule_wherever_the_guided_map_is_as_large(hint, extra, c_guided, c_hint) -> None:
    plan = plan_regressor((c_guided, hint + extra, hint + extra), (c_hint, hint, hint))
    if extra == 0 and c_guided == c_hint:
        assert plan.kind == "none" and isinstance(plan.build(), nn.Identity)
    else:
        assert plan.kind == "conv" and plan.kernel == (extra + 1, extra + 1)
        weights = sum(p.numel() for n, p in plan.build().named_parameters() if n.endswith("weight"))
        assert weights == (extra + 1) ** 2 * c_guided * c_hint  # paper section 2.2: k1 k2 O_h O_g


def test_the_papers_own_regressors() -> None:
    """FitNet 4: 8x8x80 -> 7x7x192 is 2x2, 61,440 weights by formula and twice that as maxout; MNIST: 768."""
    fitnet4 = plan_regressor((80, 8, 8), (192, 7, 7), "auto", "maxout", 2)
    assert fitnet4.kernel == (2, 2)
    assert sum(p.numel() for n, p in fitnet4.build().named_parameters() if "weight" in n) == 2 * 61_440
    mnist = plan_regressor((16, 4, 4), (48, 4, 4))
    assert mnist.kernel == (1, 1) and mnist.build()[0].weight.numel() == 768
    with torch.device("meta"):
        fc = plan_regressor((80, 8, 8), (192, 7, 7), "fc").build()
    assert fc[1].weight.numel() == 48_168_960  # why nobody takes it


def test_vectors_and_mixtures() -> None:
    assert plan_regressor((5,), (5,)).kind == "none"
    assert plan_regressor((5,), (7,), nonlinearity="relu").build()(torch.zeros(2, 5)).shape == (2, 7)
    with pytest.raises(LayerError, match=r"map and a vector.*regressor=fc"):
        plan_regressor((4, 3, 3), (7,))
    assert plan_regressor((4, 3, 3), (7,), "fc").build()(torch.zeros(2, 4, 3, 3)).shape == (2, 7)
    assert plan_regressor((7,), (4, 3, 3), "fc").build()(torch.zeros(2, 7)).shape == (2, 4, 3, 3)
    with pytest.raises(LayerError, match=r"needs \(C, H, W\) or \(D,\)"):
        plan_regressor((4, 3), (4, 3))
    with pytest.raises(LayerError, match="larger one way and smaller the other"):
        plan_regressor((4, 3, 8), (4, 5, 5))
    with pytest.raises(LayerError, match="at least as large"):
        plan_regressor((4, 3, 3), (4, 5, 5), "strided")


def test_a_smaller_guided_map_is_upsampled_and_only_then() -> None:
    assert plan_regressor((4, 3, 3), (4, 5, 5)).kind == "upsample"
    assert plan_regressor((4, 5, 5), (4, 3, 3)).kind == "conv"


@pytest.mark.parametrize("end", ["linear", "relu", "maxout"])
def test_the_regressor_ends_in_the_hints_nonlinearity(end: str) -> None:
    torch.manual_seed(0)
    plan = plan_regressor((4, 5, 5), (6, 3, 3), "auto", end, pieces=3)
    output = plan.build()(torch.randn(16, 4, 5, 5))
    assert bool((output < 0).any()) == (end != "relu")
    if end == "maxout":
        assert isinstance(plan.build()[0], MaxoutConv2d) and plan.build()[0].pieces == 3


def test_a_layer_declares_its_nonlinearity() -> None:
    net = nn.Sequential(MaxoutConv2d(1, 4, 3, pieces=5), nn.Conv2d(4, 4, 3))
    assert declared_nonlinearity(net, "0") == ("maxout", 5)
    assert declared_nonlinearity(net, "1") is None
