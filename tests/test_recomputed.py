"""Every figure of a table is computed again from the run folders, by a few lines that know nothing of our report.

From the weights too: the accuracy of a table is that of the saved student on the test part. And what must not be taken
for a result is not: diverged runs, one value typed in two ways, one picture in two parts, uneven classes.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

import fitnets
from fitnets.data.images import split
from fitnets.report.sweep import entries_of, meaning
from fitnets.report.table import Entry
from tests.conftest import go, one_in
from tests.faked_runs import DATA, faked_hint, faked_run, faked_teacher
from tests.test_report import read_csv, two_seeds, written


def finished(runs_dir: Path) -> dict[str, dict[str, Any]]:
    """result.json and config.yaml of every run, by the name of its folder."""
    found = {}
    for path in runs_dir.glob("*/result.json"):
        config = yaml.safe_load((path.parent / "config.yaml").read_text())
        found[path.parent.name] = {"result": json.loads(path.read_text()), "config": config}
    return found


def chain(runs: dict[str, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The trainings of one student, its last one first."""
    before = runs[name]["config"]["parents"].get("student")
    return [runs[name]["result"], *(chain(runs, before) if before else [])]


def seeds_of(runs: dict[str, dict[str, Any]], **wanted: str) -> dict[int, str]:
    """The tested students with these values in result.json, by seed."""
    tested = {name: run["result"] for name, run in runs.items() if run["result"]["tested"]}
    chosen = {name: r for name, r in tested.items() if r["student"] and all(r[k] == v for k, v in wanted.items())}
    return {r["seed"]: name for name, r in chosen.items()}


def test_a_table_of_arms(compared) -> None:
    _, runs_dir = compared
    runs = finished(runs_dir)
    (folder,) = (runs_dir / "reports").iterdir()
    table = {row["arm"]: row for row in read_csv(folder / "table.csv")}
    base = seeds_of(runs, arm="backprop")
    for arm, row in table.items():
        of = seeds_of(runs, arm=arm)
        accuracy = np.array([runs[of[seed]]["result"]["test"]["accuracy"] for seed in sorted(of)])
        against = np.array([runs[base[seed]]["result"]["test"]["accuracy"] for seed in sorted(of)])
        assert int(row["n"]) == len(accuracy) == 2
        assert float(row["accuracy_mean"]) == pytest.approx(accuracy.mean())
        assert float(row["accuracy_sd"]) == pytest.approx(accuracy.std(ddof=1))
        if arm != "backprop":
            low, high = stats.ttest_rel(accuracy, against).confidence_interval(0.95)
            assert float(row["difference"]) == pytest.approx((low + high) / 2)
            assert float(row["difference_ci"]) == pytest.approx((high - low) / 2, abs=1e-12)
        trainings = [chain(runs, name) for name in of.values()]
        assert int(row["updates"]) == sum(result["updates"] for result in trainings[0]) == 5 * 18
        assert float(row["seconds"]) == pytest.approx(np.mean([sum(r["seconds"] for r in each) for each in trainings]))
        tensors = load_file(runs_dir / of[0] / "student.safetensors")
        counted = sum(t.size for name, t in tensors.items() if "running" not in name and "tracked" not in name)
        assert int(row["params"]) == counted
    text = (folder / "table.md").read_text()
    for row in table.values():
        shown = f"{100 * float(row['accuracy_mean']):.2f} ± {100 * float(row['accuracy_sd']):.2f}"
        assert shown in text


def test_the_accuracy_is_that_of_the_saved_weights_on_the_test_part(compared) -> None:
    _, runs_dir = compared
    runs = finished(runs_dir)
    config = next(iter(runs.values()))["config"]
    images, _, val = split(config["dataset"], config["split_seed"])
    test = [image.tobytes() for image in images.test_images.numpy()]
    digits = {image.astype(np.uint8).tobytes(): label for image, label in zip(*_digits(), strict=True)}
    labels = np.array([digits[image] for image in test])
    assert not {image.tobytes() for image in images.images.numpy()} & set(test), "no test image was trained on"
    checked = 0
    for name, run in runs.items():
        result = run["result"]
        if not result["tested"] or not result["student"]:
            continue
        logits = fitnets.load_student(runs_dir / name)(images.test_images).detach().double()
        answers, chances = logits.argmax(1).numpy(), logits.softmax(1).numpy()
        assert result["test"]["accuracy"] == pytest.approx(accuracy_score(labels, answers))
        assert result["test"]["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, answers))
        assert result["test"]["nll"] == pytest.approx(log_loss(labels, chances), rel=1e-4)
        logits = fitnets.load_student(runs_dir / name)(images.images[val]).detach()
        reached = accuracy_score(images.labels[val].numpy(), logits.argmax(1).numpy())
        assert result["validation"]["accuracy"] == pytest.approx(reached)
        checked += 1
    assert checked == 6


def _digits() -> tuple[Any, Any]:
    bunch = load_digits()
    return bunch.images, bunch.target


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["positions", "controls"])
def test_other_tables(small, stage: str) -> None:
    words = {
        "positions": ["stage=positions", "stage.pairs=[[conv1,conv2],[conv2,conv4]]", "seeds=[0,1]"],
        "controls": ["experiment=curriculum/controls", "seeds=[0,1]"],
    }[stage]
    config = small(*words)
    go(config)
    runs_dir = Path(config["runs_dir"])
    runs = finished(runs_dir)
    (file,) = runs_dir.glob("reports/*/table.csv")
    for row in read_csv(file):
        if stage == "positions":
            layers = {key.partition(".")[2]: value for key, value in row.items() if key.startswith("hint.")}
            names = [
                name
                for name, run in runs.items()
                if run["result"]["tested"] and run["result"]["student"] and hinted(runs, name) == layers
            ]
            figure, column = ("validation", "accuracy"), "validation"
        else:
            names = list(seeds_of(runs, arm=row["arm"]).values()) or list(of_order(runs, row["arm"]).values())
            figure, column = ("test", "accuracy"), "accuracy_mean"
        values = [runs[name]["result"][figure[0]][figure[1]] for name in names]
        assert len(values) == int(row["n"]) == 2
        assert float(row[column]) == pytest.approx(np.mean(values))
        spread = row["validation_sd"] if stage == "positions" else row["accuracy_sd"]
        assert float(spread) == pytest.approx(np.std(values, ddof=1))


def hinted(runs: dict[str, dict[str, Any]], name: str) -> dict[str, str]:
    hint = runs[runs[name]["config"]["parents"]["student"]]["result"]["hint"]
    return {"teacher_layer": hint["hint_layer"], "student_layer": hint["guided_layer"]}


def of_order(runs: dict[str, dict[str, Any]], order: str) -> dict[int, str]:
    found = {}
    for name, run in runs.items():
        curriculum = run["config"].get("curriculum", {"name": "none"})
        its = curriculum.get("order", {"name": "iid"})["name"]
        if run["result"]["tested"] and run["result"]["student"] and not run["result"]["for_score"] and its == order:
            found[run["result"]["seed"]] = name
    return found


# ------------------------------------------------------------------------- what is no result

NAN = float("nan")
BAD = {"validation": {"accuracy": 0.99, "nll": NAN}, "test": {"accuracy": 0.99}}


@pytest.mark.parametrize("bad", one_in(3, [NAN, math.inf, -math.inf]))
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_diverged_setting_is_never_chosen_and_breaks_no_table(tmp_path: Path, bad: float, seeds: int) -> None:
    entries = []
    for value in ("0.1", "10", "20"):
        for seed in range(seeds):
            reached = {"accuracy": 0.8, "nll": 0.5}
            reached |= {"accuracy": 0.99, "nll": bad} if (value, seed) == ("10", 0) else {}
            result = {"validation": reached, "test": {"accuracy": 0.7, "brier": bad}}  # test decides nothing
            folder = faked_run(tmp_path / "runs", "KD", seed, 0.8, config={"lr": value}, result=result)
            entries += [Entry({"lr": value}, folder)]
    text = written(entries, tmp_path / "report")
    table = {row["lr"]: row for row in read_csv(tmp_path / "report" / "table.csv")}
    assert [lr for lr, row in table.items() if row["chosen"] == "True"] == ["0.1"], "the first of two equal ones"
    assert table["10"]["diverged"] == "1" and table["20"]["diverged"] == ""
    assert "never chosen" in text and "could not be drawn" not in text
    page = (tmp_path / "report" / "page.html").read_text()
    assert "could not be made" not in page and ">nan<" not in page.lower()


def test_a_diverged_hint_stage_spoils_the_student_that_goes_on_from_it(tmp_path: Path) -> None:
    teacher = faked_teacher(tmp_path / "runs")
    hint = faked_hint(tmp_path / "runs", 0, teacher)
    spoilt = json.loads((hint / "result.json").read_text())
    spoilt["validation"]["r2"] = NAN
    (hint / "result.json").write_text(json.dumps(spoilt))
    good = faked_run(tmp_path / "runs", "KD", 0, 0.7, {"teacher": teacher})
    bad = faked_run(tmp_path / "runs", "FitNet", 0, 0.9, {"teacher": teacher, "student": hint})
    written([Entry({"arm": "KD"}, good), Entry({"arm": "FitNet"}, bad)], tmp_path / "report")
    table = {row["arm"]: row for row in read_csv(tmp_path / "report" / "table.csv")}
    assert (table["KD"]["chosen"], table["FitNet"]["chosen"], table["FitNet"]["diverged"]) == ("True", "False", "1")


@pytest.mark.parametrize("metrics", [[0.5, NAN], [NAN, NAN], [0.5, math.inf]])
def test_a_comparison_with_a_diverged_arm_has_its_table_and_page(tmp_path: Path, metrics: list[float]) -> None:
    epochs = [{"epoch": e, "updates": 5 * e, "val/accuracy": 0.1, "val/nll": n} for e, n in enumerate(metrics, 1)]
    entries = two_seeds(tmp_path / "runs", "backprop", "KD")
    entries += two_seeds(tmp_path / "other", "bad", metrics=epochs, result=BAD)
    text = written(entries, tmp_path / "report", fixed=True)
    assert "could not be drawn" not in text and "diverged" in text
    assert "could not be made" not in (tmp_path / "report" / "page.html").read_text()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("4.0", "4.00", True),
        ("4", "4.0", True),
        ("1e-3", "0.001", True),
        ("[1,2]", "[1, 2.0]", True),
        ("{end:0.7}", "{end: 0.70}", True),
        ("true", "True", True),
        ("'a'", "a", True),
        ("4", "40", False),
        ("conv1", "conv10", False),
        ("[1,2]", "[2,1]", False),
        ("v1.0", "v1.00", False),
    ],
)
def test_words_that_mean_the_same_are_one_row(one: str, other: str, same: bool, tmp_path: Path) -> None:
    assert (meaning(one) == meaning(other)) is same
    folder = faked_run(tmp_path / "runs", "KD", 0)
    jobs = [{"overrides": [f"key={word}"], "runs": [{"at": {}, "folder": str(folder)}]} for word in (one, other)]
    assert len(entries_of(jobs, ["key"])) == (1 if same else 2)


def test_uneven_classes_have_balanced_accuracy_in_table_and_page(tmp_path: Path) -> None:
    uneven = DATA | {"uneven": True, "notes": ["classes are uneven"]}
    uneven["classes"] = {
        "healthy": {"train": 7, "validation": 1, "test": 2},
        "猫": {"train": 1, "validation": 1, "test": 1},
    }
    tested = {"test": {"accuracy": 0.9, "balanced_accuracy": 0.55}, "data": uneven}
    tested["details"] = {"per_class": [1.0, 0.1], "confusion": [[2, 0], [1, 0]]}
    text = written(two_seeds(tmp_path / "runs", "backprop", "KD", result=tested), tmp_path / "report", fixed=True)
    row = read_csv(tmp_path / "report" / "table.csv")[0]
    assert (row["balanced_mean"], row["balanced_sd"]) == ("0.55", "0.0")
    assert "55.00 ± 0.00" in text and "NOTE: classes are uneven." in text
    page = (tmp_path / "report" / "page.html").read_text()
    assert "猫" in page and "balanced %" in page and "validation images" in page and "10.00" in page
    even = written(two_seeds(tmp_path / "b", "backprop", "KD"), tmp_path / "even", fixed=True)
    assert "balanced" not in even and "NOTE" not in even
