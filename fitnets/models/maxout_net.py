"""Maxout networks layer by layer, as the paper's and pylearn2's YAML files write them down. Plain torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from fitnets.models.maxout import MaxoutConv2d, MaxoutLinear, flat_features


class MaxoutNet(nn.Sequential):
    """(B, C, H, W) -> logits (B, num_classes). Layers `conv1`, `conv2`, ..., `fc`, `classifier`.

    `convs` lists each convolution: units, kernel, and where they differ from the defaults pad 0, stride 1, pieces 2,
    pool (window, stride) none, max_norm none. `fc` is a maxout layer (units, pieces, max_norm), or null.
    `input_dropout` is the probability before conv1, `dropout` before every later layer. `positions` names layers
    that may be hint or guided layers.

    Source: paper, supplementary A.1.1 to A.3; pylearn2 scripts/papers/maxout.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        convs: Sequence[Mapping[str, Any]],
        positions: Mapping[str, str],
        fc: Mapping[str, Any] | None = None,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        classifier_max_norm: float | None = None,
    ):
        super().__init__()
        self.positions = dict(positions)
        channels = input_shape[0]
        for number, conv in enumerate(convs, 1):
            self._drop(number, input_dropout if number == 1 else dropout)
            options = {"pad": 0, "pieces": 2, "pool": None, "max_norm": None} | dict(conv)
            padding, units, kernel = options.pop("pad"), options.pop("units"), options.pop("kernel")
            self.add_module(f"conv{number}", MaxoutConv2d(channels, units, kernel, padding, **options))
            channels = units
        self.flatten = nn.Flatten()
        features = flat_features(self, input_shape)
        if fc:
            self._drop(len(convs) + 1, dropout)
            self.fc = MaxoutLinear(features, **fc)
            features = fc["units"]
        self._drop(len(convs) + 2, dropout)
        self.classifier = nn.Linear(features, num_classes)
        self.classifier.max_norm = classifier_max_norm  # type: ignore[assignment]

    def _drop(self, number: int, probability: float) -> None:
        if probability:
            self.add_module(f"drop{number}", nn.Dropout(probability))
