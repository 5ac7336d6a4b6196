"""Every kind of bad config is one line that names what was given, what was expected, what to type; all come at once."""

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fitnets.config import ConfigError, check
from fitnets.config.composing import hydra_problem, one_line_errors
from fitnets.config.wording import value_at
from fitnets.signatures import parameters_of

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"
ARMS = {path.stem for group in ("stage", "arm") for path in (CONF / group).glob("*.yaml")}
FILES = sorted(str(path.relative_to(CONF).with_suffix("")) for path in CONF.glob("*/**/*.yaml"))
EXPERIMENTS = [file.replace("/", "=", 1) for file in FILES if file.startswith("experiment/")]
Composed = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def composed() -> Iterator[Composed]:
    """The resolved config of some words; the same words are composed once."""
    seen: dict[tuple[str, ...], dict[str, Any]] = {}
    held, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None  # of other tests in this process
    with initialize_config_dir(str(CONF), version_base="1.3"):

        def config(*words: str) -> dict[str, Any]:
            if words not in seen:
                seen[words] = OmegaConf.to_container(compose("config", list(words)), resolve=True)  # type: ignore[assignment]
            return seen[words]

        yield config
    GlobalHydra.instance().hydra = held


def with_values(config: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The config as a file with these dotted keys would make it, also where a key is none."""
    changed = copy.deepcopy(config)
    for key, value in values.items():
        *groups, name = key.split(".")
        above = changed
        for group in groups:
            above = above.setdefault(group, {})
        above[name] = value
    return changed


def test_all_problems_come_in_one_message(composed: Composed) -> None:
    changed = with_values(composed(), {"temperature": 0, "keep": "lst", "epochs.kd": 1.5})
    assert str(ConfigError(check(changed))).splitlines() == [
        "The config has 3 problems; nothing was trained.",
        "  1. keep is 'lst'; type keep= one of: last | best",
        "  2. epochs.kd is 1.5; it must be a whole number >= 1: type epochs.kd=1",
        "  3. temperature is 0; it must be a number > 0: type temperature=3",
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("temperature", "3", "temperature is '3'; it must be a number > 0: type temperature=3"),
        ("temperature", True, "temperature is True; it must be a number > 0: type temperature=3"),
        ("temperature", float("nan"), "temperature is nan; it must be a number > 0: type temperature=3"),
        ("temperature", None, "temperature is None; it must be a number > 0: type temperature=3"),
        ("seed", -1, "seed is -1; it must be a whole number >= 0: type seed=1"),
        ("seed", True, "seed is True; it must be a whole number >= 0: type seed=1"),
        ("lr_end", 2, "lr_end is 2; it must be a number from 0 to 1: type lr_end=0"),
        ("patience", 0, "patience is 0; it must be null or a whole number >= 1: type patience=100"),
        ("updates_per_epoch", 0, "it must be null or a whole number >= 1: type updates_per_epoch=2"),
        ("trainer.gpu", -1, "trainer.gpu is -1; it must be null or a whole number >= 0: type trainer.gpu=0"),
        ("trainer.fused", "yes", "trainer.fused is 'yes'; type trainer.fused= one of: auto | false"),
        ("trainer.compile", "fast", "type trainer.compile= one of: true | false | reduce-overhead | max-autotune"),
        ("fresh", "no", "fresh is 'no'; type fresh= one of: true | false"),
        ("dry_run", 1, "dry_run is 1; type dry_run= one of: true | false"),
        ("runs_dir", None, "runs_dir is None; it must be a name: type runs_dir=NAME"),
        ("student.name", "", "student.name is ''; it must be a name without / or "),
        ("seeds", 3, "seeds is 3; it must be different whole numbers: type seeds=[0,1,2]"),
        ("seeds", [1], "seeds is [1]; it must be 2 or more different whole numbers: type seeds=[0,1,2]"),
        ("seeds", [1, 1], "seeds is [1, 1]; it must be 2 or more different whole numbers: type seeds=[0,1,2]"),
        ("epochs", 50, "epochs is 50; it has parts, set one of them: epochs.teacher, epochs.hint, epochs.kd"),
        ("lambda_schedule", 2, "lambda_schedule is 2; it has parts, set one of them: lambda_schedule._target_, "),
        ("lambda_schedule.fraction", 0, "it must be a number > 0 and <= 1: type lambda_schedule.fraction=1"),
        ("kd_loss", "hinton", "it is a group of its own: type kd_loss=NAME with one of: code, dkd, hinton, paper"),
        ("kd_loss.weights", {"soft": "x"}, "kd_loss.weights.soft is 'x'; it must be a number >= 0 or a schedule: type"),
        ("kd_loss.weights", 3, "it has parts, set one of them: kd_loss.weights.NAME"),
        ("kd_loss.weights.soft", {"_target_": "fitnets.losses.schedules.linear", "start": -1, "end": 1}, "start is -1"),
        ("hint_loss.reduction", "sum", "type hint_loss.reduction= one of: example | mean | code"),
        ("regressor.kind", "big", "regressor.kind is 'big'; type regressor.kind= one of: auto | strided | fc"),
        ("hint.teacher_layer", None, "type hint.teacher_layer= a module's name, early, middle or late, or a list"),
        ("dataset.labels", "some", "it must be all or a whole number >= 1: type dataset.labels=50"),
        ("dataset.val_fraction", 1, "dataset.val_fraction is 1; it must be a number > 0 and < 1"),
        ("dataset.label_noise", 1, "dataset.label_noise is 1; it must be a number >= 0 and < 1"),
        ("dataset._target_", "digits", "dataset._target_=digits: 'digits' is no dotted path"),
        ("teacher.net._target_", "fitnets.models.nope.Net", "there is no module 'fitnets.models.nope'"),
        ("student.net._target_", "fitnets.models.thin.thik", "thin.py defines no 'thik'; it has: "),
        ("momentum", {"end": 0.9}, "momentum.fraction is missing; it must be a number > 0: type momentum.fraction=0.5"),
        ("momentum", 0.9, "it must be null or have numbers: type momentum.end=0.7 and momentum.fraction=0.5"),
        ("momentum", {"end": 0.9, "fraction": 0.5}, "momentum rises, but torch.optim.AdamW is given none"),
        ("logger", {}, "logger is []; type logger=csv"),
        ("logger", "csv", "type logger= one or, as a list [a,b], some of: csv | wandb | tensorboard | none"),
        ("logger", {"csv": {}, "none": {}}, "logger is ['csv', 'none']; none stands alone"),
        ("logger.wandb", "word", "logger.wandb is 'word'; it has parts, set one of them: logger.wandb.project, "),
        ("stage.arms", ["kd", "kd"], "stage.arms is ['kd', 'kd']; type stage.arms=[...] with some of, each once: att"),
        ("stage.arms", ["kdd"], "stage.arms is ['kdd']; did you mean kd or dkd? type stage.arms=[...] with some of"),
        ("stage.arms", [], "stage.arms is []; it must be a list of arms"),
        ("augment.variants", 4, "augment.variants has nothing to vary: type augment=crop4_flip"),
        ("trainer.devices", 3, "batch_size is 64, which 3 devices cannot share out equally: type batch_size=63"),
    ],
)  # fmt: skip
def test_a_bad_value(composed: Composed, key: str, value: Any, message: str) -> None:
    problems = check(with_values(composed(), {key: value}), ARMS)
    assert message in problems[0], problems
    assert len(problems) == 1 or key == "trainer.devices"


def test_3_0_is_a_number_and_seeds_are_counted_where_a_stage_repeats(composed: Composed) -> None:
    assert check(with_values(composed("stage=kd"), {"temperature": 3, "seeds": [0]})) == []
    assert "one or more" in check(with_values(composed("stage=positions"), {"seeds": []}))[0]


def test_a_problem_is_told_where_it_was_typed(composed: Composed) -> None:
    """Other keys refer to these."""
    words = ["hint.nonlinearity=tanh", "regressor.kind=x", "recipe_augment.crop=-1", "epochs.hint=-1"]
    words += ["lambda_schedule.start=-1", "temperature=0"]
    problems = check(composed("stage=hint", *words))
    assert [problem.partition(" ")[0] for problem in problems] == [word.partition("=")[0] for word in words]


# ------------------------------------------------------------------------------------------ unknown keys


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("temprature", "temprature is no key; did you mean temperature?"),
        ("lr", "lr is no key; did you mean "),
        ("hint.redution", "did you mean hint_loss.reduction? hint has: teacher_layer, student_layer, nonlinearity"),
        ("teacher.recipe.batchsize", "did you mean teacher.recipe.batch_size? teacher.recipe has: optimizer, "),
        ("logger.wandb.projct", "did you mean logger.wandb.project? logger.wandb has: project, entity, group, tags"),
        ("logger.wandbb", "did you mean logger.wandb? logger has: csv, wandb, tensorboard, none"),
        ("trainer.device", "did you mean trainer.devices?"),
        ("stage.arm_s", "did you mean stage.arms? stage has: name, title, "),
        ("teacher.net.width", "did you mean teacher.net.widths? fitnets.models.wide.WideShallow takes: "),
        ("teacher.net.num_classes", "teacher.net.num_classes is no key"),
        ("init.student.gain", "init.student.gain is no key; fitnets.models.init.scaled takes: no options"),
        ("teacher.init.gain", "fitnets.models.init.scaled takes: no options"),
        ("preprocess.scal", "fitnets.data.preprocess.standardise takes: no options"),
        ("dataset.test_fracton", "did you mean dataset.test_fraction? fitnets.data.digits.digits takes: test_fraction"),
        ("lambda_schedule.epochs", "lambda_schedule.epochs is no key"),
        ("hint_loss.redution", "did you mean hint_loss.reduction? fitnets.losses.features.Regression takes: "),
    ],
)  # fmt: skip
def test_an_unknown_key_is_refused_with_the_nearest_word(composed: Composed, key: str, message: str) -> None:
    (problem,) = check(with_values(composed("logger=wandb"), {key: 9}))
    assert problem.startswith(f"{key} is no key") and message in problem


def test_options_of_a_library_and_of_a_function_with_any_options_are_its_own_affair(composed: Composed) -> None:
    assert check(with_values(composed(), {"optimizer.betas": [0.9, 0.99], "student.net.fc": None})) == []


def test_an_option_that_is_needed_and_missing_is_told(composed: Composed) -> None:
    schedule = {"lambda_schedule._target_": "fitnets.losses.schedules.saturating"}
    problems = check(with_values(composed("kd_loss=hinton"), schedule))
    assert [problem.partition(";")[0] for problem in problems] == [
        "lambda_schedule.begin is missing",
        "lambda_schedule.saturate is missing",
    ]
    assert "takes: start, end, begin, saturate, of_epochs: type +lambda_schedule.begin=VALUE" in problems[0]


def test_parameters_are_read_from_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "read_only_a.py").write_text(
        "raise SystemError\nclass Base:\n    def __init__(self, width, depth=3, *, bias): ...\n"
    )
    (tmp_path / "read_only_b.py").write_text(
        "from dataclasses import dataclass\nfrom torch import nn\nfrom read_only_a import Base as B\n"
        "class Child(B): ...\nclass Library(nn.Linear): ...\ndef any_of(x, **options): ...\n"
        "@dataclass\nclass Data:\n    a: int\n    b: int = 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert parameters_of("read_only_b.Child") == {"width": True, "depth": False, "bias": True}
    assert parameters_of("read_only_b.Data") == {"a": True, "b": False}
    assert parameters_of("read_only_b.Child", (0, 1)) == {"depth": False, "bias": True}
    unknown = ("read_only_b.Library", "read_only_b.any_of", "read_only_b.nope", "torch.nn.Linear", "nope.nope", "nope")
    assert [parameters_of(target) for target in unknown] == [None] * len(unknown)


# ------------------------------------------------------------------------------------------ old spellings

OLD = [
    ("kd_loss.name", "hinton", "type kd_loss=hinton"),
    ("kd_loss.alpha", 0.5, "type kd_loss=hinton kd_loss.alpha=0.5"),
    ("hint.reduction", "mean", "type hint_loss.reduction=mean"),
    ("hint.regressor", "fc", "type regressor=fc"),
]


@pytest.mark.parametrize(("key", "value", "message"), OLD)
def test_an_old_key_in_a_file_says_the_new_one(composed: Composed, key: str, value: Any, message: str) -> None:
    assert check(with_values(composed(), {key: value})) == [f"{key} is no key here: {message}"]


def test_an_old_key_on_the_command_line_says_the_new_one(composed: Composed) -> None:
    problems = refused(composed, *(f"{key}={value}" for key, value, _ in OLD))
    assert problems == [f"{key} is no key here: {message}" for key, _, message in OLD]


def test_alpha_is_an_option_of_hintons_loss(composed: Composed) -> None:
    assert check(composed("kd_loss=hinton", "kd_loss.alpha=0.5")) == []
    (problem,) = check(composed("kd_loss=hinton", "kd_loss.alpha=2"))
    assert problem == "kd_loss.alpha is 2; it must be a number from 0 to 1: type kd_loss.alpha=1"


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("lambda_schedule", "fitnets.losses.linear", "fitnets.losses.schedules.linear"),
        ("optimizer", "fitnets.optim.RMSPropFloor", "fitnets.stages.optimizers.RMSPropFloor"),
        ("curriculum.score", "fitnets.scores.svm_margin", "fitnets.curriculum.scores.svm_margin"),
        ("curriculum.pacing", "fitnets.data.pacing.root", "fitnets.curriculum.pacings.root"),
    ],
)
def test_an_old_target_says_the_new_one(composed: Composed, key: str, old: str, new: str) -> None:
    config = with_values(composed("stage=hint", "curriculum=easy_to_hard"), {f"{key}._target_": old})
    assert check(config) == [f"{key}._target_={old}: it is now {new}"]


# -------------------------------------------------------------------------------- stages and curricula


def test_a_stage_of_ones_own(composed: Composed) -> None:
    kd = composed("stage=kd")
    assert check(with_values(kd, {"stage.name": "mine", "stage.options": {"beta": 3}})) == []
    for values, message in (
        ({"stage.beta": 3}, "stage.beta is no key"),
        ({"stage.needs": {"teacher": "techer"}}, "needs stage 'techer', which is none; did you mean teacher"),
        ({"stage.decided_by": ["kd_los"]}, "stage.decided_by names 'kd_los', which is no key"),
        ({"stage.labels": "some"}, "type stage.labels= one of: none | visible | all"),
        ({"stage._target_": "fitnets.stages.kd.KDD"}, "stage._target_=fitnets.stages.kd.KDD: kd.py defines no 'KDD'"),
    ):
        (problem,) = check(with_values(kd, values), ARMS)
        assert message in problem


@pytest.mark.parametrize(
    ("words", "values", "message"),
    [
        (["backprop"], {"curriculum.score": "c_scor"}, "type curriculum/score=NAME with one of: c_score, current_loss"),
        (["backprop"], {"curriculum.pacing": "linear"}, "type curriculum/pacing=NAME with one of: competence"),
        (["backprop"], {"curriculum.order": "hard"}, "type curriculum/order=NAME with one of: easy_to_hard"),
        (["backprop"], {"curriculum.order.name": "anti"}, "one of: easy_to_hard | hard_to_easy | random"),
        (["backprop"], {"curriculum.pacing.start": 0}, "start is 0; it must be a number > 0 and <= 1"),
        (["backprop"], {"curriculum.pacing.full_at": -1}, "curriculum.pacing.full_at is -1; it must be a number > 0"),
        (["backprop"], {"curriculum.balanced": "yes"}, "curriculum.balanced is 'yes'; type curriculum.balanced="),
        (["backprop"], {"curriculum.score.needs": [1]}, "curriculum.score.needs is [1]; type curriculum.score.needs="),
        (["backprop"], {"curriculum.score.needs": "folds"}, "so curriculum.score must have: epochs, seed, repeats"),
        (["backprop"], {"curriculum.ballanced": True}, "did you mean curriculum.balanced? curriculum has: name"),
        (["backprop"], {"curriculum.order.seed": 1}, "curriculum.order.seed is no key"),
        (["backprop"], {"curriculum.pacing.begin": 1}, "fitnets.curriculum.pacings.root takes: start, full_at, power"),
        (["backprop"], {"curriculum.score.fold": 3}, "did you mean curriculum.score.folds?"),
        (["backprop"], {"curriculum.name": "none"}, "with balanced, order, pacing, score given; plain shuffles have"),
        (["backprop"], {"curriculum.score.features": "teacher"}, "type curriculum/score=svm_margin_teacher"),
        (["backprop"], {"curriculum.pacing._target_": "fitnets.curriculum.pacings.cubic"}, "defines no 'cubic'"),
        (["backprop"], {"retrain_on_all": True}, "type retrain_on_all=false"),
        (["backprop", "curriculum/score=file"], {"curriculum.score.path": "no"}, "there is no such file"),
        (["backprop", "curriculum=self_paced"], {"curriculum.score.every": 0}, "curriculum.score.every is 0"),
        (["backprop", "curriculum=self_paced"], {"curriculum.score.evry": 5}, "did you mean curriculum.score.every?"),
        (["backprop", "curriculum=self_paced", "~curriculum.score.every"], {}, "curriculum.score.every is missing"),
        (["score", "curriculum=self_paced"], {}, "stage=score needs another score"),
        (["score", "curriculum=none"], {}, "stage=score needs a curriculum: type curriculum=easy_to_hard"),
        (["controls", "curriculum=none"], {}, "stage=controls needs a curriculum"),
        (["controls"], {"stage.orders": ["iid", "anti"]}, "iid | random | hard_to_easy | easy_to_hard"),
        (["controls"], {"stage.orders": ["iid", "random", "iid"]}, "type each once, as stage.orders=[iid,random]"),
        (["controls"], {"stage.arm": "kdd"}, "stage.arm is 'kdd'; did you mean kd"),
        (["controls"], {"seeds": [0]}, "seeds is [0]"),
        (["teacher"], {}, "stage=teacher knows no curriculum"),
        (["positions", "curriculum/score=hint_error"], {}, "stage=positions moves the hint layers"),
        (["positions", "curriculum=none"], {"stage.max_pairs": 0}, "null or a whole number >= 1: type stage.max_pairs"),
        (["positions", "curriculum=none"], {"stage.pairs": [["a"]]}, "type stage.pairs=[[conv1,conv4],[conv2,conv6]]"),
    ],
)  # fmt: skip
def test_a_bad_curriculum_or_list(composed: Composed, words: list[str], values: dict[str, Any], message: str) -> None:
    stage, *others = words
    problems = check(with_values(composed(f"stage={stage}", "curriculum=easy_to_hard", *others), values), ARMS)
    assert len(problems) == 1 and message in problems[0], problems


# --------------------------------------------------------------------------------------- Hydra's errors


def refused(composed: Composed, *words: str) -> list[str]:
    """What Hydra finds wrong with a command's words, as one_line_errors tells it."""
    mine = [f"hydra.searchpath=[file://{words[1]}]"] if words[0] == "--config-dir" else []
    with pytest.raises(ConfigError) as raised, one_line_errors(words):
        composed(*mine, *words[2 * len(mine) :])
    for problem in raised.value.problems:
        assert "\n" not in problem and "search path" not in problem
    return raised.value.problems


WRONG = {  # of one command, which tells of all
    "temprature=3": "temprature is no key; did you mean temperature?",
    "studnt=thin_deep": "studnt is no key; did you mean student?",
    "experimnt=few_labels": "did you mean experiment?",
    "student=thin": "'thin'; did you mean thin_deep or thin_deeper or thin_relu? type student= one of: ",
    "hint_loss=fitnt": "did you mean fitnet? type hint_loss= one of: attention | code | crd | fitnet",
    "stage=nope": "stage is 'nope'; type stage= one of: backprop | compare | ",
    "experiment=nope": "few_labels | paper_init | curriculum/controls | pairs/resnet20",
    "experiment=paper/cifar10_fitnet": "did you mean paper/cifar10_fitnet1",
    "student=4": "student is '4'; type student= one of: aflw_fitnet1",
    "+temperature=3": "temperature is there already: type temperature=",
    "temperature": "'temperature' is no key=value that can be read",
    "curriculum/score=c_score": "curriculum/score is a part of a curriculum, and this one has none: type",
    "~kd_loss.nope": "kd_loss.nope is no key; kd_loss has: _target_, temperature, weights",
    "stage.arms=[a,b": "'stage.arms=[a,b' is no key=value that can be read",
    "curriculum.pacing.start=1": "curriculum.pacing.start is a part of a curriculum",
    "epochs.kd.x=3": "epochs.kd.x is no key; epochs has: teacher, hint, kd",
}  # fmt: skip


def test_every_word_that_hydra_refuses_is_one_line(composed: Composed) -> None:
    for problem, message in zip(refused(composed, *WRONG), WRONG.values(), strict=True):
        assert message in problem


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("temprature=3", "temprature is no key; did you mean temperature?"),
        ("temperature=1,2", "add -m for a sweep over them, or type 'temperature=[1,2]' for a list"),
        ("temperature=${nope}", "temperature refers to ${nope}, which is no key"),
        ("temperature=${student.nam}", "did you mean student.name?"),
        ("temperature=${temperature}", "temperature cannot be filled in: Recursive"),
    ],
)
def test_what_hydra_refuses_is_one_line(composed: Composed, word: str, message: str) -> None:
    (problem,) = refused(composed, word)
    assert message in problem


def test_options_are_those_of_what_was_chosen_in_whatever_order(composed: Composed) -> None:
    problems = refused(composed, "kd_loss.bta=3", "kd_loss=dkd", "student=thin", "temperature=4")
    assert [problem.partition(" ")[0] for problem in problems] == ["student", "kd_loss.bta"]
    assert "did you mean kd_loss.beta? kd_loss has: _target_, temperature, alpha, beta, warmup" in problems[1]


def test_files_of_ones_own(composed: Composed, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    for name, text in (("tab", "seed: 1\n\tkeep: last"), ("student", "defaults:\n  - override /student: thin_dep")):
        (tmp_path / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    mine = ["--config-dir", str(tmp_path)]
    (problem,) = refused(composed, *mine, "experiment=tab")
    assert problem.startswith(f"{tmp_path}/experiment/tab.yaml, line 3, is no YAML: found character")
    (problem,) = refused(composed, *mine, "experiment=student")
    assert "student is 'thin_dep'; did you mean thin_deep or" in problem
    (problem,) = refused(composed, *mine, "experiment=stdent")
    assert "student" in problem.partition("type experiment= one of: ")[2].split(" | ")


def test_a_mistake_in_code_keeps_its_traceback() -> None:
    with pytest.raises(ValueError, match="mine"), one_line_errors([]):
        raise ValueError("mine")


MAIN = """
import sys
import hydra
from omegaconf import OmegaConf
from fitnets.config import ConfigError, check
from fitnets.config.composing import one_line_errors
refused = []

@hydra.main(version_base="1.3", config_path={conf!r}, config_name="config")
def main(config):
    print("ran", config.temperature)

try:
    with one_line_errors(sys.argv[1:]):
        main()
except ConfigError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--cfg", "job", "student=thin"], 2, "did you mean thin_deep"),
        (["--config-dir", "nowhere"], 2, "nowhere, which is no folder: type --config-dir FOLDER"),
        (["-m", "temperature=1,2", "student=thin_deep,thin"], 2, "did you mean thin_deep"),
        (["-m", "temperature=1,2"], 0, "ran 1\nran 2"),
    ],
)
def test_round_hydras_main(tmp_path: Path, words: list[str], code: int, message: str) -> None:
    (tmp_path / "main.py").write_text(MAIN.format(conf=str(CONF)))
    callbacks = ["hydra.callbacks={}"] if "temperature=1,2" in words else []
    command = [sys.executable, str(tmp_path / "main.py"), *words, *callbacks]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == code and message in done.stdout + done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "search path" not in done.stderr


def test_errors_from_elsewhere_can_be_told_too() -> None:
    error = OmegaConfBaseException("key missing")
    assert hydra_problem(error, []).problems == ["key missing"]


# ----------------------------------------------------------------------------------------------- conf/


def words_for(file: str) -> list[str]:
    """What picks a file of conf/, with what it goes with."""
    group, _, name = file.partition("/")
    if group == "recipe_on":
        recipe, _, dataset = name.rpartition("_")
        return [f"recipe={recipe}", f"dataset={dataset}"]
    if group == "arm":
        return list(OmegaConf.load(CONF / f"{file}.yaml").overrides)
    if group == "stage":
        return [file.replace("/", "="), f"curriculum={'easy_to_hard' if name in ('score', 'controls') else 'none'}"]
    if group == "curriculum" and "/" in name:
        return ["curriculum=easy_to_hard", "=".join(file.rsplit("/", 1))]
    return [f"{group}={name}"]


def commands() -> list[list[str]]:
    """Words that pick every file of conf/: many in one command, where they do not clash, as composing takes a while."""
    found: list[dict[str, str]] = []
    for file in FILES:
        if file.startswith(("hydra/", "experiment/")):
            continue
        words = dict(word.split("=", 1) for word in words_for(file))
        fits = [others for others in found if all(others.get(key, word) == word for key, word in words.items())]
        if fits:
            fits[0].update(words)
        else:
            found.append(words)
    return [[f"{key}={word}" for key, word in words.items()] for words in found]


@pytest.mark.parametrize("words", [*commands(), *([word] for word in EXPERIMENTS)], ids=" ".join)
def test_every_file_composes_and_passes(composed: Composed, tmp_path: Path, words: list[str]) -> None:
    config = composed(*words)
    (tmp_path / "scores.npy").touch()
    for group, path in (("dataset", tmp_path), ("curriculum.score", tmp_path / "scores.npy")):
        if value_at(config, f"{group}.path") == "???":
            config = with_values(config, {f"{group}.path": str(path)})
    assert check(config, ARMS) == []


def test_the_whole_check_imports_nothing_heavy(composed: Composed, tmp_path: Path) -> None:
    """The config comes from a file here: Hydra is not needed either."""
    OmegaConf.save(OmegaConf.create(composed("stage=fitnet", "curriculum=easy_to_hard")), tmp_path / "config.yaml")
    code = (
        "import sys, yaml\nfrom fitnets.config import check\n"
        f"assert check(yaml.safe_load(open({str(tmp_path / 'config.yaml')!r}))) == []\n"
        "print({'torch', 'sklearn', 'pytorch_lightning', 'matplotlib', 'hydra'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.strip() == "set()", answer.stderr
