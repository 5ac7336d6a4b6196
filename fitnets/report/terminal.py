"""What a command prints around its trainings: the plan, a line a stage, the summary. Imports no torch."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from fitnets.runs import STAGE_VERSIONS, Run, folder_of, resumes_at


def say_plan(console: Any, runs: list[Run], states: dict[str, str], runs_dir: Path) -> None:
    """What is reused and what is to do: a line a stage where there are few, a line a kind where there are many."""
    to_train = sum(state != "done" for state in states.values())
    console.print(f"Plan: {len(runs)} stages, {to_train} to train, in {runs_dir}/")
    words = {run.fingerprint: told_state(run, states[run.fingerprint], runs_dir) for run in runs}
    order = list(STAGE_VERSIONS)
    runs = sorted(runs, key=lambda run: (order.index(run.stage), "hint" in run.parents))
    few = len(runs) <= 4
    width = max([34, *(len(str(run) if few else run.kind) for run in runs)])
    if few:
        for run in runs:
            console.print(f"  {run!s:{width}} {words[run.fingerprint]:9} {run.name}")
        return
    kinds = Counter((run.kind, words[run.fingerprint]) for run in runs)
    for (kind, state), count in kinds.items():
        console.print(f"  {kind:{width}} {state} x {count}")


def told_state(run: Run, state: str, runs_dir: Path) -> str:
    if state == "half-finished":
        epoch = resumes_at(run, runs_dir)
        return "resumes" if epoch is None else f"resumes at epoch {epoch}"
    return {"done": "reused", "missing": "to train"}[state]


def one_line(result: dict[str, Any]) -> str:
    """The figures of a stage that has just been trained."""
    figures = result["validation"]
    if result["stage"] == "score":
        told = trust(result, result["score"]["agreement"].get("c_score"))
        return f"{result['score']['samples']:,} samples scored{told}, {result['seconds']:.1f} s"
    if not figures:
        return "left untrained"
    if result["stage"] == "hint":
        told = f"hint loss {figures['hint_loss']:.4g}, R2 {figures['r2']:.3f}, regressor {result['hint']['regressor']}"
    else:
        told = f"val accuracy {figures['accuracy']:.2%}"
        if "agreement" in figures:
            told += f", agreement {figures['agreement']:.2%}"
    return f"{told}, {result['seconds']:.1f} s"


def trust(result: dict[str, Any], agrees: float | None) -> str:
    """How far a score tells samples apart; `agrees`: its rank correlation with the cross-validated score."""
    facts, told = result["score"], ""
    if "teacher_sure" in facts:
        other = "there is no c_score yet" if agrees is None else f"with c_score {agrees:.2f}"
        told += f"; the teacher is more than 99.9 % sure of {facts['teacher_sure']:.1%} (rank agreement: {other})"
    if "auroc_of_wrong_labels" in facts:
        told += f"; AUROC for the wrong labels {facts['auroc_of_wrong_labels']:.3f}"
    return told


def score_summary(run: Run, result: dict[str, Any], runs_dir: Path) -> str:
    """What a score is worth: how it is spread, and how far it agrees with others of the same data."""
    from fitnets.report.agreement import agreements

    folder = folder_of(run, runs_dir)
    others = agreements(folder, run.net_name)
    low, q10, middle, q90, high = result["score"]["quantiles_0_10_50_90_100"]
    lines = [
        "",
        f"score {run.net_name} of {result['dataset']}: higher is harder{trust(result, others.get('c_score'))}",
        f"  from easiest to hardest  {low:.4g} (10 %: {q10:.4g}, median {middle:.4g}, 90 %: {q90:.4g}) {high:.4g}",
    ]
    lines += [f"  rank agreement with      {name}: {value:.3f}" for name, value in others.items()]
    if run.net_name != "c_score" and "c_score" not in others:
        lines.append("  cross-validated score    not computed: type curriculum/score=c_score to compare with it")
    pictures = f"  pictures                 {folder}/media/easiest_hardest.png"
    return "\n".join([*lines, pictures, f"  lies in                  {folder}"])


def summary(run: Run, result: dict[str, Any], runs_dir: Path, overrides: list[str]) -> str:
    if run.stage == "score":
        return score_summary(run, result, runs_dir)
    figures = result["validation"]
    folder = folder_of(run, runs_dir)
    lines = ["", f"{result['stage']} of {run.net_name}{run.ordered} on {result['dataset']}, seed {result['seed']}"]
    if result["stage"] == "hint":
        hint = result["hint"]
        lines += [
            f"  hint                 {hint['hint_layer']} (teacher) <- {hint['guided_layer']} (student)",
            f"  regressor            {hint['regressor']}, {hint['regressor_params']:,} parameters",
            f"                       non-linearity {hint['regressor_nonlinearity']}: {hint['nonlinearity_because']}",
            f"  validation hint loss {figures['hint_loss']:.6g}  ({hint['reduction']})",
            f"  validation R2        {figures['r2']:.4f}",
        ]
    else:
        lines += [
            f"  validation accuracy  {figures['accuracy']:.2%}",
            f"  test accuracy        {result['test_accuracy']:.2%}",
        ]
        if "agreement" in figures:
            lines += [
                f"  same answer as teacher {result['test']['agreement']:.2%} of the test part, "
                f"KL {result['test']['kl']:.4f} nats"
            ]
    lines += [
        f"  kept                 epoch {result['kept_epoch']}, {result['updates']} updates, {result['seconds']:.1f} s",
        f"  cost                 {result['params']:,} parameters, {result['multiplications']:,} multiplications",
        f"  lies in              {folder}",
        f"  next                 {next_command(run, folder, overrides)}",
    ]
    return "\n".join(lines)


def next_command(run: Run, folder: Path, overrides: list[str]) -> str:
    """A command that goes on from here, with what the user has typed."""
    following = {"teacher": "hint", "hint": "fitnet"}.get(run.stage, "compare" if run.arm == "fitnet" else "")
    if not following:
        return f'python -c "import fitnets; print(fitnets.load_student({str(folder)!r}))"'
    dropped = ("fresh", "dry_run", *(["seed"] if following == "compare" else []))
    kept = [word for word in overrides if word.partition("=")[0] not in dropped]
    words = [f"stage={following}" if word.startswith("stage=") else word for word in kept]  # in place: flags come first
    why = {"hint": "", "fitnet": "   (KD from this hint stage)", "compare": "   (all arms, over seeds)"}[following]
    return shlex.join(["python", "run.py", *words]) + why
