"""The pool of a curriculum: how it grows, who comes first, exact resume."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fitnets.curriculum.checks import check_pool
from fitnets.curriculum.pool import GrowingPool, pacing, pool_size, ranking
from fitnets.plan import plan
from tests.conftest import ROOT, composed

CONF = ROOT / "conf" / "curriculum" / "pacing"
PACINGS = {file.stem: yaml.safe_load(file.read_text()) for file in sorted(CONF.glob("*.yaml"))}

# ------------------------------------------------------------------------------------------- pacing


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
    run = plan(composed("stage=backprop", "curriculum=easy_to_hard"))[0]
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
    return GrowingPool(ranked, batch_size, 5, seed, lambda index, t: index, fraction=pace)


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
    assert torch.equal(second.times_drawn, whole.times_drawn)


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
    assert torch.equal(given_out, pool.times_drawn[:samples])


def test_another_seed_is_another_order_of_batches_from_the_same_pool() -> None:
    a, b = growing(100, 8, 20, seed=0), growing(100, 8, 20, seed=0)
    b.seed = 1
    assert any(not torch.equal(x, y) for x, y in zip(batches(a, 20), batches(b, 20), strict=True))


def test_a_pacing_is_asked_for_no_update_after_the_last() -> None:
    pace = pacing({"name": "own", "_target_": "tests.planted.rising", "start": 0.1}, 20, 5)
    pool = GrowingPool(torch.arange(100), 4, 5, 0, lambda index, t: index, fraction=pace)
    assert len(batches(pool, 20)) == 20 and pool.admitted == 100


def test_a_new_ranking_counts_from_the_next_batch_on() -> None:
    pool = growing(100, 4, 100)
    assert set(batches(pool, 1)[0].tolist()) <= set(pool.pool[:10].tolist())
    pool.rank_again(pool.pool.flip(0))
    assert set(batches(pool, 1)[0].tolist()) <= set(pool.pool[:11].tolist())
