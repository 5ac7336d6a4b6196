"""A thousand classes cost what is done after a training no more than the training; what is kept can be read."""

import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fitnets.report.page import write_page
from fitnets.training import engine
from fitnets.training.figures import of_predictions
from tests.conftest import go
from tests.faked_runs import DATA, faked_run
from tests.test_page import Page

CLASSES = 1000


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of 8x8 pictures: three to train and validate on, one to test on."""
    root = tmp_path_factory.mktemp("thousand")
    rng = np.random.default_rng(0)
    for number in range(CLASSES):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(file, "PNG")
        for path in ("train/{}/0.png", "train/{}/1.png", "train/{}/2.png", "test/{}/0.png"):
            at = root / path.format(f"kind {number:04}")
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes(file.getvalue())
    return root


@pytest.mark.slow
def test_a_thousand_classes_leave_a_small_result_and_a_page_that_can_be_read(
    thousand: Path, small, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = []

    def timed(run, name, measure):
        started = time.process_time()
        found = measure()
        spent.append(time.process_time() - started)
        return found

    monkeypatch.setattr(engine, "attempted", timed)
    config = small("stage=backprop", "dataset=folder", f"dataset.path={thousand}", "dataset.size=8", "epochs.kd=1")
    go(config)
    assert sum(spent) < 4, "seconds of CPU for figures and pictures; a matrix alone took 9"
    (folder,) = (path.parent for path in Path(config["runs_dir"]).glob("*/result.json"))
    assert (folder / "result.json").stat().st_size < 300_000
    result = json.loads((folder / "result.json").read_text())
    details, pictures = result["details"], {path.stem for path in (folder / "media").iterdir()}
    assert len(details["per_class"]) == CLASSES and "confusion" not in details and "confusion" not in pictures
    assert 0 < len(details["confused"]) <= 50 and {"hardest", "reliability"} <= pictures
    assert {pair["class"] for pair in details["confused"]} <= set(details["classes"])

    started = time.process_time()
    page = Page(write_page([folder], folder / "page.html", "Many classes", []))
    assert time.process_time() - started < 10 and len(page.raw) < 1_000_000
    assert page.problems == [] and "confusion" in page.sections and "Test accuracy by class" not in page.svg
    assert "a matrix of more than 30 classes could not be read" in page.text
    assert "of the 50 classes of 1,000 that are known worst" in page.text
    assert "The 10 most frequent wrong answers" in page.text
    _, pairs, worst = page.tables
    assert len(pairs) == 11 and len(worst) == 51
    accuracies = [float(line[-1]) for line in worst[1:]]
    assert accuracies == sorted(accuracies) and accuracies[0] == 100 * min(details["per_class"])


def test_figures_of_predictions_need_no_square_of_the_classes() -> None:
    """A matrix of these would have 3.2 GB."""
    started = time.process_time()
    _, details = of_predictions(torch.eye(300, 20_000), torch.arange(300).flip(0))
    assert time.process_time() - started < 5 and "confusion" not in details
    assert details["per_class"][:300] == [0.0] * 300 and details["per_class"][300:] == [None] * 19_700
    assert details["confused"][0] == (0, 299, 1) and len(details["confused"]) == 50


@pytest.mark.parametrize(("count", "matrix", "pairs", "listed"), [(12, 1, 0, 12), (20, 1, 10, 20), (60, 0, 10, 50)])
def test_the_page_shows_what_can_be_read(count: int, matrix: int, pairs: int, listed: int, tmp_path: Path) -> None:
    """Class 0 is always right, any other taken for the one before it: the more often the larger its number."""
    labels = torch.arange(count).repeat_interleave(count)
    wrong = torch.arange(count).repeat(count) < labels
    answers = torch.where(wrong, labels - 1, labels)
    test, details = of_predictions(9.0 * torch.nn.functional.one_hot(answers, count), labels)
    names = [f"<kind {number}>" for number in range(count)]
    told = [{"class": names[true], "answered": names[said], "images": n} for true, said, n in details["confused"]]
    data = DATA | {"classes": {name: {"train": 4, "validation": 1, "test": count} for name in names}}
    result = {"test": test | {"accuracy": 0.5}, "details": details | {"confused": told}, "data": data}
    page = Page(write_page([faked_run(tmp_path / "runs", "KD", result=result)], tmp_path / "page.html", "Some", []))
    assert page.problems == [] and sum(about.startswith("Confusion matrix") for about in page.svg) == matrix
    _, *confused, classes = page.tables
    worst, before = names[-1], names[-2]
    assert len(confused) == (pairs > 0) and len(classes) == listed + 1
    if pairs:
        assert confused[0][1] == ["KD", worst, before, f"{count - 1}", f"{count}"] and len(confused[0]) == pairs + 1
    if listed < count:
        assert [line[1] for line in classes[1:]] == names[: -listed - 1 : -1], "the worst first"
