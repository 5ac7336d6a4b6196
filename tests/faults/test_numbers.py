"""A loss that is not finite ends its stage and nothing goes on from it; what learned nothing is said to be so."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from fitnets.ending import Diverged
from fitnets.files import as_json
from fitnets.plan import plan
from fitnets.report.folders import read
from fitnets.stages.base import TOGETHER, Losses
from fitnets.store import folder_of, read_result, status, with_parents
from fitnets.training.figures import learned_nothing
from tests.conftest import go, quick
from tests.typed import typed


@pytest.mark.parametrize(
    ("words", "key", "lost"),
    quick(
        [
            (["stage=teacher", "teacher.recipe.optimizer.lr=1e20"], "teacher.recipe.optimizer.lr=1e+19", "teacher"),
            (["stage=hint", "optimizer.lr=1e20"], "optimizer.lr=1e+19", "hint"),
            (["stage=kd", "optimizer.lr=1e20"], "optimizer.lr=1e+19", "kd"),
            (["stage=fitnet", "optimizer.lr=1e20"], "optimizer.lr=1e+19", "hint"),
            (["stage=joint_hint_kd", "optimizer.lr=1e20"], "optimizer.lr=1e+19", "joint"),
        ],
        lambda case: case[0][0] == "stage=fitnet",
    ),
)
def test_a_diverged_stage_names_the_step_the_term_and_what_to_type(
    small, words: list[str], key: str, lost: str
) -> None:
    config = small(*words)
    with pytest.raises(Diverged) as error:
        go(config)
    message = str(error.value)
    assert message.startswith(f"{lost} ") and "diverged at step " in message and "loss is nan" in message
    assert "with learning rate 9.9" in message and f"Type {key}" in message and "Nothing goes on from it" in message
    runs_dir = Path(config["runs_dir"])
    states = {run.stage: status(run, runs_dir) for run in with_parents(plan(config))}
    assert states.pop(lost) != "done" and states.pop("teacher", "done") == "done"
    assert all(state == "missing" for state in states.values()), "what starts from it was not begun"
    assert not list(runs_dir.rglob("student.safetensors"))


def test_the_other_stages_of_a_list_go_on_and_the_table_says_what_is_missing(small, monkeypatch, capsys) -> None:
    from fitnets.stages.kd import KD

    whole = KD.terms

    def sick(self: Any, batch: Any) -> Any:
        terms = whole(self, batch)
        return terms | {"soft": terms["soft"] / 0} if self.inputs.seed == 1 else terms

    monkeypatch.setattr(KD, "terms", sick)
    config = small("stage=compare", "stage.arms=[backprop,kd]", "seeds=[0,1]", "epochs.hint=1", "epochs.kd=1")
    with pytest.raises(Diverged, match="1 of 5 stages diverged"):
        go(config)
    runs_dir, out = Path(config["runs_dir"]), capsys.readouterr().out
    (table,) = runs_dir.glob("reports/*/table.md")
    assert "1 of 5 stages diverged or need one that did and are left out." in table.read_text()
    assert "soft is inf" in out and "| backprop | " in table.read_text() and "| KD | " in table.read_text()
    monkeypatch.setattr(KD, "terms", whole)
    go(config)
    (again,) = {*runs_dir.glob("reports/*/table.md")} - {table}
    assert "diverged" not in again.read_text()


@pytest.mark.slow
def test_a_diverged_command_ends_with_exit_code_1_and_one_line(tmp_path: Path) -> None:
    done = typed("stage=backprop", "optimizer.lr=1e20", "epochs.hint=1", "epochs.kd=1", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if "diverged at step" in line]


def test_weights_that_the_last_step_breaks_are_not_kept(small, monkeypatch: pytest.MonkeyPatch) -> None:
    """No loss was computed after it."""
    from fitnets.stages import optimizers

    last = 18 * 2 - 1
    monkeypatch.setattr(optimizers, "lr_factor", lambda _name, step, _steps, _end: 1e38 if step == last else 1.0)
    config = small("stage=backprop", "epochs.hint=1", "epochs.kd=1", "optimizer.lr=1e3")
    with pytest.raises(Diverged, match=r"not finite after the last step|over validation images|is nan|is inf"):
        go(config)
    assert status(plan(config)[0], Path(config["runs_dir"])) != "done"


def test_on_a_gpu_the_step_is_found_though_it_is_looked_at_later(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Losses()
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    for step in range(TOGETHER - 1):
        value = torch.tensor(math.nan if step >= 7 else 1.0)
        losses.add(step, 0.5, {"loss": value, "hard": torch.tensor(1.0), "soft": value})
    assert len(losses.unseen) == TOGETHER - 1, "nothing waits for the device"
    with pytest.raises(Diverged, match=r"diverged at step 8: loss is nan, soft is nan, with learning rate 0.5"):
        losses.add(TOGETHER - 1, 0.5, {"loss": torch.tensor(1.0)})


def test_json_has_no_bare_nan() -> None:
    text = as_json({"a": math.nan, "b": [1.0, math.inf], "c": {"d": -math.inf}, "e": 0.5})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": [1.0, None], "c": {"d": None}, "e": 0.5}


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({"r2": -0.5, "hint_loss": 3.0}, "R2 -0.500"),
        ({"r2": 0.0}, "R2 0.000"),
        ({"r2": math.nan}, "R2 nan"),
        ({"r2": 0.3}, None),
        ({"accuracy": 0.1}, "at chance: the largest class has 10.00%"),
        ({"accuracy": 0.13}, "at chance"),
        ({"accuracy": 0.2}, None),
        ({"mine": 3.0}, None),
    ],
)
def test_what_is_no_better_than_knowing_nothing(figures: dict[str, float], told: str | None) -> None:
    found = learned_nothing(figures, {"largest_class": 0.1, "validation": 270})
    assert found is None if told is None else told in found


@pytest.mark.slow
def test_a_stage_that_learned_nothing_is_said_everywhere(small, capsys: pytest.CaptureFixture) -> None:
    words = ["stage=compare", "stage.arms=[backprop,fitnet]", "seeds=[0,1]", "updates_per_epoch=1"]
    config = small(*words, "epochs.hint=1", "epochs.kd=1")
    go(config)
    runs_dir, out = Path(config["runs_dir"]), capsys.readouterr().out
    folders = read([path.parent for path in runs_dir.glob("hint-*/result.json")])
    (line,) = folders[0].nothing_learned
    assert "LEARNED NOTHING: R2" in line
    assert out.count("LEARNED NOTHING (R2") == 2, "the line of each stage"
    (table,), (page,) = runs_dir.glob("reports/*/table.md"), runs_dir.glob("reports/*/page.html")
    assert "LEARNED NOTHING: R2" in table.read_text() and "LEARNED NOTHING: R2" in page.read_text()
    go(config.at_stage("hint"))
    assert "  LEARNED NOTHING (R2" in capsys.readouterr().out, "the summary"
    (run,) = plan(config.at_stage("hint"))
    assert read_result(run, runs_dir)["learned_nothing"].startswith("R2")
    assert folder_of(run, runs_dir).exists()
