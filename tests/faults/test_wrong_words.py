"""Wrong words: each ends before anything is made, in one message that says what was given and what to type.

Values and keys are told all at once, so many are typed in one command here; what stands alone has a command of its own.
"""

import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

import run as door
from fitnets import commands
from fitnets.config import ConfigError
from fitnets.config.composing import one_line_errors
from tests.conftest import one_in
from tests.typed import typed

SECONDS = 3.0  # what a refusal may take beyond the start of its process; three times as much where a machine is loaded


def refused(*words: str) -> list[str]:
    """The problems that `python run.py WORDS` ends with."""
    with pytest.raises(ConfigError) as raised, one_line_errors(words):
        door.run(commands.composed(words), door.Options(words))
    for problem in raised.value.problems:
        assert "\n" not in problem and "Traceback" not in problem and "search path" not in problem, problem
        assert len(problem) > 20, f"it says too little: {problem}"
    return raised.value.problems


def told_of_each(wrong: dict[str, str], *words: str) -> None:
    """One problem for each wrong word, with its message; what comes twice is told twice."""
    problems = refused(*words, *wrong)
    for word, message in wrong.items():
        assert any(message in problem for problem in problems), f"{word}: no {message!r} in {problems}"
    assert len(problems) == len(wrong), problems


# ------------------------------------------------------------------------------------------ values

NUMBER, SWITCH, WHOLE = "must be a number", "one of: true | false", "a whole number"
VALUES = {  # a key of stage=fitnet: wrong values, and what each message says
    "temperature": (["nan", "inf", "-inf", "1e400", "-1", "abc", "", "[3]", "{a:3}", "true", "null", "'3'"], NUMBER),
    "optimizer.lr": (["0", "nan", "fast", "[0.1]", "null", "-1e-9", "1e308", "1e-320"], NUMBER),
    "lr_end": (["-0.1", "1.1", "nan", "low", "[0]", "null"], "a number from 0 to 1: type lr_end=0"),
    "conv_lr_scale": (["0", "-1", "inf", "x", "1e99"], NUMBER),
    "dropout": (["1", "-0.1", "nan", "half", "[0.5]", "true"], "a number >= 0 and < 1: type dropout=0.2"),
    "guided_lr_scale": (["-1", "nan", "x", "[1]"], "a number >= 0: type guided_lr_scale=1"),
    "lambda_schedule.start": (["-1", "nan", "x", "[4]", "{a:1}"], "a number >= 0"),
    "seed": (["-1", "1.5", "1e3", "true", "null", "[0]", "${student}", "0x1"], "a whole number >= 0: type seed=1"),
    "split_seed": (["-1", "nan", "one", "[0,1]"], "a whole number >= 0: type split_seed=1"),
    "seeds": (["5", "[[0],[1]]", "null", "[-1,0]", "[0,1.5]", "[0,a]", "[true,0]"], "different whole numbers: type"),
    "epochs.kd": (["0", "-1", "1e9", "nan", "[1,2]", "true", "null", "many"], "a whole number >= 1: type epochs.kd=1"),
    "epochs.hint": (["0", "1.0", "'1'"], "a whole number >= 1: type epochs.hint=1"),
    "batch_size": (["0", "-4", "1.5", "big", "null", "inf"], "a whole number >= 1: type batch_size=1"),
    "updates_per_epoch": (["0", "2.5", "all", "[1]"], "null or a whole number >= 1"),
    "patience": (["0", "-1", "never", "nan"], "null or a whole number >= 1: type patience=100"),
    "keep": (["first", "", "[last]", "null", "LAST", "1"], "type keep= one of: last | best"),
    "max_norm": (["maybe", "1", "null", "[true]"], f"type max_norm= {SWITCH}"),
    "answers": (["always", "null", "true", "[auto]"], "type answers= one of: auto | cached | online"),
    "answers_dtype": (["float64", "16", "null"], "type answers_dtype= one of: float32 | float16"),
    "augment.flip": (["yes", "1", "null", "left"], f"type augment.flip= {SWITCH}"),
    "augment.crop": (["-1", "1.5", "x", "null"], "a whole number >= 0: type augment.crop=1"),
    "dataset.val_fraction": (["0", "1", "nan", "x", "null", "[0.1]"], "a number > 0 and < 1"),
    "dataset.labels": (["0", "some", "1.5", "null", "[50]", "true"], "all or a whole number >= 1"),
    "hint.teacher_layer": (["''", "1.5", "true", "[]", "{a:b}", "null", "[[conv1]]"], "early, middle or late"),
    "regressor.kind": (["wide", "null", "[fc]", "1"], "type regressor.kind= one of: auto | strided | fc"),
    "kd_loss.weights.hard": (["-1", "nan", "x", "null"], "a number >= 0 or a schedule"),
    "student.name": (["''", "null", "5", "a/b", "../../x", "'a\\b'", "x" * 99, "[a]"], "without / or \\"),
    "teacher.recipe.epochs": (["0", "null", "x"], "a whole number >= 1"),
    "teacher.recipe.keep": (["none", "null"], "type teacher.recipe.keep= one of: last | best"),
    "trainer.devices": (["0", "auto", "[0,1]", "1.5"], "a whole number >= 1: type trainer.devices=1"),
    "trainer.threads": (["0", "-1", "all", "1000000"], "null or a whole number from 1 to 1024"),
    "trainer.precision": (["16", "64-true", "null"], "one of: 32-true | bf16-mixed | 16-mixed"),
    "trainer.checkpoint_seconds": (["-1", "nan", "x"], "a number >= 0"),
    "trainer.compile": (["fast", "1", "null"], "true | false | reduce-overhead | max-autotune"),
    "logger.wandb.project": (["''", "null", "a/b", "[x]", "'a#b'"], "a name without any of"),
    "logger.wandb.tags": (["mine", "[1]", "['']", "[" + "x" * 70 + "]"], "a list of words of at most 64 letters"),
    "stage.steps": (["[]", "hint", "null", "[1]"], "a list of stages: type stage.steps=[hint,kd]"),
    "runs_dir": (["''", "null", "5", "[a]"], "runs_dir"),
    "fresh": (["1", "maybe", "null"], f"type fresh= {SWITCH}"),
}  # fmt: skip
ROUNDS = [
    {
        f"{key}={value}": (key, message)
        for (key, (_, message)), value in zip(VALUES.items(), values, strict=True)
        if value
    }
    for values in zip_longest(*([value or "''" for value in values] for values, _ in VALUES.values()))
]


def test_there_are_enough() -> None:
    assert sum(len(values) for values, _ in VALUES.values()) + len(ALONE) + len(UNREAD) + len(PLANNED) > 250


@pytest.mark.parametrize("wrong", ROUNDS, ids=range(len(ROUNDS)))
def test_a_wrong_value_is_told_by_its_key(wrong: dict[str, tuple[str, str]]) -> None:
    """The first wrong value of every key in one command, then the second of every key that has one, and so on."""
    problems = refused("stage=fitnet", "logger=wandb", *wrong)
    of_key = {problem.partition(" is ")[0]: problem for problem in problems}
    assert len(of_key) == len(problems), "one line a key"
    for word, (key, message) in wrong.items():
        told = [problem for at, problem in of_key.items() if at == key or at.startswith(f"{key}.")]
        assert len(told) == 1 and message in told[0], f"{word}: {told or problems}"
    assert len(problems) == len(wrong), problems


# -------------------------------------------------------------------------- words that Hydra does not take

UNREAD = {  # of one command, all told at once
    "hint=nope": "hint is 'nope'; type hint= one of: all | early",
    "hint_loss=nope": "type hint_loss= one of: attention",
    "regressor=nope": "type regressor= one of: auto | fc | strided",
    "kd_loss=nope": "type kd_loss= one of: code | dkd",
    "teacher=null": "teacher is 'null'; type teacher= one of:",
    "student=3": "type student= one of:",
    "dataset=mnits": "did you mean mnist?",
    "preprocess=zca": "type preprocess= one of: gcn",
    "augment=flips": "did you mean flip",
    "init=true": "type init= one of: paper | scaled",
    "curriculum=EASY_TO_HARD": "did you mean easy_to_hard?",
    "trainer=cuda": "type trainer= one of: auto | cpu",
    "logger=[csv,wandbb]": "did you mean wandb?",
    "recipe=papr": "did you mean paper",
    "experiment=few_label": "did you mean few_labels?",
    "sweep=temp": "did you mean temperature?",
    "hydra/launcher=slurm": "submitit_slurm",
    "curriculum/pacing=linear": "curriculum/pacing is a part of a curriculum, and this one has none: type",
    "TEMPERATURE=3": "did you mean temperature?",
    "epochs.kdd=3": "did you mean epochs.kd?",
    "hydra.job.nope=1": "python run.py --cfg hydra prints the known ones",
    "+seed=3": "seed is there already: type seed=",
    "+split_seed=3": "split_seed is there already",
    "++augment=flip": "augment is there already: type augment=flip, without +",
    "~nope": "nope is no key",
    "~arm=0": "~arm=0 takes away what other keys refer to: leave it out",
    "~temperature=4": "~temperature=4 takes away what other keys refer to: leave it out",
    "temperature=3=4": "type 'temperature=\"3=4\"'",
    "runs_dir=expérience": "type 'runs_dir=\"expérience\"'",
    "runs_dir=a(b)": "type 'runs_dir=\"a(b)\"'",
    "température=3": "is no key=value that can be read",
    "seeds=[0,1": "with lists in quotes: 'key=[a,b]'",
    "seeds=0,1]": "is no key=value that can be read",
    'keep="last': "is no key=value that can be read",
    "keep = last": "is no key=value that can be read",
    "=3": "'=3' is no key=value that can be read",
    "": "'' is no key=value that can be read",
    "@student=3": "is no key=value that can be read",
    "student@teacher=thin_deep": "is no key=value that can be read",
    "keep:last": "is no key=value that can be read",
    "seed=${": "is no key=value that can be read",
}  # fmt: skip


def test_all_that_hydra_does_not_take_is_told_at_once() -> None:
    told_of_each(UNREAD, "stage=kd")


WHOLE = [
    ("stage=KD", "did you mean kd?"),
    ("stage=", "stage is ''; type stage= one of: backprop | compare"),
    ("stage=kd/hint", "type stage= one of:"),
    ("+stage=kd", "stage is there already: type stage=kd, without +"),
    ("seed=${nope}", "seed refers to ${nope}, which is no key"),
    ("seed=${seed}", "seed cannot be filled in: Recursive"),
    ("seed=${oc.env:NOT_SET_ANYWHERE}", "Environment variable 'NOT_SET_ANYWHERE' not found"),
    ("seed=${nope:1}", "Unsupported interpolation type nope"),
    ("temperature=???", "temperature is not given yet, and has no default: type temperature=VALUE"),
    ("temperature=3,5", "add -m for a sweep over them, or type 'temperature=[3,5]' for a list"),
    ("temperature=range(1,3)", "has several values: add -m for a sweep over them"),
    ("seeds={0:1}", "seeds is {0:1}, in the place of a list"),
    ("~dataset", "~dataset takes away what other keys refer to: leave it out"),
    ("~recipe", "~recipe takes away"),
    ("~logger", "~logger takes away"),
    ("stage=kd ~temperature", "~temperature takes away"),
    ("stage=hint ~regressor", "~regressor takes away"),
]


@pytest.mark.parametrize(("words", "message"), one_in(3, WHOLE))
def test_what_is_wrong_with_a_whole_command(words: str, message: str) -> None:
    (problem,) = refused(*words.split())
    assert message in problem


# ----------------------------------------------------------------------- keys and groups that do not fit

TOGETHER = {  # of one command with stage=kd
    "epochs=10": "set one of them: epochs.teacher, epochs.hint, epochs.kd",
    "optimizer=sgd": "optimizer is 'sgd'; it has parts, set one of them: optimizer._target_",
    "momentum=0.9": "type momentum.end=0.7 and momentum.fraction=0.5",
    "~seed": "seed is missing; it must be a whole number",
    "~trainer.devices": "trainer.devices is missing",
    "+student.seed=3": "student.seed is no key",
    "+a.b.c=3": "a is no key",
    "+nope/group=x": "nope/group is no key",
    "student.net.blocks=???": "student.net.blocks is not given yet",
    "+kd_loss.student=1": "takes: temperature, student_temperature",
    "stage.trains=nobody": "type stage.trains= one of: teacher | student",
}  # fmt: skip
ALONE = [  # a command of its own, as one problem hides others, or two words make it
    ("stage=[kd,hint]", "stage is [kd,hint], where one is taken: type stage= one of:"),
    ("stage={name:kd}", "where one is taken"),
    ("student=[thin_deep,fitnet1]", "student is [thin_deep,fitnet1], where one is taken"),
    ("kd_loss=[paper,dkd]", "(with -m, several: kd_loss=a,b)"),
    ("student={}", "where one is taken"),
    ("stage=kd.yaml", "stage is 'kd.yaml': type stage=kd"),
    ("stage.name=kd", "would only give the chosen stage another name: type stage=kd"),
    ("stage=kd curriculum.name=easy_to_hard", "type curriculum=easy_to_hard"),
    ("stage=kd student.name=fitnet1", "type student=fitnet1"),
    ("stage=kd recipe_on=modern_mnist", "recipe_on follows from recipe and dataset: leave it out"),
    ("stage=kd lambda_schedule=constant", "it has parts"),
    ("stage=kd student.net=5", "it has parts"),
    ("stage=kd ~student", "student is missing; it is a group of its own: type student=NAME"),
    ("stage=kd ~student.net._target_", "is no dotted path; write package.module.name"),
    ("stage=kd +student.net.num_classes=3", "student.net.num_classes comes from the data: leave it out"),
    ("stage=kd +lambda_schedule.nope=1", "takes: start, end, fraction"),
    ("stage=kd ~lambda_schedule.start", "type +lambda_schedule.start=VALUE"),
    ("stage=kd student.net._target_=nope", "'nope' is no dotted path; write package.module.name"),
    ("stage=kd student.net._target_=nope.Net", "there is no module 'nope'"),
    ("stage=kd student.net._target_=fitnets.models.thin", "add what it defines, fitnets.models.thin.NAME; it has:"),
    ("stage=kd student.net._target_=fitnets..thin", "there is no module 'fitnets.'"),
    ("stage=kd stage._target_=fitnets.stages.kd.KDD", "kd.py defines no 'KDD'; it has: "),
    ("stage=kd stage.decided_by=[kd_loss.nope]", "stage.decided_by names 'kd_loss.nope', which is no key"),
    ("stage=kd logger.wandb.project=x", "logger.wandb.project is no key"),
    ("stage=kd logger=[none,csv]", "none stands alone: type logger=none"),
    ("stage=kd logger=[]", "type logger= one or, as a list [a,b], some of: csv"),
    ("stage=kd runs_dir=pyproject.toml", "is no folder: type runs_dir=FOLDER"),
    ("stage=kd runs_dir=pyproject.toml/runs", "pyproject.toml is no folder: type runs_dir=FOLDER"),
    ("stage=kd answers=cached augment=crop4_flip", "type answers=online, or augment.variants=16"),
    ("stage=kd augment.variants=4", "augment.variants has nothing to vary"),
    ("stage=kd retrain_on_all=true curriculum=easy_to_hard", "type retrain_on_all=false"),
    ("stage=kd curriculum=none +curriculum.balanced=true", "plain shuffles have none: type curriculum=easy_to_hard"),
    ("stage=kd curriculum=easy_to_hard curriculum/score=file", "type curriculum.score.path=FILE"),
    ("stage=kd curriculum=easy_to_hard curriculum.score=null", "type curriculum/score=NAME with one of:"),
    ("stage=kd curriculum=easy_to_hard ~curriculum.pacing", "type curriculum/pacing=NAME with one of:"),
    ("stage=teacher curriculum=easy_to_hard", "stage=teacher knows no curriculum"),
    ("stage=score", "stage=score needs a curriculum: type curriculum=easy_to_hard"),
    ("stage=kd dataset=folder", "dataset.path is not given yet, and has no default: type dataset.path=FOLDER, or"),
    ("stage=kd dataset=folder dataset.path=/nope", "there is no such folder: type dataset.path=FOLDER"),
    ("stage=kd dataset=folder dataset.path=pyproject.toml", "that is a file: type dataset.path=FOLDER"),
    ("stage=kd dataset=hub dataset.path=a/b/c", "or owner/name (Hugging Face)"),
    ("stage=kd dataset=folder dataset.path=[a]", "type dataset.path=FOLDER"),
    ("stage=compare stage.arms=kd", "it must be a list of arms: type stage.arms=[backprop,kd]"),
    ("stage=compare stage.arms=[kd,kdd]", "did you mean kd or dkd?"),
    ("stage=compare seeds=[0]", "it must be 2 or more different whole numbers: type seeds=[0,1,2]"),
    ("stage=compare seeds=[0,0]", "it must be 2 or more different whole numbers"),
    ("arms=[]", "it must be a list of arms"),
    ("stage=fitnet stage.steps=[kdd]", "needs stage 'kdd', which is none; did you mean kd or dkd?"),
    ("stage=positions stage.pairs=[[conv1]]", "type stage.pairs=[[conv1,conv4],[conv2,conv6]]"),
    ("stage=positions stage.arm=nope", "type stage.arm= one of:"),
    ("stage=controls", "stage=controls needs a curriculum"),
    ("stage=controls curriculum=easy_to_hard stage.orders=iid", "some of iid | random | hard_to_easy"),
]  # fmt: skip
PLANNED = [  # known when the plan is made, or from networks and data
    ("stage=compare stage.arms=[teacher,kd]", "teacher is no arm: it gives no trained student to compare"),
    ("stage=compare stage.arms=[compare]", "compare is no arm"),
    ("stage=controls curriculum=easy_to_hard stage.arm=hint", "hint is no arm"),
    ("stage=positions stage.arm=backprop", "which uses no hint layers: type stage.arm=fitnet"),
    ("stage=positions seeds=[0] stage.pairs=[[nope,conv1]]", "the teacher has no layer 'nope'"),
    ("stage=fitnet stage.steps=[compare]", "takes its student from 'compare', which trains none"),
    ("stage=fitnet stage.steps=[teacher,kd]", "takes its student from 'teacher', which trains none"),
    ("stage=kd stage.needs.teacher=backprop", "takes its teacher from 'backprop', which trains none"),
    ("stage=kd stage._target_=torch.nn.Linear", "KD, torch.nn.Linear: TypeError"),
    ("stage=kd stage.decided_by=[]", "uses kd_loss: add it to decided_by in the stage's YAML"),
    ("stage=hint hint.teacher_layer=99", "the teacher has no layer '99'; type hint.teacher_layer=NAME with one of:"),
    ("stage=hint hint.student_layer=conv10", "the student has no layer 'conv10'"),
    ("stage=hint hint.teacher_layer=[conv1,conv2]", "each hint layer needs its guided layer"),
    ("stage=hint hint.student_layer=classifier", "type regressor=fc"),
    ("stage=hint hint.teacher_layer=penultimate regressor=strided", "type regressor=fc"),
    ("stage=hint regressor=strided hint.teacher_layer=conv1", "needs a guided map at least as large"),
    ("stage=hint hint=penultimate hint_loss=attention", "hint_loss=attention needs maps (C, H, W)"),
    ("stage=kd student.net.blocks=5", "change student.net (blocks=5, pieces=2), or type another student=NAME"),
    ("stage=kd student.net.blocks=[]", "change student.net (blocks=[], pieces=2)"),
    ("stage=kd student.net.blocks=[[-4]]", "negative dimension"),
    ("stage=kd teacher.net.widths=8", "the teacher fitnets.models.wide.WideShallow does not run on 1x8x8 images"),
    ("stage=kd teacher.net.kernel_size=big", "change teacher.net ("),
    ("stage=kd student.net._target_=os.getcwd", "the student os.getcwd does not run"),
    ("stage=kd init.student._target_=os.getcwd", "init of the student, os.getcwd, cannot fill its weights"),
    ("stage=kd preprocess._target_=os.getcwd", "preprocess os.getcwd cannot be called with the images"),
    ("stage=kd optimizer._target_=torch.optim.Nope", "optimizer torch.optim.Nope cannot be made"),
    ("stage=kd +optimizer.betas=[2,3]", "Invalid beta parameter"),
    ("stage=kd +optimizer.nope=5", "unexpected keyword argument 'nope'"),
    ("stage=kd +kd_loss.weights.nope=1", "weights.nope is no term of this loss; type one of: hard, soft"),
    ("stage=kd kd_loss._target_=torch.nn.MSELoss", "unexpected keyword argument 'temperature'"),
    ("stage=kd dataset.labels=5", "type dataset.labels=N with N from 10 to 1168, or all"),
    ("stage=kd dataset.labels=99999", "digits has 10 classes and 1168 training images"),
    ("stage=kd dataset.label_noise=1e-9", "none would have a wrong label: type dataset.label_noise=0.00086 or more"),
    ("stage=kd dataset.val_fraction=0.99999", "the train part would have no picture of 0, 1, 2"),
    ("stage=kd dataset.test_fraction=0.99999", "too few pictures of 0 (0)"),
    ("stage=kd trainer.precision=16-mixed trainer=cpu", "type trainer.precision=32-true or bf16-mixed"),
    ("stage=kd trainer.answers_gib=1e-9", "type trainer.answers_gib=1"),
    ("stage=kd curriculum=easy_to_hard curriculum/score=file curriculum.score.path=pyproject.toml", "cannot be read"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "pyproject.toml").write_text("a file", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"], "something was made"


def test_keys_that_do_not_fit_are_told_at_once() -> None:
    told_of_each(TOGETHER, "stage=kd")


@pytest.mark.parametrize(("words", "message"), one_in(3, ALONE))
def test_what_does_not_fit(words: str, message: str) -> None:
    (problem,) = refused(*words.split())
    assert message in problem


@pytest.mark.parametrize(("words", "message"), one_in(4, PLANNED))
def test_what_the_plan_the_networks_and_the_data_say(words: str, message: str) -> None:
    (problem,) = refused(*words.split())
    assert message in problem


# ------------------------------------------------------------------------------------ as a user types them


@pytest.fixture(scope="module")
def start() -> float:
    """Seconds that this machine takes for `python run.py --cfg job`: the start of a process."""
    began = time.monotonic()
    assert typed("--cfg", "job", cwd=Path()).returncode == 0
    return time.monotonic() - began


TYPED = [
    (["temprature=3"], "did you mean temperature?"),
    (["temperature=nan", "keep=x"], "The config has 2 problems; nothing was trained."),
    (["stage=kd", "runs_dir=pyproject.toml"], "type runs_dir=FOLDER"),
    (["--config-dir", "nowhere", "stage=kd"], "nowhere, which is no folder: type --config-dir FOLDER"),
    (["--temperature=3"], "unrecognized arguments: --temperature=3"),
    (["-m", "stage=kd", "trainer.devices=2"], "A sweep trains each job on one device"),
    (["-m", "runs_dir=pyproject.toml", "stage=kd"], "type runs_dir=FOLDER"),
    (["-m", "hydra.job.chdir=true", "stage=kd", "temperature=1,2"], "jobs share theirs: leave it out"),
    (["-m", "hydra.sweeper._target_=nope.X", "temperature=1,2"], "is no plugin of Hydra: leave it out"),
    (["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=x"], "could not be converted to Integer"),
]


@pytest.mark.parametrize(("words", "message"), one_in(3, TYPED))
def test_in_a_process_of_its_own(tmp_path: Path, start: float, words: list[str], message: str) -> None:
    began = time.monotonic()
    done = typed(*words, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert time.monotonic() - began < 3 * (start + SECONDS)


@pytest.mark.slow
def test_layers_in_a_process_of_its_own(tmp_path: Path, start: float) -> None:
    began = time.monotonic()
    done = typed("stage=hint", "hint.teacher_layer=nope", cwd=tmp_path)
    assert done.returncode == 2 and "the teacher has no layer 'nope'" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert time.monotonic() - began < 3 * (start + 2 * SECONDS)
