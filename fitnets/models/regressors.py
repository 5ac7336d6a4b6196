"""The regressor that takes the guided layer's output to the hint's: what two shapes ask for. Plain torch."""

import math
from dataclasses import dataclass
from functools import partial

from torch import nn

from fitnets.models.blocks import MaxoutConv2d, MaxoutLinear
from fitnets.models.layers import LayerError, Shape


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
        maxout = self.nonlinearity == "maxout"
        layers: list[nn.Module] = []
        if self.kind == "fc":
            linear = partial(MaxoutLinear, pieces=self.pieces) if maxout else nn.Linear
            layers += [nn.Flatten(), linear(math.prod(self.guided), math.prod(self.hint))]
        else:
            if self.kind == "upsample":
                layers.append(nn.Upsample(self.hint[1:], mode="bilinear", align_corners=False))
            convolution = partial(MaxoutConv2d, pieces=self.pieces) if maxout else nn.Conv2d
            layers.append(convolution(self.guided[0], self.hint[0], self.kernel, stride=self.stride))
        if self.nonlinearity == "relu":
            layers.append(nn.ReLU())
        if self.kind == "fc" and len(self.hint) == 3:
            layers.append(nn.Unflatten(1, self.hint))
        return nn.Sequential(*layers)

    def __str__(self) -> str:
        size = f" {_text(self.kernel)}" if self.kind in ("conv", "strided") else ""
        stride = f" stride {_text(self.stride)}" if self.kind == "strided" else ""
        end = "" if self.kind == "none" else f", {self.nonlinearity}"
        return f"{self.kind}{size}{stride}{end} ({_text(self.guided)} -> {_text(self.hint)})"


def plan_regressor(
    guided: Shape, hint: Shape, kind: str = "auto", nonlinearity: str = "linear", pieces: int = 2
) -> RegressorPlan:
    """Which regressor takes the guided layer's output to the hint's. Shapes are of one sample.

    `auto` is the paper's rule wherever it has a solution: a valid convolution with kernel
    k = N_guided - N_hint + 1 (section 2.2); none where the shapes agree; 1x1 after bilinear upsampling where the
    guided map is smaller; a linear layer between vectors. `strided` is a valid convolution with stride
    N_guided // N_hint, far fewer weights for a much larger guided map; `fc` is the paper's fully connected
    alternative and fits anything. The end is `nonlinearity`: linear, relu or maxout with `pieces`.
    Raises LayerError for a pair that nothing fits.
    """
    planned = partial(RegressorPlan, guided, hint, nonlinearity=nonlinearity, pieces=pieces)
    for whose, shape in (("guided", guided), ("hint", hint)):
        if len(shape) not in (1, 3):
            raise LayerError(f"the {whose} layer gives shape {shape} a sample; a hint needs (C, H, W) or (D,)")
    if kind == "fc":
        return planned("fc")
    pair = f"{_text(guided)} -> {_text(hint)}"
    if len(guided) != len(hint):
        raise LayerError(f"no convolution takes {pair} (a map and a vector): type regressor=fc")
    if kind == "strided" and len(guided) == 1:
        raise LayerError(f"regressor=strided needs maps, got vectors {pair}: type regressor=auto or fc")
    if kind != "strided" and guided == hint:
        return RegressorPlan(guided, hint, "none")
    if len(guided) == 1:
        return planned("fc")
    height, width = guided[1] - hint[1], guided[2] - hint[2]  # by how much the guided map is larger
    if kind == "strided":
        if min(height, width) < 0:
            raise LayerError(f"regressor=strided needs a guided map at least as large, got {pair}: type regressor=auto")
        stride = (guided[1] // hint[1], guided[2] // hint[2])
        kernel = (guided[1] - (hint[1] - 1) * stride[0], guided[2] - (hint[2] - 1) * stride[1])
        return planned("strided", kernel, stride)
    if min(height, width) >= 0:
        return planned("conv", (height + 1, width + 1))
    if max(height, width) > 0:
        raise LayerError(f"the guided map is larger one way and smaller the other, {pair}: type regressor=fc")
    return planned("upsample")


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
