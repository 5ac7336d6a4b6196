"""What a network costs: parameters, multiplications, time."""

import copy
import time

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fitnets.models.layers import Shape, eval_mode


def parameters(net: nn.Module) -> int:
    """All parameters, biases and every maxout piece included."""
    return sum(p.numel() for p in net.parameters())


def multiplications(net: nn.Module, input_shape: Shape) -> int:
    """Multiply-adds of convolutions and linear layers for one sample, every maxout piece included."""
    try:
        return _counted(net, input_shape, "meta")
    except Exception:  # a network that looks at what it computes
        return _counted(net, input_shape, "cpu")


def _counted(net: nn.Module, input_shape: Shape, device: str) -> int:
    shadow = copy.deepcopy(net).to(device).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        shadow(torch.zeros(1, *input_shape, device=device))
    return counter.get_total_flops() // 2


@torch.no_grad()
def latency(net: nn.Module, x: Tensor, seconds: float = 0.015) -> tuple[float, float]:
    """Milliseconds of one forward pass in eval mode on `x` (B, C, H, W): median and 95th percentile.

    Measured for about `seconds`, after a pass to warm up; where that one takes as long already, it is what counts. Not
    through torch.compile, where the net is compiled: a new batch size would compile again.
    """
    wait = torch.cuda.synchronize if x.is_cuda else lambda: None

    def once() -> float:
        started = time.perf_counter()
        net.forward(x)
        wait()
        return time.perf_counter() - started

    with eval_mode(net):
        times = [once()]
        if times[0] < seconds:
            times = [once()]
            while sum(times) < seconds:
                times.append(once())
    p50, p95 = torch.tensor(times, dtype=torch.float64).quantile(torch.tensor([0.5, 0.95], dtype=torch.float64))
    return 1000 * p50.item(), 1000 * p95.item()
