"""A stage's optimizer, learning rate schedule and weight bounds, from its recipe."""

import math
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from fitnets.components import build

REGRESSOR_MAX_NORM = 0.9  # the original code's, where a recipe has `max_norm: true`


Factors = dict[nn.Parameter, float]


def parameter_factors(
    net: nn.Module,
    trained: Iterable[nn.Parameter],
    recipe: Mapping[str, Any],
    slowed: Mapping[float, Iterable[nn.Parameter]],
) -> Factors:
    """Factors on the learning rate of the parameters of `net` that learn.

    `conv_lr_scale` is the recipe's, for convolutions; `slowed` gives further ones: the guided half's in stage 2.
    """
    factors = {parameter: 1.0 for parameter in trained}
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            for parameter in module.parameters(recurse=False):
                if parameter in factors:
                    factors[parameter] *= recipe.get("conv_lr_scale", 1.0)
    for scale, parameters in slowed.items():
        for parameter in parameters:
            factors[parameter] *= scale
    return factors


def make_optimizer(
    net: nn.Module, factors: Factors, projector: nn.Module, recipe: Mapping[str, Any], updates: int
) -> dict[str, Any]:
    """What a LightningModule returns from configure_optimizers: fresh state, the schedule stepped by updates.

    `projector` holds what learns along and is no part of `net`: a regressor, a head. `recipe` has `optimizer` (a
    `_target_` and its options), `lr_schedule`, and where they are not the plain ones `lr_end`, `momentum` ({end,
    fraction}: the optimizer's own rises to `end` over that fraction of the updates) and `max_norm` (keep each filter
    within the `max_norm` that its layer declares).
    `updates` is counted by the caller: Lightning's own estimate would lose the position of the data order on resume.
    """
    factor = factors | {parameter: 1.0 for parameter in projector.parameters()}
    lr = recipe["optimizer"]["lr"]
    groups = [
        {"params": [p for p, f in factor.items() if f == value], "lr": lr * value}
        for value in sorted(set(factor.values()), reverse=True)
    ]
    optimizer = new_optimizer(recipe["optimizer"], groups, recipe.get("fused", False))
    if recipe.get("max_norm"):
        layers: list[Any] = [m for m in net.modules() if getattr(m, "max_norm", None) and m.weight in factors]
        bounds = [(layer.weight, layer.max_norm) for layer in layers]
        bounds += [(p, REGRESSOR_MAX_NORM) for p in projector.parameters() if p.ndim > 1]
        optimizer.register_step_post_hook(lambda *_: bound_norms(bounds))
    schedule, end, momentum = recipe["lr_schedule"], recipe.get("lr_end", 0.0), recipe.get("momentum")
    if schedule == "constant" and not momentum:
        return {"optimizer": optimizer}
    scheduler = Schedule(optimizer, lambda step: lr_factor(schedule, min(step, updates), updates, end), None)
    if momentum:
        scheduler.momentum = rising(optimizer.param_groups[0]["momentum"], momentum, updates)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def new_optimizer(spec: Mapping[str, Any], params: list[Any], fused: str | bool = False) -> torch.optim.Optimizer:
    """The optimizer that a config describes; options that are null are left out (another recipe's, say).

    `fused` "auto": an optimizer that has `fused=True` (torch's own) updates all parameters in one kernel.
    """
    options = {key: value for key, value in spec.items() if value is not None}
    if fused == "auto" and "fused" in signature(pkgutil.resolve_name(spec["_target_"])).parameters:
        options.setdefault("fused", True)
    return build(options, params)


def lr_factor(schedule: str, step: int, steps: int, end: float) -> float:
    """Factor on the learning rate before update `step` (from 0) of `steps`.

    cosine and linear go from 1 to `end`; exponential is multiplied by `end` at every update, however many there are
    (pylearn2's ExponentialDecay); steps: a tenth of it at 4/9, 6/9 and 8/9 (LSUV's recipe: at 40k, 60k, 80k of
    90k); constant: 1. Raises KeyError for another word.
    """
    done = step / steps
    factors: dict[str, Callable[[], float]] = {
        "cosine": lambda: end + (1 - end) * 0.5 * (1 + math.cos(math.pi * done)),
        "linear": lambda: 1 + (end - 1) * done,
        "exponential": lambda: end**step,
        "steps": lambda: 0.1 ** sum(9 * step >= ninths * steps for ninths in (4, 6, 8)),
        "constant": lambda: 1.0,
    }
    return factors[schedule]()


def rising(start: float, momentum: Mapping[str, float], updates: int) -> Callable[[int], float]:
    """Momentum before an update: linear from `start` to `end` over a fraction of the updates, then constant."""
    horizon = max(1.0, momentum["fraction"] * updates)
    return lambda step: start + (momentum["end"] - start) * min(1.0, step / horizon)


class Schedule(torch.optim.lr_scheduler.LambdaLR):
    """Learning rate and, where there is one, momentum, both functions of the update's number."""

    def __init__(self, optimizer: Any, factor: Callable[[int], float], momentum: Callable[[int], float] | None):
        self.momentum = momentum
        super().__init__(optimizer, factor)

    def step(self, epoch: int | None = None) -> None:
        super().step(epoch)
        if self.momentum:
            for group in self.optimizer.param_groups:
                group["momentum"] = self.momentum(self.last_epoch)

    def state_dict(self) -> dict[str, Any]:
        return {key: value for key, value in super().state_dict().items() if key != "momentum"}


@torch.no_grad()
def bound_norms(bounds: Iterable[tuple[Tensor, float]]) -> None:
    """Scale each filter (row of the flattened weight: one piece of one unit) down to its largest norm (pylearn2)."""
    for weight, largest in bounds:
        norms = torch.linalg.vector_norm(weight.flatten(1), dim=1)
        factor = norms.clamp(max=largest) / (norms + 1e-7)
        weight.mul_(factor.view(-1, *[1] * (weight.ndim - 1)))


class RMSPropFloor(torch.optim.Optimizer):
    """The original code's RMSProp: m = decay m + (1 - decay) g^2 from 0; step lr g / max(sqrt(m), floor).

    torch's own adds an epsilon outside the root instead, and its default decay is 0.99. Source: pylearn2
    learning_rule.py (decay 0.9, max_scaling 1e5, so floor 1e-5).
    """

    def __init__(self, params: Any, lr: float, decay: float = 0.9, floor: float = 1e-5):
        super().__init__(params, {"lr": lr, "decay": decay, "floor": floor})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = torch.enable_grad()(closure)() if closure else None
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads: list[Tensor] = [p.grad for p in params]
            for p in params:
                if not self.state[p]:
                    self.state[p]["square"] = torch.zeros_like(p)
            squares = [self.state[p]["square"] for p in params]
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, grads, grads, 1 - group["decay"])
            scale = torch._foreach_sqrt(squares)
            torch._foreach_clamp_min_(scale, group["floor"])
            torch._foreach_addcdiv_(params, grads, scale, -group["lr"])
        return loss
