"""Initialisers: functions that fill a network's weights in place, from torch's global random state.

Each is called as `init(net, **options)`; biases start at 0 (paper, supplementary A) and batch norm at 1 and 0.
"""

import math

from torch import nn


def _layers(net: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def scaled(net: nn.Module) -> None:
    """Normal weights that keep the signal's second moment from layer to layer (He et al. 2015, fan in).

    Variance gain / fan_in: gain 2 for convolutions (a ReLU follows them), 1 for maxout and for linear layers. (The
    larger of two independent unit normals has second moment 1, so two-piece maxout needs no correction.)
    Layers of other kinds keep torch's own initial weights.
    """
    for layer in _layers(net):
        gain = 1.0 if hasattr(layer, "pieces") or isinstance(layer, nn.Linear) else 2.0
        nn.init.normal_(layer.weight, std=math.sqrt(gain / layer.weight[0].numel()))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def uniform(net: nn.Module, bound: float) -> None:
    """U(-bound, bound) in every layer. The paper's students have bound 0.005, which starves deep nets.

    Convolutions and linear layers only; layers of other kinds keep torch's own initial weights.
    """
    for layer in _layers(net):
        nn.init.uniform_(layer.weight, -bound, bound)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
