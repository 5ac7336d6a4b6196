"""Nothing is refused that runs: what the meta device cannot do is tried on the CPU before anything is said of it."""

from pathlib import Path

import pytest
import torch

from fitnets.commands import Config
from fitnets.components import is_library
from fitnets.config import check
from fitnets.store import with_parents
from fitnets.training.meta import shaped
from fitnets.training.preflight import LIBRARY, problems_with
from tests.conftest import composed, go, named_runs, one_in

NETS = '''
import numpy, torch
from pathlib import Path
from torch import nn

HERE = Path(__file__).parent


class Looks(nn.Module):
    """It {how}."""

    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, num_classes)
        {init}

    def forward(self, x):
        x = self.conv2(self.conv1(x).relu()).relu()
        {forward}
        return self.head(x.mean((2, 3)))
'''
WAYS = {
    "item": ("self.scale = self.conv1.weight.abs().max().item()", ""),
    "numpy": ("numpy.linalg.norm(self.conv1.weight.detach().numpy())", ""),
    "file": ("self.conv1.weight = nn.Parameter(torch.load(HERE / 'weights.pt'))", ""),
    "branch": ("", "x = x if x.mean() > 0 else -x"),
    "tolist": ("", "assert len(x.shape) == 4 and x.flatten().tolist()"),
}


def words(folder: Path, init: str, forward: str) -> list[str]:
    torch.save(torch.ones(8, 1, 3, 3), folder / "weights.pt")
    (folder / "looks.py").write_text(NETS.format(how="looks", init=init, forward=forward), encoding="utf-8")
    net = ["~student.net.blocks", "~student.net.pieces", "student.net._target_=looks.Looks", "student.name=looks"]
    return [*net, "hint.student_layer=conv1"]


def problems(config: Config) -> list[str]:
    assert check(config.resolved) == []
    return problems_with(config, with_parents(named_runs(config)))


@pytest.mark.parametrize("way", one_in(3, WAYS))
def test_a_network_that_looks_at_its_weights_passes(importable: Path, way: str) -> None:
    before = torch.get_rng_state()
    for stage in ("kd", "hint", "joint_label_kd"):
        composed.cache_clear()
        assert problems(composed(f"stage={stage}", *words(importable, *WAYS[way]))) == []
    assert torch.equal(before, torch.get_rng_state()), "building it here moves no training"


def test_what_fails_on_the_cpu_too_is_refused(importable: Path) -> None:
    (problem,) = problems(composed("stage=kd", *words(importable, "self.conv1.weight[99].item()", "")))
    assert "the student looks.Looks does not run on 1x8x8 images" in problem and "meta" not in problem


def test_it_trains(importable: Path, small) -> None:
    go(small("stage=backprop", *words(importable, *WAYS["item"])[2:], "~student.net.blocks", "~student.net.pieces"))


def test_a_teacher_of_weights_on_the_cpu_beside_a_student_without(importable: Path) -> None:
    made = [word.replace("student", "teacher") for word in words(importable, *WAYS["file"])[2:]]
    drop = [f"~teacher.net.{name}" for name in composed("stage=kd")["teacher"]["net"] if name != "_target_"]
    assert problems(composed("stage=hint", *drop, *made)) == []


def test_a_loss_that_looks_at_its_values_passes(importable: Path) -> None:
    (importable / "own_loss.py").write_text(
        "import torch\n"
        "def picky(student, teacher, batch):\n"
        "    gap = (student.logits - teacher.logits).square()\n"
        "    assert torch.isfinite(gap).all().item()\n"
        "    return {'soft': gap.mean() if gap.max().item() >= 0 else gap.sum()}\n"
    )
    loss = ["~kd_loss.temperature", "~kd_loss.weights", "kd_loss._target_=own_loss.picky"]
    assert problems(composed("stage=kd", *loss)) == []


def test_meta_is_used_where_it_can_be() -> None:
    spec = composed("stage=kd")["student"]["net"]
    net, shapes = shaped(spec, (1, 8, 8), 10)
    assert all(parameter.is_meta for parameter in net.parameters()) and shapes[""] == (10,)


def test_packages_of_a_system_are_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib" / "dist-packages" / "debians").mkdir(parents=True)
    (tmp_path / "lib" / "dist-packages" / "debians" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "lib" / "dist-packages")
    assert is_library("debians.Net") and LIBRARY.search(str(tmp_path / "lib" / "dist-packages" / "debians.py"))
