"""Name a layer of any nn.Module, learn its shape, run up to it and stop, hear several on the way.

Everything is learned from one forward pass in eval mode, not from the order in which modules are registered, so
branching networks work. Plain torch.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]  # of one sample: (C, H, W) for a map, (D,) for a vector


class LayerError(ValueError):
    """A layer that cannot be a hint or guided layer; the message says why and lists what can."""


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


def probe(net: nn.Module, run: nn.Module, input_shape: Shape) -> Any:
    """One eval-mode forward pass of `run` (the net, or the net cut) on two zero images, without gradients."""
    with eval_mode(net), torch.no_grad():
        return run(_zeros(net, input_shape))


def _zeros(net: nn.Module, input_shape: Shape) -> Tensor:
    """Two images for a net, of its type and on its device."""
    reference = next(net.parameters(), torch.empty(0))
    return torch.zeros(2, *input_shape, dtype=reference.dtype, device=reference.device)


def _trace(net: nn.Module, input_shape: Shape) -> dict[str, list[Shape | None]]:
    """Output shapes of every call of every module; None for an output that is not one tensor."""
    calls: dict[str, list[Shape | None]] = {}

    def record(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        calls.setdefault(name, []).append(tuple(output.shape[1:]) if isinstance(output, Tensor) else None)

    with ExitStack() as hooks:
        for name, module in net.named_modules():
            hooks.enter_context(module.register_forward_hook(partial(record, name)))
        probe(net, net, input_shape)
    return calls


def layer_shapes(net: nn.Module, input_shape: Shape) -> dict[str, Shape]:
    """Shape of each layer's output for one sample, in the order in which they run. The last key, "", is the net.

    Only modules that run exactly once and give one tensor are listed.
    """
    calls = _trace(net, input_shape)
    return {name: shapes[0] for name, shapes in calls.items() if len(shapes) == 1 and shapes[0] is not None}


def penultimate(net: nn.Module, input_shape: Shape) -> tuple[str, Shape] | None:
    """The input of the last linear layer that runs, as "NAME:input", and its shape; None where there is none."""
    calls = _trace(net, input_shape)
    linear = [name for name in calls if isinstance(net.get_submodule(name), nn.Linear) and len(calls[name]) == 1]
    if not linear:
        return None
    return f"{linear[-1]}:input", (net.get_submodule(linear[-1]).in_features,)  # type: ignore[return-value]


def resolve_layer(net: nn.Module, layer: str, input_shape: Shape, whose: str, key: str) -> tuple[str, Shape]:
    """Full name and output shape of a layer given by module name or by a position that the net declares.

    Positions ("early", "middle", "late") stand in the net's `positions`; "penultimate" is what the last linear layer
    of any network is given. Raises LayerError, which lists the layers with their shapes, for an unknown name, for a
    module that does not run exactly once in a forward pass, and for an output that is no (C, H, W) map or (D,) vector.
    """
    positions, modules = getattr(net, "positions", {}), dict(net.named_modules())
    name = layer if layer in modules else positions.get(layer, layer)
    if name == "penultimate" and (found := penultimate(net, input_shape)):
        return found
    usable = {n: shape for n, shape in layer_shapes(net, input_shape).items() if n and len(shape) in (1, 3)}
    if name in usable:
        return name, usable[name]
    calls = _trace(net, input_shape)
    if name not in modules:
        why = f"has no layer {layer!r}" + ("" if positions else " and declares no positions")
    elif name not in calls:
        why = f"has a layer {layer!r}, but it does not run in a forward pass"
    elif len(calls[name]) > 1:
        why = f"uses {layer!r} {len(calls[name])} times in one forward pass, so its output is not one hint"
    else:
        why = f"has a layer {layer!r}, but its output is not one map (C, H, W) or vector (D,)"
    listing = ", ".join(f"{n} {'x'.join(map(str, shape))}" for n, shape in usable.items())
    raise LayerError(f"the {whose} {why}; type {key}=NAME with one of: {listing}")


def declared_nonlinearity(net: nn.Module, layer: str) -> tuple[str, int] | None:
    """(non-linearity, pieces) that the layer itself declares, as the layers of `fitnets.models` do; else None."""
    if ":" in layer:  # of what a layer is given, nothing is declared
        return None
    module = net.get_submodule(layer)
    nonlinearity = getattr(module, "nonlinearity", None)
    return (nonlinearity, getattr(module, "pieces", 2)) if isinstance(nonlinearity, str) else None


class _Reached(Exception):
    """Thrown by the hook on the named layer: what it gave; nothing above it runs."""

    def __init__(self, output: Tensor):
        self.output = output


def _on(net: nn.Module, layer: str, hook: Callable[[Tensor], None]) -> Any:
    """Call `hook` with what a layer gives, or with what it is given ("NAME:input"), whenever it runs."""
    name, _, side = layer.partition(":")
    module = net.get_submodule(name)
    if side == "input":
        return module.register_forward_pre_hook(lambda _module, inputs: hook(inputs[0]))
    return module.register_forward_hook(lambda _module, _inputs, output: hook(output))


class Cut(nn.Module):
    """A network that runs up to a named layer and stops there: (B, C, H, W) -> that layer's output.

    The network is shared, its own forward unchanged. torch.compile sees one graph: a hook registered at each call would
    break it.
    """

    def __init__(self, net: nn.Module, layer: str):
        super().__init__()
        self.net = net
        self.layer = layer
        self.cutting = False
        _on(net, layer, self._stop)

    def _stop(self, output: Tensor) -> None:
        if self.cutting:
            raise _Reached(output)

    def forward(self, x: Tensor) -> Tensor:
        self.cutting = True
        try:
            self.net(x)
        except _Reached as reached:
            return reached.output
        finally:
            self.cutting = False
        raise LayerError(f"layer {self.layer!r} did not run")


class Tap(nn.Module):
    """A network with what it gives at some layers: (B, C, H, W) -> (logits, features in the order of `layers`).

    Without `to_end` it stops at the last of them, and logits is None. The network is shared, not copied. A feature that
    the network changes in place later on (a ReLU, say) is copied first.
    """

    def __init__(self, net: nn.Module, layers: Sequence[str], input_shape: Shape, to_end: bool = True):
        super().__init__()
        self.net = net
        self.layers = tuple(layers)
        self.to_end = to_end
        self.heard: dict[str, Tensor] | None = None  # while it runs
        self.copied: set[str] = set()
        for layer in dict.fromkeys(layers):
            _on(net, layer, partial(self._hear, layer))
        in_order = self._probed(input_shape)
        self.run = net if to_end else Cut(net, in_order[-1])

    def _hear(self, layer: str, output: Tensor) -> None:
        if self.heard is not None:
            self.heard[layer] = output.clone() if layer in self.copied else output

    def _probed(self, input_shape: Shape) -> list[str]:
        """The layers in the order in which they run; finds those whose features must be copied."""
        versions: dict[str, int] = {}  # torch counts a tensor's changes in place

        def count(layer: str, output: Tensor) -> None:
            versions[layer] = output._version

        heard = self.heard = {}
        with ExitStack() as hooks:
            for layer in self.layers:
                hooks.enter_context(_on(self.net, layer, partial(count, layer)))
            probe(self.net, self.net, input_shape)
        self.heard = None
        only_in_training = any(getattr(module, "inplace", False) for module in self.net.modules())  # a dropout, say
        changed = {layer for layer, output in heard.items() if output._version != versions[layer]}
        self.copied = set(heard) if only_in_training else changed
        return list(heard)

    def forward(self, x: Tensor) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        self.heard = {}
        try:
            last = self.run(x)
            return (last if self.to_end else None), tuple(self.heard[layer] for layer in self.layers)
        finally:
            self.heard = None


def parameters_below(net: nn.Module, layers: Sequence[str], input_shape: Shape) -> list[nn.Parameter]:
    """The trainable parameters that the output of any of the layers depends on, each once, in the net's order.

    They are found in autograd's graph of one eval-mode forward pass, so it does not matter how they are used: by a
    module that is called, or bare (an attention's projection, a ParameterList, a class token). Raises LayerError
    where the graph does not show them.
    """
    below: set[Any] = set()
    for layer in layers:
        with eval_mode(net), torch.enable_grad():
            output = Cut(net, layer)(_zeros(net, input_shape))
        seen, todo = set[Any](), [output.grad_fn]
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if type(node).__name__ == "CheckpointFunctionBackward":
                raise LayerError(f"what {layer!r} depends on is hidden by a checkpoint: give it use_reentrant=False")
            below.add(getattr(node, "variable", None))
            todo += [before for before, _ in node.next_functions]
    return [parameter for parameter in net.parameters() if parameter in below]


def guided_parameters(net: nn.Module, layers: Sequence[str], input_shape: Shape) -> list[nn.Parameter]:
    """The half that hints train: the parameters below the guided layers. Raises LayerError where there are none."""
    below = parameters_below(net, layers, input_shape)
    if not below:
        raise LayerError(f"nothing that could be trained lies below {', '.join(layers)}: type a later student layer")
    return below


def guided_modules(net: nn.Module, layers: Sequence[str], input_shape: Shape) -> list[nn.Module]:
    """The modules that have run when the guided layers have, and do not run again above them; their parts too."""
    below = Counter(module for layer in layers for module in _run(net, Cut(net, layer), input_shape))
    everywhere = Counter(_run(net, net, input_shape))
    own = [module for module in below if everywhere[module] <= below[module]]
    parts = dict.fromkeys(part for module in own for part in module.modules())
    return [part for part in parts if everywhere[part] <= below[part]]


def _run(net: nn.Module, run: nn.Module, input_shape: Shape) -> list[nn.Module]:
    """Each module that ends in a forward pass of `run`, once a call."""
    ended: list[nn.Module] = []
    with ExitStack() as hooks:
        for module in net.modules():
            hook = module.register_forward_hook(lambda module, *_: ended.append(module), prepend=True)  # before a cut's
            hooks.enter_context(hook)
        probe(net, run, input_shape)
    return ended
