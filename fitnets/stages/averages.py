"""Averages of training figures over an epoch, summed on the device: nothing here waits for it."""

from collections.abc import Mapping

from pytorch_lightning import LightningModule
from torch import Tensor

from fitnets.distributed import averaged


def publish(module: LightningModule, figures: Mapping[str, Tensor | float]) -> None:
    """Figures of an epoch, put where callbacks find them: `trainer.callback_metrics`.

    Lightning's own `log` does that too, and averages, synchronises and checks; for final figures that cost 2 % of
    an epoch on digits.
    """
    module.trainer.callback_metrics.update(figures)  # type: ignore[arg-type]


class Averages:
    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, **figures: Tensor) -> None:
        for name, value in figures.items():
            before = self.sums.get(name)
            self.sums[name] = value.detach().clone() if before is None else before.add_(value.detach())
        self.count += 1

    def take(self) -> dict[str, Tensor]:
        """The averages since the last call, over all ranks that train together."""
        averages = {name: averaged(total / max(1, self.count)) for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return averages

    def state_dict(self) -> dict:
        return {"sums": self.sums, "count": self.count}

    def load_state_dict(self, state: dict) -> None:
        self.sums, self.count = state["sums"], state["count"]
