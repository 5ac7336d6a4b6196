"""What a network costs: parameters and multiplications."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fitnets.layers import Shape


def parameters(net: nn.Module) -> int:
    """All parameters, biases and every maxout piece included."""
    return sum(p.numel() for p in net.parameters())


def multiplications(net: nn.Module, input_shape: Shape) -> int:
    """Multiply-adds of convolutions and linear layers for one sample, every maxout piece included."""
    shadow = copy.deepcopy(net).to("meta").eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        shadow(torch.zeros(1, *input_shape, device="meta"))
    return counter.get_total_flops() // 2
