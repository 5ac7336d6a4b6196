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


def test_a_job_that_was_queued_again_ends_as_submitit_asks(small, importable: Path) -> None:
    (importable / "my_ends.py").write_text(STUDENT.format(training=True, end="raise SystemExit(-1)"))
    with pytest.raises(SystemExit):
        go(small("stage=backprop", *MINE))


@pytest.mark.parametrize("state", ["self.seen = 0", "self.register_buffer('seen', torch.zeros(()), persistent=False)"])
def test_a_network_that_its_weights_do_not_hold_is_an_error(small, importable: Path, state: str) -> None:
    """It was tested as one network, and would load as another."""
    code = STUDENT.format(training=True, end="pass").replace("self.count = 0", f"self.count = 0; {state}")
    seen = "self.seen += self.training\n        return self.net(x) + self.seen * torch.arange(10)"
    code = code.replace("return self.net(x)", seen)
    (importable / "my_ends.py").write_text("import torch\n" + code)
    with pytest.raises(StageError, match=r"saved weights make another network.* not in its state_dict"):
        go(small("stage=backprop", *MINE))
