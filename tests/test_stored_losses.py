"""The first losses of each kind of training, as they were when the number that all stages share was last raised.

What a stage shares with the others (the engine, the recorder, Lightning's loop) is not in its fingerprint, so an edit
there that changes results would reuse old runs. Here it shows.
"""

from typing import Any

import pytest
import pytorch_lightning as pl

import run as door
from fitnets.store import SHARED_VERSION, Run
from tests.conftest import SMALL, composed, one_in

COUNT = 4
SHORT = ["epochs.teacher=1", "epochs.hint=1", "epochs.kd=1", "updates_per_epoch=4", "augment=flip"]
COMMANDS = {
    "teacher, hint, kd": ["stage=fitnet"],
    "backprop": ["stage=backprop"],
    "label hint, backprop": ["stage=label_hint_backprop"],
    "joint label backprop": ["stage=joint_label_backprop"],
    "joint hint backprop": ["stage=joint_hint_backprop"],
    "joint label kd": ["stage=joint_label_kd"],
    "joint hint kd": ["stage=joint_hint_kd"],
    "curriculum": ["stage=backprop", "curriculum=easy_to_hard", "curriculum/score=teacher_loss"],
    "dkd": ["stage=kd", "kd_loss=dkd", "kd_loss.warmup=0"],
    "attention": ["stage=joint_hint_kd", "hint_loss=attention", "hint=all"],
    "crd": ["stage=joint_hint_backprop", "hint_loss=crd", "hint=penultimate", "hint_loss.negatives=32"],
}
TEACHER = {"teacher": [5.72225, 5.55239, 4.71525, 4.71859]}  # with dropout
STORED = {
    "teacher, hint, kd": {
        "hint": [35.1553, 32.2762, 28.0941, 29.0581],
        "kd": [11.723, 11.631, 11.574, 11.6174],
    },
    "backprop": {"backprop": [2.64908, 2.48263, 2.38541, 2.31268]},
    "label hint, backprop": {
        "label_hint": [2.73397, 2.49715, 2.51072, 2.3882],
        "backprop": [2.4632, 2.39243, 2.34763, 2.39328],
    },
    "joint label backprop": {"joint": [5.38305, 4.98243, 4.89122, 4.67733]},
    "joint hint backprop": {"joint": [37.8044, 34.7745, 30.2354, 30.416]},
    "joint label kd": {"joint": [14.6805, 14.2313, 14.1229, 13.8965]},
    "joint hint kd": {"joint": [47.1019, 44.0271, 39.4738, 39.6379]},
    "curriculum": {"backprop": [2.64643, 2.13359, 2.26995, 2.29217]},
    "dkd": {"kd": [5.63263, 4.51267, 4.06042, 3.7246]},
    "attention": {"joint": [83.6811, 73.341, 67.5756, 62.4588]},
    "crd": {"joint": [11.1444, 10.7826, 10.7109, 10.5551]},
}


class Losses(pl.Callback):
    def __init__(self, losses: list[float]):
        self.losses = losses

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if len(self.losses) < COUNT:
            self.losses.append(float(outputs["loss"] if isinstance(outputs, dict) else outputs))


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where a teacher is shared."""
    return tmp_path_factory.mktemp("stored") / "runs"


def losses_of(words: list[str], runs_dir: Any) -> dict[str, list[float]]:
    """The first losses of each training that a command makes, by stage."""
    found: dict[str, list[float]] = {}

    def callbacks(run: Run) -> list[pl.Callback]:
        return [Losses(found.setdefault(run.stage, []))]

    door.run(composed(*SMALL, *SHORT, *words, f"runs_dir={runs_dir}"), door.Options(callbacks=callbacks))
    return found


@pytest.mark.parametrize("name", one_in(4, COMMANDS))
def test_the_first_losses_are_those_that_are_stored(runs_dir: Any, name: str) -> None:
    found = {stage: losses for stage, losses in losses_of(COMMANDS[name], runs_dir).items() if losses}
    assert found.keys() - TEACHER.keys() == STORED[name].keys()
    for stage, losses in found.items():
        assert losses == pytest.approx((STORED[name] | TEACHER)[stage], rel=1e-4), (
            f"the losses of {stage} have changed. Where that is meant, and the change is in what all stages share (the "
            f"engine, the recorder, a library), raise fitnets.store.SHARED_VERSION above {SHARED_VERSION}, so that no "
            "run of before is reused; then store the new losses here"
        )
