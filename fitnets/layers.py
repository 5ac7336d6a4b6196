"""Name a layer of any nn.Module, run up to it and stop, learn its shape, build the regressor that fits.

Everything is learned from one forward pass in eval mode, not from the order in which modules are registered, so
branching networks work. Plain torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fitnets.models.maxout import MaxoutConv2d, MaxoutLinear

Shape = tuple[int, ...]  # of one sample: (C, H, W) for a map, (D,) for a vector


class LayerError(ValueError):
    """A layer that cannot be a hint or guided layer; the message says why and lists what can."""


# ------------------------------------------------------------------------------------------- shapes


@contextmanager
def eval_mode(net: nn.Module) -> Iterator[None]:
    """Eval mode inside (batch norm must not move), each module's own mode restored after."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def layer_shapes(net: nn.Module, input_shape: Shape) -> dict[str, Shape]:
    """Shape of each layer's output for one sample, in the order in which they run. The last key, "", is the net.

    Only modules that run exactly once and give one tensor are listed.
    """
    calls = _trace(net, input_shape)
    return {name: shapes[0] for name, shapes in calls.items() if len(shapes) == 1 and shapes[0] is not None}


def _trace(net: nn.Module, input_shape: Shape) -> dict[str, list[Shape | None]]:
    """Output shapes of every call of every module; None for an output that is not one tensor."""
    calls: dict[str, list[Shape | None]] = {}
    handles = []
    for name, module in net.named_modules():

        def note(_module: nn.Module, _inputs: Any, output: Any, name: str = name) -> None:
            shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else None
            calls.setdefault(name, []).append(shape)

        handles.append(module.register_forward_hook(note))
    reference = next(net.parameters(), torch.empty(0))
    try:
        with eval_mode(net), torch.no_grad():
            net(torch.zeros(2, *input_shape, dtype=reference.dtype, device=reference.device))
    finally:
        for handle in handles:
            handle.remove()
    return calls


def resolve_layer(net: nn.Module, layer: str, input_shape: Shape, whose: str, key: str) -> tuple[str, Shape]:
    """Full name and output shape of a layer given by module name or by a position that the net declares.

    Positions ("early", "middle", "late") stand in the net's `positions`. Raises LayerError, which lists the
    layers with their shapes, for an unknown name, for a module that never runs or runs more than once in a
    forward pass, and for one whose output is not a (C, H, W) map or a (D,) vector.
    """
    name = layer if layer in dict(net.named_modules()) else getattr(net, "positions", {}).get(layer, layer)
    calls = _trace(net, input_shape)
    usable = {n: s[0] for n, s in calls.items() if n and len(s) == 1 and s[0] is not None and len(s[0]) in (1, 3)}
    if name in usable:
        return name, usable[name]
    if name not in dict(net.named_modules()):
        positions = getattr(net, "positions", None)
        why = f"has no layer {layer!r}" + ("" if positions else " and declares no positions")
    elif name not in calls:
        why = f"has a layer {layer!r}, but it does not run in a forward pass"
    elif len(calls[name]) > 1:
        why = f"uses {layer!r} {len(calls[name])} times in one forward pass, so its output is not one hint"
    else:
        why = f"has a layer {layer!r}, but its output is not one map (C, H, W) or vector (D,)"
    listing = ", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in usable.items())
    raise LayerError(f"the {whose} {why}; type {key}=NAME with one of: {listing}")


# --------------------------------------------------------------------------------------------- cuts


class _Reached(Exception):
    """Thrown by the hook on the named layer: what it gave; nothing above it runs."""

    def __init__(self, output: Tensor):
        self.output = output


class Cut(nn.Module):
    """A network that runs up to a named layer and stops there: (B, C, H, W) -> that layer's output.

    The network is shared, not copied; its own forward is unchanged. torch.compile sees one graph (a hook that were
    registered at each call would break it).
    """

    def __init__(self, net: nn.Module, layer: str):
        super().__init__()
        self.net = net
        self.layer = layer
        self.cutting = False

        def stop(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if self.cutting:
                raise _Reached(output)

        net.get_submodule(layer).register_forward_hook(stop)

    def forward(self, x: Tensor) -> Tensor:
        self.cutting = True
        try:
            self.net(x)
        except _Reached as reached:
            return reached.output
        finally:
            self.cutting = False
        raise LayerError(f"layer {self.layer!r} did not run")


@contextmanager
def watched(net: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """The outputs of a layer in the forward passes made inside, whole passes."""
    outputs: list[Tensor] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda _m, _i, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def guided_half(net: nn.Module, layer: str, input_shape: Shape) -> list[nn.Module]:
    """The modules that one eval-mode forward pass touches before the layer's output: the half that hints train."""
    touched: list[nn.Module] = []
    handles = [
        module.register_forward_pre_hook(lambda module, _inputs: touched.append(module)) for module in net.modules()
    ]
    reference = next(net.parameters(), torch.empty(0))
    try:
        with eval_mode(net), torch.no_grad():
            Cut(net, layer)(torch.zeros(2, *input_shape, dtype=reference.dtype, device=reference.device))
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(touched))


def guided_parameters(net: nn.Module, layer: str, input_shape: Shape) -> list[nn.Parameter]:
    """The trainable parameters of the guided half, each once."""
    modules = guided_half(net, layer, input_shape)
    own = (p for module in modules for p in module.parameters(recurse=False))
    return [p for p in dict.fromkeys(own) if p.requires_grad]


# --------------------------------------------------------------------------------------- regressors


@dataclass(frozen=True)
class RegressorPlan:
    """What the two shapes ask for; `build` makes it. `kind` is one of none, conv, strided, upsample, fc."""

    guided: Shape
    hint: Shape
    kind: str
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    nonlinearity: str = "linear"
    pieces: int = 2

    def build(self) -> nn.Module:
        """A module from guided output to hint output, ending in the hint's non-linearity (paper section 2.2)."""
        if self.kind == "none":
            return nn.Identity()
        layers: list[nn.Module] = []
        units = self.hint[0] if self.kind != "fc" else _count(self.hint)
        if self.kind == "fc":
            layers.append(nn.Flatten())
            if self.nonlinearity == "maxout":
                layers.append(MaxoutLinear(_count(self.guided), units, self.pieces))
            else:
                layers.append(nn.Linear(_count(self.guided), units))
        else:
            if self.kind == "upsample":
                layers.append(nn.Upsample(self.hint[1:], mode="bilinear", align_corners=False))
            if self.nonlinearity == "maxout":
                layers.append(MaxoutConv2d(self.guided[0], units, self.kernel, stride=self.stride, pieces=self.pieces))
            else:
                layers.append(nn.Conv2d(self.guided[0], units, self.kernel, stride=self.stride))
        if self.nonlinearity == "relu":
            layers.append(nn.ReLU())
        if self.kind == "fc" and len(self.hint) == 3:
            layers.append(nn.Unflatten(1, self.hint))
        return nn.Sequential(*layers)

    def __str__(self) -> str:
        size = {
            "conv": f" {self.kernel[0]}x{self.kernel[1]}",
            "strided": f" {self.kernel[0]}x{self.kernel[1]} stride {self.stride[0]}x{self.stride[1]}",
        }.get(self.kind, "")
        end = "" if self.kind == "none" else f", {self.nonlinearity}"
        shapes = " -> ".join("x".join(map(str, shape)) for shape in (self.guided, self.hint))
        return f"{self.kind}{size}{end} ({shapes})"


def plan_regressor(guided: Shape, hint: Shape, kind: str = "auto", nonlinearity: str = "linear", pieces: int = 2):
    """Which regressor takes the guided layer's output to the hint's. Shapes are of one sample.

    `auto` is the paper's rule wherever it has a solution: a valid convolution with kernel
    k = N_guided - N_hint + 1 (section 2.2); none where the shapes agree; 1x1 after bilinear upsampling where the
    guided map is smaller; a linear layer between vectors. `strided` is a valid convolution with stride
    N_guided // N_hint, far fewer weights for a much larger guided map; `fc` is the paper's fully connected
    alternative and fits anything. The end is `nonlinearity`: linear, relu or maxout with `pieces`.
    Raises LayerError for a pair that nothing fits.
    """

    def planned(kind: str, **sizes: Any) -> RegressorPlan:
        return RegressorPlan(guided, hint, kind, nonlinearity=nonlinearity, pieces=pieces, **sizes)

    for whose, shape in (("guided", guided), ("hint", hint)):
        if len(shape) not in (1, 3):
            raise LayerError(f"the {whose} layer gives shape {shape} a sample; a hint needs (C, H, W) or (D,)")
    if kind == "fc":
        return planned("fc")
    pair = f"{'x'.join(map(str, guided))} -> {'x'.join(map(str, hint))}"
    if len(guided) != len(hint):
        raise LayerError(f"no convolution takes {pair} (a map and a vector): type regressor=fc")
    if len(guided) == 1:
        if kind == "strided":
            raise LayerError(f"regressor=strided needs maps, got vectors {pair}: type regressor=auto or fc")
        return RegressorPlan(guided, hint, "none") if guided == hint else planned("fc")
    larger = [g >= h for g, h in zip(guided[1:], hint[1:], strict=True)]
    if kind == "strided":
        if not all(larger):
            raise LayerError(f"regressor=strided needs a guided map at least as large, got {pair}: type regressor=auto")
        stride = (guided[1] // hint[1], guided[2] // hint[2])
        kernel = (guided[1] - (hint[1] - 1) * stride[0], guided[2] - (hint[2] - 1) * stride[1])
        return planned("strided", kernel=kernel, stride=stride)
    if guided == hint:
        return RegressorPlan(guided, hint, "none")
    if all(larger):
        return planned("conv", kernel=(guided[1] - hint[1] + 1, guided[2] - hint[2] + 1))
    if any(g > h for g, h in zip(guided[1:], hint[1:], strict=True)):
        raise LayerError(f"the guided map is larger one way and smaller the other, {pair}: type regressor=fc")
    return planned("upsample")


def declared_nonlinearity(net: nn.Module, layer: str) -> tuple[str, int] | None:
    """(non-linearity, pieces) that the layer itself declares, as the layers of `fitnets.models` do; else None."""
    module = net.get_submodule(layer)
    nonlinearity = getattr(module, "nonlinearity", None)
    return (nonlinearity, getattr(module, "pieces", 2)) if isinstance(nonlinearity, str) else None


def _count(shape: Shape) -> int:
    return torch.Size(shape).numel()
