"""Curricula: pools, orders, exact resume, equal updates, figures, and what is refused. Scores: test_scores.py."""

import csv
import functools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fitnets.assemble import make_data, make_module
from fitnets.check import check_config, check_nets
from fitnets.check_curriculum import check_pool
from fitnets.data.curriculum import GrowingPool, pacing, pool_size, ranking
from fitnets.data.module import Batch
from fitnets.load import load_student
from fitnets.report.agreement import spearman
from fitnets.report.terminal import say_plan
from fitnets.runs import folder_of, plan, with_parents
from fitnets.stages import observers
from tests.conftest import ROOT, composed, go, plan_parents

CONF = ROOT / "conf" / "curriculum"
PACINGS = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((CONF / "pacing").glob("*.yaml"))}

# ------------------------------------------------------------------------------------------- pacing


composed_once = functools.cache(composed)


@settings(deadline=None)
@given(
    name=st.sampled_from(sorted(PACINGS)),
    start=st.floats(0.001, 1.0),
    full_at=st.floats(0.01, 0.95),
    updates=st.integers(20, 3000),
    samples=st.integers(1, 5000),
    batch_size=st.integers(1, 256),
)
def test_pools_only_grow_end_at_the_whole_set_and_never_exceed_it(
    name: str, start: float, full_at: float, updates: int, samples: int, batch_size: int
) -> None:
    """A pacing that does not reach the whole set is refused before the training."""
    spec = PACINGS[name] | {"start": start} | ({"full_at": full_at} if "full_at" in PACINGS[name] else {})
    run = plan(composed_once("stage=backprop", "curriculum=easy_to_hard"))[0]
    epochs, per_epoch = 10, max(1, updates // 10)
    recipe = run.spec["recipe"] | {"batch_size": batch_size}
    changed = {"recipe": recipe, "updates_per_epoch": per_epoch, "epochs": epochs}
    changed["curriculum"] = run.spec["curriculum"] | {"pacing": spec}
    problems = check_pool(replace(run, spec=run.spec | changed), samples)
    updates = epochs * per_epoch
    pace = pacing(spec, updates, per_epoch)
    sizes = [pool_size(pace(t), samples, min(batch_size, samples)) for t in range(updates)]
    assert sizes == sorted(sizes)
    assert min(sizes) >= min(batch_size, samples) and max(sizes) <= samples
    if batch_size >= samples:
        assert "its pool is full from the start" in problems[0]
    else:
        assert (sizes[-1] == samples) == (problems == []), problems
        assert name in ("exponential_varied", "exponential_fixed", "single_step") or sizes[-1] == samples


def test_the_pacings_are_the_published_functions() -> None:
    """Wu et al. table 2 with a = 0.5, b = 0.2 at a quarter of the training; Hacohen's exponential after 3 intervals."""
    for name, at_quarter in (("linear", 0.6), ("quadratic", 0.4), ("root_p", 0.2 + 0.8 * 0.5**0.5), ("step", 0.2)):
        pace = pacing(PACINGS[name] | {"start": 0.2, "full_at": 0.5}, 1000, 10)
        assert pace(250) == pytest.approx(at_quarter), name
        assert pace(0) == pytest.approx(0.2) and pace(500) == pytest.approx(1.0)
    exponential = pacing(PACINGS["exponential"] | {"start": 0.2, "full_at": 0.5}, 1000, 10)
    assert exponential(250) == pytest.approx(0.2 + 0.8 * (np.exp(5) - 1) / (np.exp(10) - 1))
    logarithmic = pacing(PACINGS["logarithmic"] | {"start": 0.2, "full_at": 0.5}, 1000, 10)
    assert logarithmic(250) == pytest.approx(0.2 + 0.8 * (1 + 0.1 * np.log(0.5 + np.exp(-10))))
    fixed = pacing(PACINGS["exponential_fixed"], 1000, 10)  # L = 100 updates
    assert [fixed(t) for t in (99, 100, 350)] == pytest.approx([0.04, 0.04 * 1.9, 0.04 * 1.9**3])
    varied = pacing(PACINGS["exponential_varied"], 1000, 10)  # thresholds 0.02, 0.06, ...
    assert [varied(t) for t in (20, 21, 61)] == pytest.approx([0.04, 0.04 * 1.9, 0.04 * 1.9**2])
    single = pacing(PACINGS["single_step"], 1000, 10)  # two epochs of 10
    assert [single(t) for t in (19, 20)] == [0.2, 1.0]
    square_root = pacing(PACINGS["competence"], 1000, 10)
    assert square_root(125) == pytest.approx((0.25 * (1 - 0.01**2) + 0.01**2) ** 0.5)


# ------------------------------------------------------------------------------------------- orders


@settings(deadline=None)
@given(
    values=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    order=st.sampled_from(["easy_to_hard", "hard_to_easy", "random"]),
    balanced=st.booleans(),
    seed=st.integers(0, 5),
)
def test_any_order_is_a_permutation_in_its_direction(values: list[int], order: str, balanced: bool, seed: int) -> None:
    difficulty = torch.tensor(values, dtype=torch.float64)
    pool = torch.arange(len(values))[torch.arange(len(values)) % 7 != 3]
    labels = torch.arange(len(values)) % 3
    ranked = ranking(order, pool, difficulty, seed, labels if balanced else None)
    assert torch.equal(ranked.sort().values, pool)
    of = [difficulty[ranked[labels[ranked] == c]] for c in range(3)] if balanced else [difficulty[ranked]]
    for of_class in of:
        steps = of_class.diff()
        if order == "easy_to_hard":
            assert (steps >= 0).all()
        elif order == "hard_to_easy":
            assert (steps <= 0).all()
    if balanced:  # any start of the ranking has the classes in equal numbers, while they last
        smallest = min(int((labels[pool] == c).sum()) for c in range(3))
        counts = labels[ranked[: 3 * smallest]].bincount(minlength=3)
        assert counts.max() == counts.min()


def test_equal_difficulties_do_not_follow_the_file() -> None:
    pool = torch.arange(100)
    ranked = ranking("easy_to_hard", pool, torch.zeros(100), seed=0)
    assert not torch.equal(ranked, pool) and not torch.equal(ranked, ranking("easy_to_hard", pool, torch.zeros(100), 1))


# ------------------------------------------------------------------------------------------ batches


def growing(samples: int, batch_size: int, updates: int, seed: int = 0, start: float = 0.1) -> GrowingPool:
    ranked = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    pace = pacing(PACINGS["linear"] | {"start": start}, updates, 5)
    return GrowingPool(ranked, batch_size, 5, seed, lambda index, t: index, pace)


def batches(pool: GrowingPool, count: int) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    while len(found) < count:
        for batch in pool:  # an epoch
            found.append(batch)
            if len(found) == count:
                break
    return found


@settings(deadline=None, max_examples=40)
@given(samples=st.integers(5, 120), batch_size=st.integers(1, 16), updates=st.integers(5, 60), stop=st.integers(0, 59))
def test_resumed_at_any_step_the_next_batches_are_the_same(samples, batch_size, updates, stop) -> None:
    stop = min(stop, updates - 1)
    whole, first, second = (growing(samples, batch_size, updates) for _ in range(3))
    expected = batches(whole, updates)
    assert all(torch.equal(a, b) for a, b in zip(batches(first, stop), expected, strict=False))
    second.load_state_dict(first.state_dict())
    for a, b in zip(batches(second, updates - stop), expected[stop:], strict=True):
        assert torch.equal(a, b)
    assert torch.equal(second.shown, whole.shown)


@settings(deadline=None, max_examples=40)
@given(samples=st.integers(5, 120), batch_size=st.integers(1, 16), updates=st.integers(5, 60))
def test_a_pass_shows_every_sample_of_the_pool_once(samples: int, batch_size: int, updates: int) -> None:
    pool = growing(samples, batch_size, updates)
    given_out = torch.zeros(samples, dtype=torch.long)
    for t, batch in enumerate(batches(pool, updates)):
        admitted = pool_size(pool.fraction(t), samples, pool.batch_size)
        assert set(batch.tolist()) <= set(pool.pool[:admitted].tolist()), "only the pool is drawn from"
        given_out += batch.bincount(minlength=samples)
        first = given_out[pool.pool[: pool_size(pool.fraction(0), samples, pool.batch_size)]]
        assert first.max() - first.min() <= 1, "those who were there from the start are shown equally often"
    assert torch.equal(given_out, pool.shown[:samples])


def test_another_seed_is_another_order_of_batches_from_the_same_pool() -> None:
    a, b = growing(100, 8, 20, seed=0), growing(100, 8, 20, seed=0)
    b.seed = 1
    assert any(not torch.equal(x, y) for x, y in zip(batches(a, 20), batches(b, 20), strict=True))


def test_a_pacing_is_asked_for_no_update_after_the_last() -> None:
    pace = pacing({"name": "own", "_target_": "tests.planted.rising", "start": 0.1}, 20, 5)
    pool = GrowingPool(torch.arange(100), 4, 5, 0, lambda index, t: index, pace)
    assert len(batches(pool, 20)) == 20 and pool.admitted == 100


def test_a_new_ranking_counts_from_the_next_batch_on() -> None:
    pool = growing(100, 4, 100)
    assert set(batches(pool, 1)[0].tolist()) <= set(pool.pool[:10].tolist())
    pool.rank_again(pool.pool.flip(0))
    assert set(batches(pool, 1)[0].tolist()) <= set(pool.pool[:11].tolist())


# ---------------------------------------------------------------------------------------- trainings


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


@pytest.mark.parametrize("name", sorted(PACINGS))
def test_every_pacing_runs_on_digits(small, scored_once: Path, name: str) -> None:
    words = ["stage=backprop", "curriculum=easy_to_hard", f"curriculum/pacing={name}", f"runs_dir={scored_once}"]
    result, last, folder = trained(small, *words)
    assert float(last["curriculum/pool_fraction"]) == 1.0 and result["updates"] == 90
    assert sum(float(last[f"curriculum/shown_decile{k:02}"]) for k in range(1, 11)) == pytest.approx(1, abs=1e-5)
    assert float(last["curriculum/shown_decile01"]) > float(last["curriculum/shown_decile10"])
    assert 0 <= float(last["curriculum/accuracy_decile01"]) <= 1
    assert (folder / "media" / "curriculum.png").stat().st_size > 5000


@pytest.mark.parametrize("stage", ["backprop", "kd", "fitnet", "joint_hint_kd", "label_hint_kd"])
@pytest.mark.parametrize("curriculum", ["easy_to_hard", "self_paced"])
def test_curricula_with_any_stage(small, stage: str, curriculum: str) -> None:
    plain = small(f"stage={stage}")
    cfg = small(
        f"stage={stage}", f"curriculum={curriculum}", *(["curriculum.score.every=7"] * (curriculum == "self_paced"))
    )
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


def test_controls_have_equal_updates_and_a_table(small, capsys) -> None:
    cfg = small("experiment=curriculum/controls", "seeds=[0,1]")
    go(cfg)
    out = capsys.readouterr().out
    assert all(name in out for name in ("i.i.d.", "random order", "hard to easy", "easy to hard", "vs i.i.d."))
    runs = plan(cfg)
    assert [run.column for run in runs[:4]] == ["iid", "random", "hard_to_easy", "easy_to_hard"] and len(runs) == 8
    results = [json.loads((folder_of(run, Path(cfg["runs_dir"])) / "result.json").read_text()) for run in runs]
    assert {result["updates"] for result in results} == {90}
    assert sum(run.stage == "score" for run in with_parents(runs)) == 1, "one score for all seeds and orders"
    assert not any("score" in run.parents for run in runs if run.column in ("iid", "random"))
    with open(folder_of(runs[1], Path(cfg["runs_dir"])) / "metrics.csv") as file:
        *_, last = csv.DictReader(file)
    assert runs[1].column == "random" and 0 <= float(last["curriculum/accuracy_decile10"]) <= 1, "for comparison"
    assert float(last["curriculum/shown_decile10"]) == pytest.approx(0.1, abs=0.03), "no order"


def test_figures_are_of_the_pool_and_of_the_network(small, scored_once: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last epoch, when the pool is whole and the weights are those that are kept; all samples are looked at."""
    monkeypatch.setattr(observers, "LOOKED_AT", (10**6, 10**6))
    words = ["stage=backprop", "curriculum=easy_to_hard", "curriculum.pacing.start=0.3", f"runs_dir={scored_once}"]
    _, last, folder = trained(small, *words, "dataset.label_noise=0.3")
    run = plan(small(*words, "dataset.label_noise=0.3"))[0]
    parents = plan_parents(run, scored_once)
    data, student = make_data(run, parents), load_student(folder)
    of_train = data.difficulty[data.train_index]
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
    module = make_module(run, data, parents, cpu)
    data.train_dataloader()
    paced = observers.SelfPaced(data, every=7)
    paced._rank(SimpleNamespace(strategy=SimpleNamespace(broadcast=lambda difficulty: difficulty)), module)
    pool, difficulty = data.train_batches.pool, data.difficulty[data.train_index]
    assert (data.difficulty[pool].diff() >= 0).all() and torch.equal(pool.sort().values, data.train_index)
    module.eval()
    with torch.no_grad():
        everything = Batch(data.train_index, data.preprocessed(data.train_index), *[torch.zeros(1168).long()] * 2)
        if stage == "backprop":
            labels = data.given_labels[data.train_index]
            expected = torch.nn.functional.cross_entropy(module.net(everything.x), labels, reduction="none")
        elif stage == "kd":
            student, teacher = (
                logits / module.temperature for logits in (module.student(everything.x), module.answers(everything))
            )
            expected = (teacher.softmax(1) * (teacher.log_softmax(1) - student.log_softmax(1))).sum(1)
        else:
            hint, predicted = module.hints(everything), module.regressor(module.guided(everything.x))
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
    runs = plan(small("experiment=curriculum/controls", "seeds=[0,1]"))
    named = [str(run) for run in runs[:4]]
    assert named[0] == "backprop thin_deep seed 0" and named[1] == "backprop thin_deep, random (linear) seed 0"
    assert named[3] == "backprop thin_deep, easy_to_hard (svm_margin, linear) seed 0"
    say_plan(SimpleNamespace(print=print), runs, {run.fingerprint: "missing" for run in runs}, Path("runs"))
    out = capsys.readouterr().out
    assert "hard_to_easy (svm_margin, linear) to train x 2" in out


def test_a_score_is_made_for_figures_only_where_an_order_uses_it(small) -> None:
    words = ["experiment=curriculum/controls", "seeds=[0,1]", "curriculum/score=c_score"]
    without = plan(small(*words, "stage.orders=[iid,random]"))
    assert len(with_parents(without)) == 4, "no score, and no student for it"
    assert [run.fingerprint for run in without] == [run.fingerprint for run in plan(small(*words)) if not run.parents]


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


# ------------------------------------------------------------------------------------- wrong labels


def test_label_noise_is_in_the_train_part_only_and_the_clean_labels_are_kept() -> None:
    from fitnets.assemble import make_data

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


# ------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["curriculum=easy_to_hard", "curriculum.score=c_scor"], "type curriculum/score=NAME with one of: c_score"),
        (["curriculum=easy_to_hard", "curriculum.pacing=linear"], "type curriculum/pacing=NAME with one of: comp"),
        (["curriculum=easy_to_hard", "curriculum.order=hard_to_easy"], "type curriculum/order=NAME"),
        (["curriculum=easy_to_hard", "curriculum.order.name=anti-curr"], "easy_to_hard | hard_to_easy | random"),
        (["curriculum=easy_to_hard", "curriculum.pacing.start=0"], "curriculum.pacing.start is 0"),
        (["curriculum=easy_to_hard", "curriculum.pacing.full_at=-1"], "curriculum.pacing.full_at is -1"),
        (["curriculum=easy_to_hard", "curriculum.balanced=yes"], "curriculum.balanced is 'yes'"),
        (["curriculum=self_paced", "curriculum.score.every=0"], "curriculum.score.every is 0"),
        (["+curriculum.score.name=c_score"], "curriculum.name is none, with score given"),
        (["curriculum=easy_to_hard", "curriculum.name=none"], "with balanced, order, pacing, score given"),
        (["curriculum=easy_to_hard", "+curriculum.ballanced=true"], "curriculum.ballanced is no key; curriculum has:"),
        (["curriculum=random", "+curriculum.order.seed=1"], "curriculum.order.seed is no key"),
        (["curriculum=self_paced", "+curriculum.score.evry=5"], "curriculum.score.evry is no key"),
        (["stage=score"], "stage=score needs a curriculum: type curriculum=easy_to_hard"),
        (["stage=score", "curriculum=self_paced"], "stage=score needs another score"),
        (["stage=teacher", "curriculum=easy_to_hard"], "stage=teacher knows no curriculum"),
        (["curriculum=easy_to_hard", "retrain_on_all=true"], "type retrain_on_all=false"),
        (["experiment=curriculum/controls", "stage.orders=[iid,anti]"], "iid | random | hard_to_easy | easy_to_hard"),
        (["experiment=curriculum/controls", "stage.arm=kdd"], "stage.arm is 'kdd'"),
        (["experiment=curriculum/controls", "curriculum=none"], "stage=controls needs a curriculum"),
        (["experiment=curriculum/controls", "seeds=[0]"], "seeds is [0]"),
        (["dataset.label_noise=1"], "dataset.label_noise is 1"),
        (["updates_per_epoch=0"], "updates_per_epoch is 0"),
        (["curriculum=easy_to_hard", "curriculum/score=file", "curriculum.score.path=no"], "there is no such file"),
        (["curriculum=easy_to_hard", "curriculum/score=svm_margin", "curriculum.score.features=teacher"], "has one"),
        (["curriculum=easy_to_hard", "curriculum.pacing._target_=fitnets.data.pacing.cubic"], "defines no 'cubic'"),
    ],
)  # fmt: skip
def test_bad_curricula(words: list[str], told: str) -> None:
    stage = [] if any(word.startswith(("stage", "experiment")) for word in words) else ["stage=backprop"]
    problems = check_config(composed(*stage, *words))
    assert len(problems) == 1 and told in problems[0], problems


def test_options_of_a_score_and_a_pacing_are_checked_before_training() -> None:
    cfg = composed(
        "stage=backprop", "curriculum=easy_to_hard", "+curriculum.pacing.begin=1", "+curriculum.score.fold=3"
    )
    problems = check_nets(cfg)
    assert len(problems) == 2 and "start, full_at, power" in problems[0] and "features, components" in problems[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["curriculum/score=svm_margin", "curriculum.score.folds=500"], "folds is 500; the smallest"),
        (["curriculum.pacing.start=1e-9", "curriculum.pacing._target_=tests.planted.per_cent"], "must give fractions"),
        (["dataset.labels=50"], "batch_size is 64 and stage backprop draws from 50 samples"),
        (["batch_size=1168"], "batch_size is 1168 and stage backprop draws from 1168 samples"),
        (
            ["curriculum/pacing=single_step", "epochs.hint=0", "epochs.kd=2"],
            "has let in 234 of 1,168 samples when stage backprop ends after 36 updates",
        ),
        (
            ["curriculum/pacing=exponential_varied", "curriculum.pacing.start=0.01"],
            "curriculum/pacing=step curriculum.pacing.full_at=2",
        ),
    ],
)
def test_scores_and_pacings_are_checked_against_the_data(words: list[str], told: str) -> None:
    drop = ["~curriculum.pacing.power", "~curriculum.pacing.full_at"] if "per_cent" in words[-1] else []
    (problem,) = check_nets(composed("stage=backprop", "curriculum=easy_to_hard", *words, *drop))
    assert told in problem


def test_a_score_without_what_it_needs_is_told() -> None:
    (problem,) = check_config(composed("stage=backprop", "curriculum=self_paced", "~curriculum.score.every"))
    assert "so curriculum.score must have: every" in problem


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
    controls = plan(small("experiment=curriculum/controls", "seeds=[0,1]"))
    plain = plan(small("stage=backprop"))[0]
    (iid,) = [run for run in controls if run.column == "iid" and run.seed == 0]
    assert iid.fingerprint == plain.fingerprint and iid.arm == plain.arm == "backprop"


def test_a_file_of_the_wrong_length_says_how_many_it_must_hold(small, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "few.txt", np.arange(10.0))
    cfg = small(
        "stage=score", "curriculum=easy_to_hard", "curriculum/score=file", f"curriculum.score.path={tmp_path}/few.txt"
    )
    (problem,) = check_nets(cfg)
    assert "holds numbers of shape (10,); it must hold 1438 finite numbers" in problem


def test_an_empty_score_file_is_told(small, tmp_path: Path) -> None:
    (tmp_path / "empty.npy").touch()
    words = ["curriculum=easy_to_hard", "curriculum/score=file", f"curriculum.score.path={tmp_path}/empty.npy"]
    (problem,) = check_nets(small("stage=score", *words))
    assert "empty.npy cannot be read" in problem


def test_samples_may_be_left_out_on_purpose() -> None:
    words = ["curriculum=easy_to_hard", "curriculum/pacing=step", "curriculum.pacing.full_at=2"]
    assert check_nets(composed("stage=backprop", *words)) == []
