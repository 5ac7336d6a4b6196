"""What a run left on disk, loaded by somebody who has neither Hydra nor Lightning at hand."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fitnets
from fitnets.assemble import make_data
from fitnets.plan import plan
from fitnets.store import folder_of, read_result
from tests.conftest import copied, plan_parents
from tests.trained import pick


@pytest.mark.parametrize(("stage", "arm"), [("backprop", "backprop"), ("kd", "kd"), ("kd", "fitnet")])
def test_a_loaded_student_is_ready_and_gives_the_reported_accuracy(compared, stage: str, arm: str) -> None:
    cfg, runs_dir = compared
    run = pick(cfg, stage, arm)
    student = fitnets.load_student(folder_of(run, runs_dir))
    assert isinstance(student, torch.nn.Module) and not any(m.training for m in student.modules())
    data = make_data(run, plan_parents(run, runs_dir))
    expected = read_result(run, runs_dir)["test_accuracy"]
    for images in (
        data.images.test_images,
        next(iter(data.test_dataloader())).x,
    ):  # uint8 as they come, or preprocessed
        accuracy = (student(images).argmax(1) == data.images.test_labels).float().mean().item()
        assert accuracy == pytest.approx(expected)
    assert sum(p.numel() for p in student.parameters()) == read_result(run, runs_dir)["params"]


def test_loading_needs_neither_hydra_nor_lightning(compared) -> None:
    cfg, runs_dir = compared
    folder = folder_of(pick(cfg, "kd", "fitnet"), runs_dir)
    code = (
        f"import sys, fitnets\nstudent = fitnets.load_student({str(folder)!r})\n"
        "print([n for n in ('hydra', 'omegaconf', 'pytorch_lightning', 'torchmetrics') if n in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr


def test_a_folder_without_a_finished_run_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no finished run .*scripts/runs\.py"):
        fitnets.load_student(tmp_path)


def test_a_teachers_folder_is_an_error_that_names_load_teacher(compared) -> None:
    cfg, runs_dir = compared
    teacher = plan(cfg.at_stage("teacher"))[0]
    with pytest.raises(ValueError, match=r"is a teacher run.*fitnets\.load_teacher"):
        fitnets.load_student(folder_of(teacher, runs_dir))


def test_weights_of_another_net_are_refused(compared, tmp_path: Path) -> None:
    cfg, runs_dir = compared
    folder = copied(folder_of(pick(cfg, "kd", "kd"), runs_dir), tmp_path / "broken")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("thin.thin_maxout", "thin.thin_relu").replace("  pieces: 2\n", ""))
    with pytest.raises(ValueError, match=r"does not fit the network .*missing: conv1.*; unexpected: conv1"):
        fitnets.load_student(folder)
