"""Trainings with a curriculum: equal updates, figures, self-paced ranking, controls, wrong labels.

The pool itself: test_pool.py; scores: test_scores.py; what is refused: test_curriculum_checks.py and test_config.py.
"""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fitnets.assemble import make_data, make_stage
from fitnets.commands import commands_of
from fitnets.curriculum import callbacks
from fitnets.curriculum.agreement import spearman
from fitnets.data.batch import Batch
from fitnets.load import load_student
from fitnets.plan import plan
from fitnets.report.terminal import say_plan
from fitnets.store import folder_of, read_result, with_parents
from tests.conftest import ROOT, composed, go, named_runs, one_in, plan_parents, quick

PACINGS = sorted(file.stem for file in (ROOT / "conf" / "curriculum" / "pacing").glob("*.yaml"))


def trained(small, *words: str) -> tuple[dict, dict, Path]:
    cfg = small(*words)
    go(cfg)
    folder = folder_of(plan(cfg)[-1], Path(cfg["runs_dir"]))
    with open(folder / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    return json.loads((folder / "result.json").read_text()), rows[-1], folder


@pytest.fixture(scope="module")
def scored_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs_dir that several tests share, and so its score."""
    return tmp_path_factory.mktemp("scored_once")


IN_BRIEF = ("exponential_varied",)


@pytest.mark.parametrize("name", quick(PACINGS, lambda name: name in IN_BRIEF))
def test_every_pacing_runs_on_digits(small, scored_once: Path, name: str) -> None:
    words = ["stage=backprop", "curriculum=easy_to_hard", f"curriculum/pacing={name}", f"runs_dir={scored_once}"]
    result, last, _folder = trained(small, *words)
    assert float(last["curriculum/pool_fraction"]) == 1.0 and result["updates"] == 90
    assert sum(float(last[f"curriculum/shown_decile{k:02}"]) for k in range(1, 11)) == pytest.approx(1, abs=1e-5)
    assert float(last["curriculum/shown_decile01"]) > float(last["curriculum/shown_decile10"])
    assert 0 <= float(last["curriculum/accuracy_decile01"]) <= 1


WITH_ANY = [  # the first with the default tests
    *((stage, ["easy_to_hard"]) for stage in ("fitnet", "backprop", "kd", "joint_hint_kd", "label_hint_kd")),
    *((stage, ["self_paced", "curriculum.score.every=7"]) for stage in ("kd", "backprop", "fitnet", "joint_hint_kd")),
    ("label_hint_kd", ["self_paced", "curriculum.score.every=7"]),
]


@pytest.mark.parametrize(
    ("stage", "words"), one_in(10, WITH_ANY), ids=lambda given: given if isinstance(given, str) else given[0]
)
def test_curricula_with_any_stage(small, scored_once: Path, stage: str, words: list[str]) -> None:
    curriculum, *more = words
    plain = small(f"stage={stage}")
    cfg = small(f"stage={stage}", f"curriculum={curriculum}", *more, f"runs_dir={scored_once}")
    go(cfg)
    for run, without in zip(plan(cfg), plan(plain), strict=True):
        folder = folder_of(run, Path(cfg["runs_dir"]))
        result = json.loads((folder / "result.json").read_text())
        with open(folder / "metrics.csv") as file:
            rows = list(csv.DictReader(file))
        assert result["updates"] == run.spec["epochs"] * 18, "as many updates as without curriculum"
        assert run.fingerprint != without.fingerprint
        sizes = [float(row["curriculum/pool_size"]) for row in rows]
        assert sizes == sorted(sizes) and sizes[-1] == 1168
        assert all(np.isfinite(float(row["curriculum/difficulty_q90"])) for row in rows)


@pytest.mark.slow
def test_controls_have_equal_updates_and_a_table(small, capsys) -> None:
    cfg = small("experiment=curriculum/controls", "seeds=[0,1]")
    go(cfg)
    out = capsys.readouterr().out
    assert all(name in out for name in ("i.i.d.", "random order", "hard to easy", "easy to hard", "vs i.i.d."))
    runs, runs_dir = named_runs(cfg), Path(cfg["runs_dir"])
    orders = [command.name for command in commands_of(cfg, print)]
    assert orders[:4] == ["iid", "random", "hard_to_easy", "easy_to_hard"] and len(runs) == len(orders) == 8
    results = [read_result(run, runs_dir) for run in runs]
    assert {result["updates"] for result in results} == {90}
    assert sum(run.stage == "score" for run in with_parents(runs)) == 1, "one score for all seeds and orders"
    by_score = [order for order, run in zip(orders, runs, strict=True) if "score" in run.parents]
    assert set(by_score) == {"hard_to_easy", "easy_to_hard"}
    with open(folder_of(runs[1], runs_dir) / "metrics.csv") as file:
        *_, last = csv.DictReader(file)
    assert 0 <= float(last["curriculum/accuracy_decile10"]) <= 1, "of the random order, for comparison"
    assert float(last["curriculum/shown_decile10"]) == pytest.approx(0.1, abs=0.03), "no order"


def test_figures_are_of_the_pool_and_of_the_network(small, scored_once: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last epoch, when the pool is whole and the weights are those that are kept; all samples are looked at."""
    monkeypatch.setattr(callbacks, "SAMPLES_LOOKED_AT", (10**6, 10**6))
    words = ["stage=backprop", "curriculum=easy_to_hard", "curriculum.pacing.start=0.3", f"runs_dir={scored_once}"]
    _, last, folder = trained(small, *words, "dataset.label_noise=0.3")
    run = plan(small(*words, "dataset.label_noise=0.3"))[0]
    parents = plan_parents(run, scored_once)
    data, student = make_data(run, parents), load_student(folder)
    of_train = data.sampler.difficulty[data.train_index]
    for percent in (10, 50, 90):
        expected = np.quantile(of_train.numpy(), percent / 100, method="lower")
        assert float(last[f"curriculum/difficulty_q{percent}"]) == pytest.approx(expected, rel=1e-4)
    assert float(last["curriculum/difficulty_mean"]) == pytest.approx(float(of_train.mean()), rel=1e-4)
    with torch.no_grad():
        answers = student(data.images.images[data.train_index]).argmax(1)
    given, clean = data.given_labels[data.train_index], data.images.labels[data.train_index]
    for number, part in enumerate(of_train.argsort(stable=True).tensor_split(10), 1):
        for name, labels in (("accuracy", given), ("clean_accuracy", clean)):
            right = float((answers[part] == labels[part]).double().mean())
            assert float(last[f"curriculum/{name}_decile{number:02}"]) == pytest.approx(right, abs=0.01), (name, number)


@pytest.mark.parametrize("stage", ["backprop", "kd", "hint"])
def test_self_paced_learning_admits_what_the_network_finds_easy(small, stage: str) -> None:
    cfg = small(f"stage={stage}", "curriculum=self_paced")
    run = plan(cfg)[-1]
    go(small("stage=teacher"))
    parents, cpu = plan_parents(run, Path(cfg["runs_dir"])), torch.device("cpu")
    data = make_data(run, parents)
    module = make_stage(run, data, parents, cpu)
    data.train_dataloader()
    start = SimpleNamespace(global_step=0, strategy=SimpleNamespace(broadcast=lambda difficulty: difficulty))
    callbacks.SelfPaced(data, every=7).on_train_start(start, module)
    pool, difficulty = data.train_batches.pool, data.sampler.difficulty[data.train_index]
    assert (data.sampler.difficulty[pool].diff() >= 0).all() and torch.equal(pool.sort().values, data.train_index)
    module.eval()
    with torch.no_grad():
        everything = Batch(data.train_index, data.preprocessed(data.train_index), *[torch.zeros(1168).long()] * 2)
        if stage == "backprop":
            labels = data.given_labels[data.train_index]
            expected = torch.nn.functional.cross_entropy(module.net(everything.x), labels, reduction="none")
        elif stage == "kd":
            logits = module.net(everything.x), module.answers(everything).logits
            student, teacher = (each / run.spec["kd_loss"]["temperature"] for each in logits)
            expected = (teacher.softmax(1) * (teacher.log_softmax(1) - student.log_softmax(1))).sum(1)
        else:
            hint, predicted = (features[0] for features in module.prediction(everything.x))
            error, spread = (predicted - hint).square(), (hint - hint.mean(0)).square()
            expected = error.flatten(1).sum(1) / spread.flatten(1).sum(1)
            assert spearman(difficulty.numpy(), expected.numpy()) > 0.95, "the mean hint is that of a part"
            return
    assert torch.allclose(difficulty, expected.double(), rtol=1e-3, atol=1e-5)


def test_a_balanced_pool_holds_all_classes(small, scored_once: Path) -> None:
    words = ["stage=backprop", "curriculum=easy_to_hard", "curriculum.balanced=true", f"runs_dir={scored_once}"]
    go(small("stage=score", *words[1:]))
    run = plan(small(*words))[0]
    data = make_data(run, plan_parents(run, scored_once))
    first = data.train_dataloader().pool[:100]
    assert data.given_labels[first].bincount(minlength=10).tolist() == [10] * 10


def test_the_order_is_named_where_runs_are(small, capsys) -> None:
    runs = named_runs(small("experiment=curriculum/controls", "seeds=[0,1]"))
    named = [str(run) for run in runs[:4]]
    assert named[0] == "backprop thin_deep seed 0" and named[1] == "backprop thin_deep, random (linear) seed 0"
    assert named[3] == "backprop thin_deep, easy_to_hard (svm_margin, linear) seed 0"
    say_plan(SimpleNamespace(print=print), runs, {run.fingerprint: "missing" for run in runs}, Path("runs"))
    out = capsys.readouterr().out
    assert "hard_to_easy (svm_margin, linear) to train x 2" in out


def test_a_score_is_made_for_figures_only_where_an_order_uses_it(small) -> None:
    words = ["experiment=curriculum/controls", "seeds=[0,1]", "curriculum/score=c_score"]
    without = named_runs(small(*words, "stage.orders=[iid,random]"))
    assert len(with_parents(without)) == 4, "no score, and no student for it"
    with_score = [run for run in named_runs(small(*words)) if not run.parents]
    assert [run.fingerprint for run in without] == [run.fingerprint for run in with_score]


def test_a_short_budget_counts_updates(small) -> None:
    result, last, _ = trained(small, "stage=backprop", "curriculum=easy_to_hard", "updates_per_epoch=2")
    assert result["updates"] == 10 == int(last["updates"])
    assert float(last["curriculum/pool_fraction"]) == 1.0


def test_what_does_not_decide_does_not_make_a_new_run(small) -> None:
    def of(*words: str) -> str:
        return plan(small("stage=backprop", *words))[-1].fingerprint

    random = of("curriculum=random")
    assert random == of("curriculum=easy_to_hard", "curriculum/order=random", "curriculum/score=c_score")
    easy = of("curriculum=easy_to_hard")
    assert easy != random and easy != of("curriculum=easy_to_hard", "curriculum/score=teacher_loss")
    assert easy != of("curriculum=easy_to_hard", "curriculum.pacing.start=0.1")
    assert easy == of("curriculum=hard_to_easy", "curriculum/order=easy_to_hard")
    assert of() == of("dataset.label_noise=0") and of() != of("dataset.label_noise=0.1")


def test_self_paced_is_labelled_as_such(small) -> None:
    assert plan(small("stage=backprop", "curriculum=self_paced"))[0].spec["curriculum"]["name"] == "self_paced"


def test_a_moved_score_file_is_the_same_score(small, tmp_path: Path) -> None:
    prints = []
    for name in ("a.txt", "b.txt"):
        np.savetxt(tmp_path / name, np.arange(1438.0))
        words = ["curriculum=easy_to_hard", "curriculum/score=file", f"curriculum.score.path={tmp_path}/{name}"]
        prints.append(plan(small("stage=backprop", *words))[0].fingerprint)
    assert prints[0] == prints[1]


def test_iid_runs_of_the_controls_are_those_of_plain_backprop(small) -> None:
    """Reused, and under their own arm: a page of a later comparison must not call them i.i.d."""
    commands = commands_of(small("experiment=curriculum/controls", "seeds=[0,1]"), print)
    plain = plan(small("stage=backprop"))[0]
    (iid,) = [run for c in commands if c.name == "iid" for run in plan(c.config, c.arm) if run.seed == 0]
    assert iid.fingerprint == plain.fingerprint and iid.arm == plain.arm
    assert plain.arm.name == "backprop"


# ------------------------------------------------------------------------------------- wrong labels


def test_label_noise_is_in_the_train_part_only_and_the_clean_labels_are_kept() -> None:
    def of(noise: float, split_seed: int = 0):
        return make_data(
            plan(composed("stage=backprop", f"dataset.label_noise={noise}", f"split_seed={split_seed}"))[0], {}
        )

    data, plain = of(0.4), of(0)
    wrong = data.given_labels != data.images.labels
    assert int(wrong[data.train_index].sum()) == round(0.4 * 1168) == int(wrong.sum())
    assert torch.equal(data.images.labels, plain.images.labels) and torch.equal(data.val_index, plain.val_index)
    assert torch.equal(data.visible_labels, data.given_labels)
    assert torch.equal(data.val_batch(data.val_index).y, plain.images.labels[data.val_index])
    assert torch.equal(data.given_labels, of(0.4).given_labels)
    assert data.given_labels[data.train_index].bincount(minlength=10).min() > 60, "any other class, at random"
