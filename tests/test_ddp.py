"""Two processes that train one stage together end where one process does. Gloo, on the CPU."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fitnets import curriculum as curricula
from fitnets.config import check
from fitnets.data.batch import EvalBatches
from fitnets.data.module import DataModule
from fitnets.losses import logits as kd_losses
from fitnets.plan import plan
from fitnets.store import folder_of, with_parents
from fitnets.training import processes
from fitnets.training.preflight import problems_with
from tests.conftest import composed, go
from tests.stopping import StopAt

TWO = ("trainer=ddp", "trainer.accelerator=cpu", "teacher.net.dropout=[0,0,0]")  # dropout's masks are each rank's own


def data_of(rank: int, world: int, **options) -> DataModule:
    dataset = composed()["dataset"]
    data = DataModule(dataset, 0, 64, seed=0, **options)
    data.setup()
    data.rank, data.world = rank, world
    return data


@pytest.mark.parametrize(
    "augment",
    [
        {"flip": True, "crop": 1, "variants": None},
        {"flip": True, "crop": 0, "variants": None},
        {"flip": True, "crop": 1, "variants": 3},
    ],
    ids=str,
)
def test_the_ranks_batches_are_the_parts_of_the_whole_batch(augment: dict) -> None:
    whole = next(iter(data_of(0, 1, augment=augment).train_dataloader()))
    for rank in range(4):
        part = next(iter(data_of(rank, 4, augment=augment).train_dataloader()))
        for of_part, of_whole in zip(part, whole, strict=True):
            assert torch.equal(of_part, of_whole[rank::4])


@pytest.mark.parametrize("curriculum", ["random", "easy_to_hard"])
def test_two_ranks_partition_the_pool_of_a_curriculum(curriculum: str) -> None:
    """Batch by batch as one process, so every sample of the pool once a pass over all ranks."""
    spec = curricula.spec(composed(f"curriculum={curriculum}")["curriculum"])
    difficulty = torch.rand(1438, generator=torch.Generator().manual_seed(0)).double()

    def ids(rank: int, world: int) -> list[torch.Tensor]:
        data = data_of(rank, world, sampler=curricula.sampler(spec, difficulty))
        data.updates = 54  # three epochs
        batches = data.train_dataloader()
        return [batch.ids for _ in range(3) for batch in batches]

    whole, first, second = ids(0, 1), ids(0, 2), ids(1, 2)
    assert len(whole) == len(first) == len(second) == 54
    for of_one, a, b in zip(whole, first, second, strict=True):
        assert torch.equal(of_one[0::2], a) and torch.equal(of_one[1::2], b)
    last_pass = torch.cat([torch.cat(pair) for pair in zip(first[-18:], second[-18:], strict=True)])
    assert last_pass.bincount().max() <= 2, "the pool is whole by then: no sample comes a third time in 18 batches"


@pytest.mark.parametrize("samples", [2, 3, 512, 513, 1025])
def test_every_rank_evaluates_a_part_of_every_batch_and_together_all_samples_once(samples: int) -> None:
    pool = torch.arange(samples)
    parts = [list(EvalBatches(pool, 512, lambda index: index, rank, 2)) for rank in range(2)]
    assert len(parts[0]) == len(parts[1]) and all(len(part) for of_rank in parts for part in of_rank)
    assert torch.equal(torch.cat([*parts[0], *parts[1]]).sort().values, pool)
    assert torch.equal(torch.cat(list(EvalBatches(pool, 512, lambda index: index))), pool)


def test_the_hard_loss_of_parts_averages_to_that_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the parts have unequally many labels, and one has none: each divides by the mean count."""
    logits, labels = torch.randn(8, 3), torch.tensor([0, 1, -1, -1, -1, -1, -1, -1])
    whole = kd_losses.hard_cross_entropy(logits, labels).item()
    monkeypatch.setattr(kd_losses, "is_distributed", lambda: True)
    monkeypatch.setattr(kd_losses, "averaged", lambda count: torch.tensor(2 / 4))
    parts = [kd_losses.hard_cross_entropy(logits[i : i + 2], labels[i : i + 2]) for i in range(0, 8, 2)]
    assert torch.stack(parts).mean() == pytest.approx(whole)


def test_what_cannot_be_shared_out_is_refused_with_what_to_type() -> None:
    (problem,) = check(composed("trainer=ddp", "batch_size=65").resolved)
    assert "batch_size=64" in problem
    assert check(composed("trainer=ddp").resolved) == []
    (problem,) = check(composed("trainer.devices=0").resolved)
    assert "trainer.devices is 0" in problem


WITH_A_TEACHER = ("kd", "joint_hint_kd")  # all images are drawn


@pytest.mark.parametrize("stage", ["backprop", "label_hint_kd", "joint_label_backprop", "kd", "joint_hint_kd"])
def test_few_labels_are_shared_out_where_batches_are_drawn_from_them_alone(stage: str) -> None:
    config = composed("trainer=ddp", "trainer.accelerator=cpu", "dataset.labels=51", f"stage={stage}")
    problems = problems_with(config, with_parents(plan(config)))
    assert ["dataset.labels=50" in problem for problem in problems] == ([] if stage in WITH_A_TEACHER else [True])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("fitnet", ["augment=flip"]),  # teacher, hint, kd
        ("kd", ["dataset.labels=50", "augment=crop4_flip"]),  # few labels a batch, teacher online
        ("label_hint_backprop", []),
        ("joint_hint_kd", []),
        ("hint", ["dataset.val_fraction=0.1701", "batch_size=54"]),  # uneven last batches
        ("backprop", ["curriculum=easy_to_hard"]),
    ],
)
def test_two_processes_end_where_one_does_and_write_once(small, tmp_path: Path, stage: str, words: list[str]) -> None:
    few = [f"stage={stage}", *words, "epochs.teacher=1", "epochs.hint=1", "epochs.kd=1"]
    one = small(*few, f"runs_dir={tmp_path}/one", "teacher.net.dropout=[0,0,0]")
    two = small(*few, f"runs_dir={tmp_path}/two", *TWO)
    go(one), go(two)
    for run in (run for run in with_parents(plan(two)) if run.stage != "score"):  # which one process makes
        results = [json.loads((tmp_path / which / run.name / "result.json").read_text()) for which in ("one", "two")]
        assert [result["hardware"]["devices"] for result in results] == [1, 2]
        assert results[0]["updates"] == results[1]["updates"]
        assert results[1]["validation"] == pytest.approx(results[0]["validation"], rel=2e-2, abs=1e-2)
        folder = folder_of(run, tmp_path / "two")
        assert sorted(p.name for p in folder.iterdir()) == sorted(
            p.name for p in (tmp_path / "one" / run.name).iterdir()
        )
        assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + run.spec["epochs"]
        for file in folder.glob("*.safetensors"):
            weights, expected = load_file(file), load_file(tmp_path / "one" / run.name / file.name)
            for name, tensor in weights.items():
                # Adam takes steps of one size along gradients of about zero, whose sign is float noise: a few weights
                # differ by a part of the learning rate on some processors. A wrong share of a loss moves all of them.
                difference = (tensor.double() - expected[name].double()).abs()
                assert difference.max() < 2e-3 and difference.median() < 2e-5, (run.name, file.name, name)


@pytest.mark.slow
def test_two_processes_keep_one_pool_where_it_is_ranked_by_the_network(small, tmp_path: Path) -> None:
    """Self-paced, with batch norm: the ranks' networks differ in eval mode, and the first one's ranking counts.

    Near ties fall otherwise than in one process, so the weights are not compared.
    """
    words = ["stage=backprop", "student=thin_relu", "student.net.blocks=[[4],[6],[8]]", "curriculum=self_paced"]
    cfg = composed("trainer=ddp", "trainer.accelerator=cpu", *words, "curriculum.score.every=7", f"runs_dir={tmp_path}",
                   "epochs.hint=1", "epochs.kd=2")  # fmt: skip
    go(cfg)
    folder = folder_of(plan(cfg)[0], tmp_path)
    result = json.loads((folder / "result.json").read_text())
    assert result["hardware"]["devices"] == 2 and result["updates"] == 54
    last = (folder / "metrics.csv").read_text().splitlines()[-1].split(",")
    head = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert float(last[head.index("curriculum/pool_fraction")]) == 1.0


def stopped_rank(rank: int, *args) -> None:
    """A rank that stops before update 20, in mid-epoch."""
    import fitnets.training.progress as progress

    progress.StageProgress = lambda *_: StopAt(update=20)  # type: ignore[assignment, misc]
    processes._rank(rank, *args)


@pytest.mark.slow
def test_stopped_and_started_again_two_processes_end_bit_equal(small, tmp_path: Path, monkeypatch) -> None:
    """The teacher has dropout: each rank's random state goes on too."""
    words = ["stage=teacher", "trainer=ddp", "trainer.accelerator=cpu", "trainer.checkpoint_seconds=0"]
    through, stopped = (small(*words, f"runs_dir={tmp_path}/{name}") for name in ("through", "stopped"))
    go(through)
    with monkeypatch.context() as patched:
        patched.setattr(processes, "_rank", stopped_rank)
        with pytest.raises(RuntimeError, match=r"(?s)process \d of 2 ended with.*Stop"):
            go(stopped)
    (run,) = plan(stopped)
    assert (folder_of(run, tmp_path / "stopped") / "last.ckpt").exists()
    go(stopped)
    files = [folder_of(run, tmp_path / name) / "teacher.safetensors" for name in ("through", "stopped")]
    assert files[0].read_bytes() == files[1].read_bytes()
