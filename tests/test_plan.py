"""Plans: which trained stages a command needs, what decides each, and what makes comparable arms comparable."""

import json
from pathlib import Path

import pytest
import yaml

from fitnets.config import ConfigError
from fitnets.plan import plan
from fitnets.store import with_parents
from tests.conftest import ROOT, composed, go, named_runs, one_in
from tests.planned import (
    ALL,
    BY_GUIDED_LAYER,
    BY_HINT,
    BY_KD,
    BY_TEACHER,
    STUDENTS,
    moved,
    stages,
)

pytestmark = pytest.mark.fast

FILES = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf" / "stage").glob("*.yaml")}
STAGES = {name: file.get("stage", file) for name, file in FILES.items()}
OF_STUDENTS = [name for name, stage in STAGES.items() if stage.get("trains") == "student" or "steps" in stage]


def test_what_decides_nothing_moves_nothing() -> None:
    """Where it is kept, logged and computed; other ways to write the same."""
    words = ["runs_dir=elsewhere", "logger=[wandb,tensorboard]", "trainer=gpu", "trainer.threads=1", "fresh=true"]
    words += ["trainer.checkpoint_seconds=1", "seeds=[5,6]", "arms=[kd]"]
    words += ["temperature=3", "answers=cached"]  # 3 and 3.0 are one temperature; auto is written down as what it means
    assert moved(stages(), stages(*words)) == set()


MOVES = [
    ("temperature=2", BY_KD),
    ("lambda_schedule.end=0", BY_KD),
    ("kd_loss=hinton", BY_KD),
    ("kd_loss.weights.hard=2", BY_KD),
    ("hint.teacher_layer=conv2", BY_HINT),
    ("regressor=fc", BY_HINT),
    ("hint_loss.reduction=mean", BY_HINT),
    ("hint_loss=attention", BY_HINT),
    ("hint.student_layer=conv2", BY_GUIDED_LAYER),
    ("hint=early", BY_GUIDED_LAYER),
    ("guided_lr_scale=0.5", {"kd"}),
    ("answers_dtype=float16", BY_HINT | BY_KD),
    ("dataset.labels=50", STUDENTS - {"hint"}),
    ("epochs.kd=9", STUDENTS - {"hint", "label hint"}),
    ("epochs.hint=9", STUDENTS),
    ("keep=best", STUDENTS - {"hint", "label hint"}),
    ("seed=1", STUDENTS),
    ("student=thin_relu", STUDENTS),
    ("init=paper", STUDENTS),
    ("augment=flip", STUDENTS),
    ("patience=3", STUDENTS),
    ("curriculum=random", STUDENTS),
    ("optimizer.lr=0.1", STUDENTS),
    ("batch_size=32", STUDENTS),
    ("teacher=wide_relu", BY_TEACHER),
    ("teacher_seed=1", BY_TEACHER),
    ("epochs.teacher=9", BY_TEACHER),
    ("teacher.recipe.optimizer.lr=0.1", BY_TEACHER),
    ("split_seed=1", ALL),
    ("dataset.val_fraction=0.3", ALL),
    ("dataset.label_noise=0.1", ALL),
    ("preprocess=gcn_zca", ALL),
    ("retrain_on_all=true", ALL),
    ("trainer.precision=bf16-mixed", ALL),
]


@pytest.mark.parametrize(("override", "stages_moved"), one_in(3, MOVES))
def test_what_moves_a_fingerprint(override: str, stages_moved: set[str]) -> None:
    assert moved(stages(), stages(override)) == stages_moved


def test_a_layer_named_by_a_number_is_one_layer_however_it_is_written() -> None:
    number, text = (composed("stage=hint").changed({"hint.student_layer": layer}) for layer in (5, "5"))
    assert plan(number)[0].fingerprint == plan(text)[0].fingerprint


def test_an_arms_name_and_title_decide_nothing() -> None:
    """A file in conf/arm that says what a stage says is that very run."""
    (kd,) = plan(composed("stage=kd", "kd_loss=dkd"))
    (dkd,) = named_runs(composed("stage.arms=[dkd]", "seeds=[0]"))
    assert kd.fingerprint == dkd.fingerprint
    assert (kd.arm.name, kd.arm.title) == ("kd", "KD") and (dkd.arm.name, dkd.arm.title) == ("dkd", "DKD")


# --------------------------------------------------------------------------------------- what is shared


def test_compare_shares_what_arms_have_in_common() -> None:
    runs = with_parents(named_runs(composed("seeds=[0,1,2]")))
    kinds = [run.stage for run in runs]
    assert [kinds.count(s) for s in ("teacher", "backprop", "hint", "kd")] == [1, 3, 3, 6]
    assert all(runs.index(parent) < runs.index(run) for run in runs for parent in run.parents.values())


def test_few_labels_reuse_teacher_and_hints_and_a_sweep_over_temperature_too() -> None:
    base = {run.fingerprint for run in with_parents(plan(composed("stage=fitnet")))}
    for override in ("dataset.labels=50", "temperature=5"):
        new = [r for r in with_parents(plan(composed("stage=fitnet", override))) if r.fingerprint not in base]
        assert [run.stage for run in new] == ["kd"]


def test_an_arm_has_its_own_loss_and_shares_the_rest() -> None:
    kd, fitnet, dkd, fitnet_dkd = (
        named_runs(composed(f"stage.arms=[{arm}]", "seeds=[0]")) for arm in ("kd", "fitnet", "dkd", "fitnet_dkd")
    )
    assert fitnet_dkd[0].fingerprint == fitnet[0].fingerprint, "one hint stage"
    assert fitnet_dkd[1].spec["kd_loss"] == dkd[0].spec["kd_loss"] != kd[0].spec["kd_loss"]
    assert len({runs[-1].fingerprint for runs in (kd, fitnet, dkd, fitnet_dkd)}) == 4
    teachers = {run.parents["teacher"].fingerprint for runs in (kd, fitnet, dkd, fitnet_dkd) for run in runs}
    assert len(teachers) == 1


def test_what_is_typed_reaches_every_arm_and_an_arms_own_words_win() -> None:
    words = ["stage.arms=[kd,fitnet_dkd]", "seeds=[3]", "temperature=7", "epochs.kd=2", "kd_loss=hinton"]
    kd, hint, fitnet_dkd = named_runs(composed(*words))
    assert {run.seed for run in (kd, hint, fitnet_dkd)} == {3} and fitnet_dkd.spec["epochs"] == 2
    assert kd.spec["kd_loss"]["temperature"] == fitnet_dkd.spec["kd_loss"]["temperature"] == 7
    assert kd.spec["kd_loss"]["alpha"] == 0.9 and fitnet_dkd.spec["kd_loss"]["beta"] == 8


# ---------------------------------------------------------------------------------------- fair arms


def test_all_arms_share_one_set_of_hyper_parameters_and_the_teacher_has_its_own() -> None:
    """For every stage that trains a student, found in conf/stage: the recipe is that of the config, beside `keep`."""
    config = composed("optimizer.lr=0.0123", "batch_size=48")
    shared = {}
    for word in OF_STUDENTS:
        for run in plan(config.at_stage(word)):
            kept = STAGES[run.stage]["keep"] if run.stage in STAGES and "keep" in STAGES[run.stage] else config["keep"]
            assert run.spec["recipe"]["keep"] == kept
            recipe = {key: value for key, value in run.spec["recipe"].items() if key != "keep"}
            assert recipe["optimizer"]["lr"] == 0.0123 and recipe["batch_size"] == 48
            others = ("student", "init", "augment", "patience", "curriculum", "dataset", "split_seed", "preprocess")
            shared[word, run.stage] = json.dumps([recipe, *(run.spec[key] for key in others)], sort_keys=True)
            for parent in run.parents.values():
                if parent.trains == "teacher":
                    assert parent.spec["recipe"]["optimizer"] == config["teacher"]["recipe"]["optimizer"]
    assert len(shared) >= len(OF_STUDENTS) >= 12 and len(set(shared.values())) == 1


@pytest.mark.parametrize("seed", [0, 7])
def test_all_arms_get_the_seed_that_is_asked_for_and_the_same_epochs(seed: int) -> None:
    config = composed(f"seed={seed}", "teacher_seed=3")
    for word in OF_STUDENTS:
        runs = plan(config.at_stage(word))
        assert {run.seed for run in runs} == {seed}, word
        teachers = [parent for run in runs for parent in run.parents.values() if parent.trains == "teacher"]
        assert {teacher.seed for teacher in teachers} <= {3}, word
        if runs[-1].tested:
            assert sum(run.spec["epochs"] for run in runs) == 45, word


def test_a_teachers_recipe_is_untouched_by_the_students() -> None:
    mnist = ["stage=teacher", "experiment=paper/mnist", "dataset.path=owner/name"]
    recipes = ("paper", "paper_code", "modern")
    assert len({plan(composed(*mnist, f"recipe={recipe}"))[0].fingerprint for recipe in recipes}) == 1


def test_every_file_of_conf_stage_says_what_it_is() -> None:
    """A training names its class and what it needs; a list names stages or a function: nothing falls to a default."""
    for name, stage in STAGES.items():
        assert stage["name"] == name and stage["title"]
        kinds = [key for key in ("_target_", "steps", "commands", "runs") if key in stage]
        assert len(kinds) == 1, name
        if kinds == ["_target_"]:
            assert {"trains", "needs", "labels", "decided_by", "tested"} <= set(stage), name
            assert set(stage["needs"].values()) <= set(STAGES)
        assert set(stage.get("steps", [])) <= set(STAGES)


# --------------------------------------------------------------------------------- words nobody knows


def dry(*words: str, tmp_path: Path) -> None:
    go(composed(*words, f"runs_dir={tmp_path}/runs", "dry_run=true", "trainer=cpu"))


def test_layers_are_checked_for_the_stages_that_use_them(tmp_path: Path) -> None:
    """backprop and kd have no guided layer, so none that is wrong."""
    dry("stage.arms=[backprop,kd]", "hint.student_layer=nope", tmp_path=tmp_path)
    for word in ("label_hint_backprop", "fitnet", "joint_label_backprop"):
        with pytest.raises(ConfigError, match="the student has no layer 'nope'"):
            dry(f"stage={word}", "hint.student_layer=nope", tmp_path=tmp_path)
    with pytest.raises(ConfigError, match="the student has no layer 'nope'"):
        dry("stage.arms=[backprop,fitnet]", "hint.student_layer=nope", tmp_path=tmp_path)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [["stage.arms=[backprop,crd_]"], ["stage=positions", "stage.arm=fitnett"]], ids=str)
def test_an_unknown_arm_is_an_error_that_names_the_known_ones(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        dry(*words, tmp_path=tmp_path)
    assert words[-1].rpartition(",")[2].rpartition("=")[2].strip("]") in str(raised.value)
    assert "fitnet" in str(raised.value) or "crd" in str(raised.value)


@pytest.mark.parametrize("word", ["stage=crd", "kd_loss=dkdd", "hint_loss=fit", "student=thin"])
def test_an_unknown_option_of_a_group_is_an_error(word: str) -> None:
    with pytest.raises(Exception, match=word.partition("=")[2]):
        composed(word)
