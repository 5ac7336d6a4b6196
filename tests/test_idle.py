"""A word that changes nothing of what a command trains is said: once, in one line, and it is no error."""

import pytest

import run as door
from fitnets.commands import commands_of
from fitnets.idle import idle_keys
from fitnets.plan import plan
from tests.conftest import composed, one_in


def idle(*words: str) -> list[str]:
    config = composed(*words)
    commands = commands_of(config, lambda said: None)
    return idle_keys(config, commands, [plan(command.config, command.arm) for command in commands])


WORDS = [
    ("stage=backprop temperature=2 answers=online", "temperature answers"),
    ("stage=backprop temperature=3.0", "temperature"),  # typed as it is: still of no use
    ("stage=backprop teacher=wide_relu teacher_seed=3", "teacher teacher_seed"),
    ("stage=backprop kd_loss=dkd kd_loss.alpha=2", "kd_loss kd_loss.alpha"),
    ("stage=kd temperature=2 answers=online", ""),
    ("stage=kd kd_loss=hinton lambda_schedule.start=2", "lambda_schedule.start"),
    ("stage=kd dropout=0.2", "dropout"),  # this student has none
    ("stage=kd seeds=[0,1] arms=[kd]", "seeds arms"),
    ("stage=kd guided_lr_scale=0.5", "guided_lr_scale"),
    ("stage=fitnet guided_lr_scale=0.5", ""),
    ("stage=kd epochs.teacher=3 teacher.recipe.epochs=4", "teacher.recipe.epochs"),
    ("stage=kd patience=3 epochs.hint=1 epochs.kd=1", "patience"),
    ("stage=kd patience=3", ""),
    ("stage=hint dataset.labels=50", "dataset.labels"),
    ("stage=teacher seed=3 student=thin_relu", "seed student"),
    ("stage=score curriculum=easy_to_hard temperature=2 epochs.kd=2", "temperature epochs.kd"),
    ("stage=kd curriculum=easy_to_hard curriculum/score=c_score curriculum.pacing.start=0.5", ""),
    ("stage.arms=[backprop] temperature=2 seed=3 seeds=[0,1]", "temperature seed"),
    ("stage.arms=[backprop,kd] temperature=2 seeds=[0,1]", ""),
    ("stage=controls curriculum=easy_to_hard seeds=[0,1] temperature=2", "temperature"),
    # of no result by design, or shared by arms and sweeps
    ("stage=backprop hint=late regressor=fc hint_loss=attention hint.student_layer=conv3", ""),
    ("stage=kd trainer=cpu trainer.threads=2 logger=wandb logger.wandb.project=mine runs_dir=elsewhere", ""),
    ("stage=kd dry_run=true fresh=true student.name=mine stage.title=mine experiment=few_labels", ""),
    ("stage=kd student=thin_deep teacher=wide_shallow dataset=digits curriculum=none recipe=modern", ""),
]


@pytest.mark.parametrize(("words", "keys"), one_in(2, WORDS))
def test_what_changes_nothing(words: str, keys: str) -> None:
    assert idle(*words.split()) == keys.split()


def test_it_is_one_line_and_a_sweep_says_it_once(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["stage=backprop", "temperature=2", "answers=online", "dry_run=true", f"runs_dir={tmp_path}"]
    note = "NOTE: temperature, answers: nothing that stage=backprop trains here depends on it"
    door.run(composed(*words), door.Options())
    assert [line for line in capsys.readouterr().out.splitlines() if "NOTE" in line] == [note]
    door.said.clear()
    for seed in (0, 1):  # two jobs
        door.run(composed(*words, f"seed={seed}"), door.Options(brief=True))
    assert capsys.readouterr().out.count(note) == 1
