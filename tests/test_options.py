"""Options of `trainer` change how fast it goes and how much memory it takes, never what comes out."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from fitnets.commands import Config
from fitnets.config import check
from fitnets.plan import plan
from fitnets.store import folder_of
from tests.conftest import ROOT, composed, faked_parquet, go


def outcome(cfg: Config) -> tuple[dict, dict]:
    """result.json of the last run and its student's weights."""
    go(cfg)
    folder = folder_of(plan(cfg)[-1], Path(cfg["runs_dir"]))
    return json.loads((folder / "result.json").read_text()), load_file(folder / "student.safetensors")


def assert_alike(cfg: Config, other: Config) -> None:
    (result, weights), (result2, weights2) = outcome(cfg), outcome(other)
    assert result["fingerprint"] == result2["fingerprint"]
    assert result2["validation"] == pytest.approx(result["validation"], rel=1e-2, abs=1e-3)
    for name, tensor in weights.items():
        assert (tensor - weights2[name]).abs().max() <= 1e-3 * max(1.0, float(tensor.abs().max())), name


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["torch.optim.AdamW", "torch.optim.SGD"])
def test_a_fused_optimizer_ends_where_the_plain_one_does(small, tmp_path: Path, optimizer: str) -> None:
    words = ["stage=fitnet", f"optimizer._target_={optimizer}"]
    assert_alike(
        small(*words, f"runs_dir={tmp_path}/plain", "trainer.fused=false"), small(*words, f"runs_dir={tmp_path}/fused")
    )


@pytest.mark.slow
def test_compiled_networks_end_where_plain_ones_do(small, tmp_path: Path) -> None:
    words = ["stage=fitnet", "augment=flip"]
    assert_alike(
        small(*words, f"runs_dir={tmp_path}/plain"),
        small(*words, f"runs_dir={tmp_path}/compiled", "trainer.compile=true"),
    )


@pytest.mark.slow
def test_bf16_follows_float32(small, tmp_path: Path) -> None:
    """Another precision is another run; its losses stay near."""
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        cfg = small("stage=fitnet", f"trainer.precision={precision}", f"runs_dir={tmp_path}/{precision}")
        go(cfg)
        run = plan(cfg)[-1]
        with open(folder_of(run, Path(cfg["runs_dir"])) / "metrics.csv") as file:
            losses.append([float(row["train/loss"]) for row in csv.DictReader(file)])
    assert losses[1] == pytest.approx(losses[0], rel=5e-2) and losses[1] != losses[0]


@pytest.mark.parametrize("word", ["trainer.fused=yes", "trainer.compile=fast"])
def test_an_unknown_option_lists_the_known_ones(word: str) -> None:
    (problem,) = check(composed(word).resolved)
    assert word.partition("=")[0] in problem


STREAMED = """
import sys, threading, time
from pathlib import Path
import torch
from fitnets.data.module import DataModule
from fitnets.stages.answers import AnswerStore, cached
from fitnets.stages.teacher import FrozenTeacher

torch.set_num_threads(1)
torch.manual_seed(0)
path, cache, at = sys.argv[1:]
import numpy, pyarrow.parquet, PIL.Image, safetensors.torch, sklearn.datasets
net = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Conv2d(3, 32, 1))
net(torch.zeros(512, 3, 64, 64))


def mib():  # memory that is no copy of a file: what would not fit
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024


most = before = mib()


def watch():
    global most
    while True:
        most = max(most, mib())
        time.sleep(0.002)


threading.Thread(target=watch, daemon=True).start()
spec = {"_target_": "fitnets.data.files.hub", "path": path, "cache_dir": cache, "val_fraction": 0.2, "name": "big"}
data = DataModule(spec, 0, 64, seed=0, augment={"flip": True, "crop": 0, "variants": None})
data.setup()
data.move_to(torch.device("cpu"), images=False)
with torch.no_grad():
    answers = cached(FrozenTeacher(net), data, AnswerStore("cached", Path(cache), {"test": 1}, "float32", at), "")
    seen = 0
    for batch in data.train_dataloader():
        assert torch.allclose(answers(batch), net(batch.x), atol=1e-5)
        seen += len(batch.ids)
print(seen, data.images.images.numel() // 2**20, round(most - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")
def test_images_and_answers_that_do_not_fit_stream_from_disk(tmp_path: Path) -> None:
    """Decoded, preprocessed, answered and trained on in less memory than the images, or the answers, take."""
    faked_parquet(tmp_path / "big", size=64, n=24_000, noise=False)

    def run(at: str) -> list[int]:
        command = [sys.executable, "-c", STREAMED, str(tmp_path / "big"), str(tmp_path / "cache"), at]
        env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}  # what is freed goes back to the system
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr[-2000:]
        return [int(word) for word in done.stdout.split()[-3:]]

    seen, images, most = run("disk")
    answers = (2 * 19_200 + 4_800) * 32 * 8 * 8 * 4 // 2**20
    assert seen == 19_200
    assert most < min(images, answers), f"{most} MiB; images {images}, answers {answers}"
    assert run("memory")[2] > 0.9 * answers, "the account is real: answers in memory show"
