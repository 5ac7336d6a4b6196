"""Networks on the meta device, which takes neither time nor memory: for questions of shapes, before any training."""

from collections.abc import Mapping
from typing import Any

import torch

from fitnets.load import build_net
from fitnets.models.layers import layer_shapes


def shaped(spec: Mapping[str, Any], input_shape: tuple[int, ...], num_classes: int) -> tuple[Any, Any]:
    """The network and its layers' shapes. One that looks at its weights or loads them is built on the CPU."""
    try:
        with torch.device("meta"):
            net = build_net(dict(spec), input_shape, num_classes)
        return net, layer_shapes(net, input_shape)
    except Exception:  # of its own, or because of the device: the CPU will tell
        with torch.random.fork_rng(devices=[]):
            net = build_net(dict(spec), input_shape, num_classes)
        return net, layer_shapes(net, input_shape)


def all_on_meta(*nets: torch.nn.Module) -> bool:
    return all(tensor.is_meta for net in nets for tensor in _tensors(net))


def to_cpu(net: torch.nn.Module) -> None:
    """Weights for a network that has none, of a usual size: what lies in empty memory may be no number."""
    if any(tensor.is_meta for tensor in _tensors(net)):
        net.to_empty(device="cpu")
        for tensor in _tensors(net):
            if tensor.ndim > 1 and tensor.is_floating_point():
                tensor.data.normal_(0, (len(tensor) / max(1, tensor.numel())) ** 0.5)
            else:
                tensor.data.fill_(1)


def _tensors(net: torch.nn.Module) -> list[torch.Tensor]:
    return [*net.parameters(), *net.buffers()]
