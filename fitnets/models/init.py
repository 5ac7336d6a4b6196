"""Initialisers: functions that fill a network's weights in place, from torch's global random state.

Each is called as `init(net, **options)` and fills convolutions and linear layers; layers of other kinds keep torch's
own initial weights. Biases start at 0 (paper, supplementary A), batch norm at 1 and 0.
"""

import math
from collections.abc import Iterator

from torch import nn


def _layers(net: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    """The layers to fill, each with its bias at 0."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            yield layer


def scaled(net: nn.Module) -> None:
    """Normal weights that keep the signal's second moment from layer to layer (He et al. 2015, fan in).

    Variance gain / fan_in: gain 2 for convolutions (a ReLU follows them), 1 for maxout and for linear layers. (The
    larger of two independent unit normals has second moment 1, so two-piece maxout needs no correction.)
    """
    for layer in _layers(net):
        gain = 1.0 if hasattr(layer, "pieces") or isinstance(layer, nn.Linear) else 2.0
        nn.init.normal_(layer.weight, std=math.sqrt(gain / layer.weight[0].numel()))


def uniform(net: nn.Module, bound: float) -> None:
    """U(-bound, bound) in every layer. The paper's students have bound 0.005, which starves deep nets."""
    for layer in _layers(net):
        nn.init.uniform_(layer.weight, -bound, bound)
