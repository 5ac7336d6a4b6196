"""stage=positions: which pairs there are is found in the networks; they are ranked on validation."""

import csv
import itertools
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from fitnets.commands import commands_of
from fitnets.config import ConfigError, check
from fitnets.positions import found_pairs, thinned, trained_layers
from tests.conftest import composed, go, named_runs


@pytest.mark.slow
def test_every_pair_that_a_regressor_fits_is_found() -> None:
    pairs = found_pairs(composed("stage=positions"))
    maps = [(hint, f"conv{i}") for hint in ("conv1", "conv2") for i in range(1, 10)]
    assert pairs == [*maps, ("classifier", "classifier")]
    everything = found_pairs(composed("stage=positions", "regressor=fc"))
    assert len(everything) == 3 * 10 and set(pairs) <= set(everything)
    given = composed("stage=positions", f"stage.pairs={json.dumps(pairs)}".replace('"', ""), "seeds=[0]")
    kinds = [run.spec["hint"] for run in named_runs(given) if run.stage == "hint"]
    assert [(hint["teacher_layer"], hint["student_layer"]) for hint in kinds] == pairs
    go(given.changed({"dry_run": True}))  # every pair passes the checks


def test_layers_of_any_net_that_are_hints_of_their_own() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)  # hands on its input
            self.early_pool = nn.AvgPool2d(1)  # nothing is trained below it
            self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Sequential(nn.MaxPool2d(2)))
            self.unused = nn.Linear(4, 4)
            self.flatten = nn.Flatten()  # the same numbers
            self.classifier = nn.Linear(36, 10)

        def forward(self, x):
            return self.classifier(self.flatten(self.features(self.early_pool(self.drop(x)))))

    with torch.device("meta"):
        layers = trained_layers(Net(), (1, 8, 8))
    assert layers == {"features.0": (4, 6, 6), "features": (4, 3, 3), "classifier": (10,)}


@pytest.mark.parametrize("most", [1, 2, 5, 19, 20, None])
def test_too_many_pairs_are_thinned_out_evenly(most: int | None) -> None:
    pairs = [("t", str(i)) for i in range(19)]
    kept = thinned(pairs, most)
    assert len(kept) == min(most or 19, 19) == len(set(kept)) and kept == [pair for pair in pairs if pair in kept]
    if len(kept) > 1:
        at = [pairs.index(pair) for pair in kept]
        gaps = [b - a for a, b in itertools.pairwise(at)]
        assert (at[0], at[-1]) == (0, 18) and max(gaps) - min(gaps) <= 1


def test_how_many_are_left_out_is_said() -> None:
    lines: list[str] = []
    commands = commands_of(composed("stage=positions", "stage.max_pairs=4"), lines.append)
    pairs = {tuple(command.at.items()) for command in commands}
    assert len(commands) == 4 * 5 and len(pairs) == 4
    (line,) = lines
    assert "19 pairs" in line and "15 are left out" in line and "stage.max_pairs" in line


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("stage.max_pairs=0", "type stage.max_pairs=20"),
        ("stage.pairs=[conv1]", "stage.pairs=[[conv1,conv4],[conv2,conv6]]"),
        ("seeds=[]", "seeds is []; it must be one or more"),
    ],
)
def test_what_makes_no_sense_is_refused(word: str, expected: str) -> None:
    (problem,) = check(composed("stage=positions", word).resolved)
    assert expected in problem


def test_a_pair_that_does_not_fit_is_refused_before_any_training(small) -> None:
    with pytest.raises(ConfigError, match="the student has no layer 'conv99'"):
        go(small("stage=positions", "stage.pairs=[[conv1,conv99],[conv2,conv2]]"))


def test_the_report_ranks_on_validation(small, tmp_path: Path, capsys) -> None:
    cfg = small("stage=positions", "stage.max_pairs=3", "seeds=[0]")
    best = go(cfg, "stage=positions")
    (folder,) = (tmp_path / "runs" / "reports").iterdir()
    with open(folder / "table.csv") as file:
        table = list(csv.DictReader(file))
    validation = [float(row["validation"]) for row in table]
    assert len(table) == 3 and validation == sorted(validation, reverse=True) and best == validation[0]
    assert [row["chosen"] for row in table] == ["True", "False", "False"]
    assert table[0]["test"] and not any(row["test"] for row in table[1:])
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("kd-*/result.json")]
    assert sorted(validation) == sorted(result["validation"]["accuracy"] for result in results)
    assert len(list((tmp_path / "runs").glob("hint-*"))) == 3 and len(list((tmp_path / "runs").glob("teacher-*"))) == 1
    assert (folder / "plot.png").stat().st_size > 5000
    assert "13 pairs of layers fit; 10 are left out" in capsys.readouterr().out
