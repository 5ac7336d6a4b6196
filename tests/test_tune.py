"""scripts/tune.py: tried values lie in their ranges, choices are made on validation, a stopped study goes on."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")
import optuna

import tune
from fitnets.config import ConfigError
from fitnets.ending import Diverged
from tests.conftest import SMALL, one_in

SPACE = {"optimizer.lr": ("log", ["1e-4", "1e-2"]), "temperature": ("uniform", ["1", "10"])}


def test_the_space_is_read_as_typed() -> None:
    words = ["optimizer.lr=log(1e-4,1e-2)", "hint=choice(early,late)", "epochs.hint=int(5, 25)"]
    assert tune.parse_space(words) == {
        "optimizer.lr": ("log", ["1e-4", "1e-2"]),
        "hint": ("choice", ["early", "late"]),
        "epochs.hint": ("int", ["5", "25"]),
    }
    assert tune.parse_space(["student.net.blocks=choice([[4],[4]],[[8],[8]])"])["student.net.blocks"][1] == [
        "[[4],[4]]",
        "[[8],[8]]",
    ]


@pytest.mark.parametrize("word", ["lr", "lr=0.1", "lr=normal(0,1)", "lr=log(0,1)", "lr=uniform(2,1)", "n=int(1.5,2)"])
def test_what_is_no_space_is_told_with_what_to_type(word: str) -> None:
    with pytest.raises(ConfigError, match="type"):
        tune.parse_space([word])


def test_suggestions_lie_in_their_ranges() -> None:
    study = optuna.create_study()
    space = SPACE | {"hint": ("choice", ["early", "late"]), "epochs.hint": ("int", ["5", "7"])}
    for _ in range(20):
        values = dict(word.split("=") for word in tune.suggested(study.ask(), space))
        assert 1e-4 <= float(values["optimizer.lr"]) <= 1e-2 and 1 <= float(values["temperature"]) <= 10
        assert values["hint"] in ("early", "late") and values["epochs.hint"] in ("5", "6", "7")


@pytest.mark.parametrize(
    "word", one_in(3, ["optimzer.lr=log(1e-4,1e-2)", "temperature=uniform(-1,1)", "hint=choice(nowhere)"])
)
def test_a_misspelt_key_ends_it_before_any_trial(word: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["tune.py", word, "--", f"runs_dir={tmp_path}/runs", *SMALL])
    assert tune.main() == 2
    assert "1 problem; nothing was trained" in capsys.readouterr().err and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_study_stopped_and_started_again_goes_on(tmp_path: Path, capsys) -> None:
    overrides = ["stage=kd", f"runs_dir={tmp_path}", *SMALL]
    assert tune.tune(SPACE, overrides, 2, 0, True) == 0
    capsys.readouterr()
    assert tune.tune(SPACE, overrides, 3, 0, True) == 0
    told = capsys.readouterr().out
    assert "2 of 3 trials done" in told and told.count("--- trial") == 1
    (file,) = (tmp_path / "tune").glob("*.sqlite")
    (study,) = optuna.get_all_study_names(f"sqlite:///{file}")
    trials = optuna.load_study(study_name=study, storage=f"sqlite:///{file}").trials
    assert len({trial.params["optimizer.lr"] for trial in trials}) == 3, "no value is tried twice"
    results = [json.loads(path.read_text()) for path in tmp_path.glob("kd-*/result.json")]
    assert sorted(t.value for t in trials) == sorted(r["validation"]["accuracy"] for r in results)
    for trial in trials:
        assert len(trial.intermediate_values) == 5, "one figure an epoch"
    (report,) = (tmp_path / "reports").iterdir()
    rows = [line.split("|") for line in (report / "table.md").read_text().splitlines() if line.startswith("|")][2:]
    assert len(rows) == 3 and rows[0][-2].strip() == "chosen" and rows[0][5].strip()
    assert not any(row[5].strip() for row in rows[1:]), "test is shown for the chosen trial only"
    assert "The best again: python run.py stage=kd" in told


def test_a_hopeless_trial_is_pruned_and_a_broken_one_is_named(tmp_path: Path, monkeypatch, capsys) -> None:
    outcomes = iter([RuntimeError("no luck"), optuna.TrialPruned("epoch 3"), 0.5])

    def attempt(*_args, **_kwargs) -> float:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(tune, "attempt", attempt)
    monkeypatch.setattr(tune, "show", lambda study, *_: print([trial.state.name for trial in study.trials]))
    assert tune.tune(SPACE, ["stage=kd", f"runs_dir={tmp_path}", *SMALL], 3, 0, True) == 1
    told = capsys.readouterr().out
    assert "['FAIL', 'PRUNED', 'COMPLETE']" in told and "RuntimeError: no luck" in told
    assert "pruned: epoch 3" in told


def test_a_trial_that_diverges_is_pruned(tmp_path: Path, monkeypatch, capsys) -> None:
    """Optuna would take NaN for a failure, and ask for the trial again and again."""

    def diverges(_config: Any, options: Any) -> None:
        raise Diverged("kd diverged at step 3")

    monkeypatch.setattr(tune.door, "run", diverges)
    assert tune.tune(SPACE, ["stage=kd", f"runs_dir={tmp_path}", *SMALL], 2, 0, True) == 0
    (file,) = (tmp_path / "tune").glob("*.sqlite")
    trials = optuna.load_study(study_name=file.stem, storage=f"sqlite:///{file}").trials
    assert [trial.state.name for trial in trials] == ["PRUNED", "PRUNED"]
    assert capsys.readouterr().out.count("kd diverged at step 3") == 2


def test_two_values_never_look_alike() -> None:
    assert tune.texts_of([0.0012341, 0.0012344, 2.0]) == ["0.0012341", "0.0012344", "2"]
    assert tune.texts_of([0.1, 0.1]) == ["0.1", "0.1"] and tune.texts_of(["a", "b"]) == ["a", "b"]


def test_the_pruner_stops_a_training_that_is_worse_than_the_others() -> None:
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=1))
    good = study.ask()
    good.report(0.9, 1)
    study.tell(good, 0.9)

    class Trainer:
        callback_metrics = {"val/accuracy": 0.1}  # noqa: RUF012
        current_epoch = 0

    with pytest.raises(optuna.TrialPruned):
        tune.pruner(study.ask()).on_validation_end(Trainer(), None)


@pytest.mark.slow
def test_a_killed_trial_is_tried_again_with_its_values(tmp_path: Path) -> None:
    overrides = ["stage=kd", f"runs_dir={tmp_path}", *SMALL, "epochs.kd=1", "epochs.hint=1"]
    assert tune.tune(SPACE, overrides, 1, 0, False) == 0
    (file,) = (tmp_path / "tune").glob("*.sqlite")
    (name,) = optuna.get_all_study_names(f"sqlite:///{file}")
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{file}")
    killed = study.ask()
    tune.suggested(killed, SPACE)
    assert tune.tune(SPACE, overrides, 2, 0, False) == 0
    trials = optuna.load_study(study_name=name, storage=f"sqlite:///{file}").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert trials[2].params == trials[1].params


@pytest.mark.parametrize("words", [["stage=compare"], ["stage=score", "curriculum=easy_to_hard"], ["dry_run=true"]])
def test_what_trains_no_one_student_cannot_be_tuned(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a trial trains one student"):
        tune.tune(SPACE, ["stage=kd", *words] if words == ["dry_run=true"] else words, 1, 0, True)


@pytest.mark.slow
def test_a_stage_without_accuracy_is_tuned_by_what_its_table_is_ranked_by(tmp_path: Path, capsys) -> None:
    """A hint stage by its R2; a trial whose figure is another one is refused, as the two cannot be compared."""
    overrides = ["stage=hint", f"runs_dir={tmp_path}", *SMALL]
    space = {"hint_loss": ("choice", ["fitnet", "attention"])}
    assert tune.tune(space, overrides, 6, 0, False) == 1
    told = capsys.readouterr().out
    (file,) = (tmp_path / "tune").glob("*.sqlite")
    trials = optuna.load_study(study_name=file.stem, storage=f"sqlite:///{file}").trials
    results = [json.loads(path.read_text())["validation"] for path in tmp_path.glob("hint-*/result.json")]
    found = {trial.params["hint_loss"]: trial.value for trial in trials if trial.value is not None}
    (value,) = found.values()
    assert value in ({r["r2"] for r in results if "r2" in r} | {-r["hint_loss"] for r in results if "r2" not in r})
    assert "they cannot be compared" in told
