"""Code of one's own that ends in an odd way: no training is cut short without a word, and no exit code is 0."""

from pathlib import Path

import pytest

from fitnets.ending import StageError
from tests.conftest import go

STUDENT = """
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
        self.count = 0

    def forward(self, x):
        self.count += 1
        if self.count > 20 and self.training is {training}:
            {end}
        return self.net(x)


def net(input_shape, num_classes):
    return Net(num_classes)
"""
MINE = ("~student.net.blocks", "~student.net.pieces", "student.net._target_=my_ends.net")


@pytest.mark.parametrize(
    ("training", "end", "message"),
    [
        (True, "next(iter(()))", "training_step: a `next` found nothing"),
        (False, "next(iter(()))", "validation_step: a `next` found nothing"),
        (True, "raise SystemExit(0)", r"backprop .* seed 0: code that it runs has ended the process \(exit code 0\)"),
    ],
)
def test_it_is_an_error(training: bool, end: str, message: str, small, importable: Path) -> None:
    (importable / "my_ends.py").write_text(STUDENT.format(training=training, end=end))
    config = small("stage=backprop", *MINE)
    with pytest.raises(StageError, match=message):
        go(config)
    assert not [*Path(config["runs_dir"]).glob("*/result.json")]
