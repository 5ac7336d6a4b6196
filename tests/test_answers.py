"""The teacher's answers: computed once, shared, exact, where and as large as the config says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fitnets.assemble import AS_USUAL, make_data, make_stage
from fitnets.commands import Config
from fitnets.config import check
from fitnets.data.variants import how_answered
from fitnets.plan import plan
from fitnets.stages import answers as store
from fitnets.store import folder_of, with_parents
from fitnets.training.preflight import problems_with
from tests.conftest import composed, go, plan_parents


@pytest.mark.parametrize(
    "augment, expected",
    [
        (["augment=none"], "cached"),
        (["augment=flip"], "cached"),
        (["augment=crop4_flip"], "online"),
        (["augment=crop8_flip", "augment.variants=4"], "cached"),
    ],
)
def test_auto_is_cached_where_variants_can_be_counted(augment: list[str], expected: str) -> None:
    cfg = composed("stage=kd", *augment)
    assert how_answered("auto", cfg["augment"]) == expected
    assert plan(cfg)[0].spec["answers"] == expected


def test_where_answers_lie_decides_nothing_and_their_dtype_does() -> None:
    def fingerprint(*overrides: str) -> str:
        return plan(composed("stage=hint", *overrides))[0].fingerprint

    assert fingerprint() == fingerprint("trainer.answers_at=disk", "trainer.answers_gib=3", "trainer.images_at=disk")
    assert len({fingerprint(), fingerprint("answers=online"), fingerprint("answers_dtype=float16")}) == 3
    assert fingerprint("answers=cached") == fingerprint(), "auto is written down as what it means"


@pytest.mark.slow
def test_a_sweep_fills_each_layer_once(small, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = []
    fill = store._fill
    monkeypatch.setattr(store, "_fill", lambda *args: filled.append(args[0].name) or fill(*args))
    for temperature in (1, 2, 3):
        go(small("stage=fitnet", "augment=flip", f"temperature={temperature}"))
    assert len(filled) == 2, "one file of hints, one of logits, for one hint stage and three KD stages"
    go(small("stage=fitnet", "seed=1", "augment=flip"))
    assert len(filled) == 2, "another seed of the student has the same teacher"
    go(small("stage=fitnet", "augment=none"))
    assert len(filled) == 4, "another transform is another key"


@pytest.mark.parametrize("augment", [["augment=none"], ["augment=flip"], ["augment=crop4_flip", "augment.variants=3"]])
def test_a_row_is_the_teacher_on_that_very_image(small, augment: list[str]) -> None:
    """For train and validation batches, wherever the rows lie; float16 to three digits."""
    cfg = small("stage=kd", *augment)
    go(cfg.at_stage("teacher"))
    run, runs_dir = plan(cfg)[0], Path(cfg["runs_dir"])
    data = make_data(run, plan_parents(run, runs_dir))
    batches = [next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))]
    for at in ("device", "memory", "disk"):
        stage = make_stage(run, data, plan_parents(run, runs_dir), torch.device("cpu"), AS_USUAL | {"answers_at": at})
        for batch in batches:
            answer = stage.answers(batch).logits
            assert torch.allclose(answer, stage.teacher(batch.x), rtol=1e-4, atol=1e-5)
            assert not torch.allclose(answer, answer.roll(1, 0)), "rows differ, so a wrong row would show"
    if cfg["augment"]["flip"]:
        assert batches[0].variant.unique().numel() == (3 if cfg["augment"]["variants"] else 2)
    half = plan(cfg.changed({"answers_dtype": "float16"}))[0]
    stage = make_stage(half, data, plan_parents(half, runs_dir), torch.device("cpu"))
    assert torch.allclose(stage.answers(batches[0]).logits, stage.teacher(batches[0].x), rtol=2e-3, atol=2e-3)
    stored = sorted(np.load(file).dtype.name for file in (runs_dir / ".answers").glob("*.npy"))
    assert stored == ["float16", "float32"]


def test_fixed_variants_repeat_and_are_no_more_than_asked_for(small) -> None:
    cfg = small("stage=kd", "augment=crop4_flip", "augment.variants=3", "augment.crop=2")
    run = plan(cfg)[0]
    data = make_data(run, {})
    seen: dict[tuple[int, int], torch.Tensor] = {}
    loader = data.train_dataloader()
    for _ in range(6):  # epochs
        for batch in loader:
            for i, x, v in zip(batch.ids.tolist(), batch.x, batch.variant.tolist(), strict=True):
                assert torch.equal(seen.setdefault((i, v), x), x)
    assert {v for _, v in seen} == {0, 1, 2}
    different = [not torch.equal(seen[i, 0], seen[i, 1]) for i, v in seen if v == 0 and (i, 1) in seen]
    assert sum(different) > 0.8 * len(different)


def test_a_budget_too_small_is_an_error_before_training(small) -> None:
    problems = before_training(small("stage=hint", "augment=flip", "trainer.answers_gib=0.0001"))
    assert len(problems) == 1
    for part in ("trainer.answers_gib is 0.0001", "type trainer.answers_gib=1", "answers=online", "float16"):
        assert part in problems[0]
    assert before_training(small("stage=hint", "augment=flip", "trainer.answers_gib=0.0001", "answers=online")) == []


def before_training(config: Config) -> list[str]:
    return problems_with(config, with_parents(plan(config)))


def test_variants_of_nothing_are_refused() -> None:
    problems = check(composed("augment=none", "augment.variants=4").resolved)
    assert len(problems) == 1 and "nothing to vary" in problems[0]


@pytest.mark.parametrize("where", ["everywhere", "in the last batch"])
def test_answers_that_half_precision_cannot_hold_are_an_error(small, where: str, monkeypatch) -> None:
    cfg = small("stage=kd", "answers_dtype=float16")
    go(cfg.at_stage("teacher"))
    run, runs_dir = plan(cfg)[0], Path(cfg["runs_dir"])
    data = make_data(run, {})
    forward = store.FrozenTeacher.forward

    def too_large(self: store.FrozenTeacher, x: torch.Tensor) -> torch.Tensor:
        return forward(self, x) + (1e6 if where == "everywhere" or len(x) < store.FILL_BATCH else 0)

    monkeypatch.setattr(store.FrozenTeacher, "forward", too_large)
    with pytest.warns(RuntimeWarning), pytest.raises(ValueError, match="answers_dtype=float32"):
        make_stage(run, data, plan_parents(run, runs_dir), torch.device("cpu"))
    assert not list((runs_dir / ".answers").glob("*.npy")), "nothing half-made is kept"
    assert not folder_of(run, runs_dir).exists()
