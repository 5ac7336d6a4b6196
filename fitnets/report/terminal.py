"""What a command prints around its trainings: the plan, a line a stage, the summary. Imports no torch."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fitnets.report.folders import REACHED, filled
from fitnets.store import Run, folder_of, resumes_at

STATES = {"done": "reused", "missing": "to train", "half-finished": "resumes", "broken": "to train again"}
# Lines of a stage's result; each is there where the result has its figures
HINT = (
    "  hint                 {hint[hint_layer]} (teacher) <- {hint[guided_layer]} (student)",
    "  regressor            {hint[regressor]}, {hint[regressor_params]:,} parameters",
    "                       non-linearity {hint[regressor_nonlinearity]}: {hint[nonlinearity_because]}",
)
SUMMARY = (
    "  validation R2        {validation[r2]:.4f}",
    "  validation accuracy  {validation[accuracy]:.2%}",
    "  test accuracy        {test[accuracy]:.2%}",
    "  same answer as teacher {test[agreement]:.2%} of the test part, KL {test[kl]:.4f} nats",
    "  kept                 epoch {kept_epoch}, {updates} updates, {seconds:.1f} s",
    "  cost                 {params:,} parameters, {multiplications:,} multiplications",
)


BALANCED = "  balanced accuracy    {test[balanced_accuracy]:.2%}"  # where classes are uneven


def say_plan(console: Any, runs: Sequence[Run], states: Mapping[str, str], runs_dir: Path) -> None:
    """What is reused and what is to do: a line a stage where there are few, a line a kind where there are many."""
    to_train = sum(state != "done" for state in states.values())
    console.print(f"Plan: {len(runs)} stages, {to_train} to train, in {runs_dir}/")
    words = {}
    for run in runs:
        state = states[run.fingerprint]
        epoch = resumes_at(run, runs_dir) if state == "half-finished" else None
        words[run.fingerprint] = STATES[state] + (f" at epoch {epoch}" if epoch is not None else "")
    runs = sorted(runs, key=lambda run: (depth(run), run.trains == "student", run.tested))
    if len(runs) <= 4:
        width = max([34, *(len(str(run)) for run in runs)])
        for run in runs:
            console.print(f"  {run!s:{width}} {words[run.fingerprint]:9} {run.name}")
        return
    width = max([34, *(len(run.kind) for run in runs)])
    for (kind, state), count in Counter((run.kind, words[run.fingerprint]) for run in runs).items():
        console.print(f"  {kind:{width}} {state} x {count}")


def depth(run: Run) -> int:
    """How many stages must come one after the other before it."""
    return 1 + max(map(depth, run.parents.values()), default=-1)


def one_line(result: Mapping[str, Any]) -> str:
    """The figures of a stage that has just been trained."""
    figures, seconds = result["validation"], f"{result['seconds']:.1f} s"
    if "score" in result:
        return f"{result['score']['samples']:,} samples scored{trust_text(result['score'])}, {seconds}"
    if not figures:
        return "left untrained"
    words = filled(result, *REACHED, "agreement {validation[agreement]:.2%}")
    if not words:  # a stage of one's own, with figures of its own
        words = [f"{name} {value:.4g}" for name, value in figures.items()]
    regressor = filled(result, "regressor {hint[regressor]}") if "hint_loss" in figures else []
    return ", ".join([*words, *regressor, seconds, *nothing_learned(result)])


def nothing_learned(result: Mapping[str, Any]) -> list[str]:
    return filled(result, "LEARNED NOTHING ({learned_nothing})") if result.get("learned_nothing") else []


def trust_text(score: Mapping[str, Any]) -> str:
    """How far a score tells samples apart."""
    agrees = filled(score["agreement"], "with c_score {c_score:.2f}") or ["there is no c_score yet"]
    sure = "; the teacher is more than 99.9 % sure of {teacher_sure:.1%} (rank agreement: " + f"{agrees[0]})"
    return "".join(filled(score, sure, "; AUROC for the wrong labels {auroc_of_wrong_labels:.3f}"))


def summary(run: Run, result: Mapping[str, Any], runs_dir: Path, words: Sequence[str]) -> str:
    """What came out of the stage that a command names, where it lies and what to type next."""
    folder = folder_of(run, runs_dir)
    if "score" in result:
        return score_summary(result, folder)
    loss = filled(result, "  validation hint loss {validation[hint_loss]:.6g}", "  ({hint[reduction]})")
    lines = ["", f"{result['stage']} of {run.net_name}{run.ordered} on {result['dataset']}, seed {result['seed']}"]
    lines += filled(result, *HINT)
    lines += ["".join(loss)] if "hint_loss" in result["validation"] else []
    reached, more = SUMMARY[:3], SUMMARY[3:]
    lines += filled(result, *reached, *([BALANCED] if result["data"]["uneven"] else []), *more)
    lines += [f"  {line}" for line in nothing_learned(result)]
    lines += [f"  lies in              {folder}", f"  next                 {next_command(run, folder, words)}"]
    return "\n".join(lines)


def score_summary(result: Mapping[str, Any], folder: Path) -> str:
    """What a score is worth: how it is spread, and how far it agrees with others of the same data."""
    score = result["score"]
    low, q10, middle, q90, high = score["quantiles_0_10_50_90_100"]
    lines = ["", f"score {score['name']} of {result['dataset']}: higher is harder{trust_text(score)}"]
    lines.append(
        f"  from easiest to hardest  {low:.4g} (10 %: {q10:.4g}, median {middle:.4g}, 90 %: {q90:.4g}) {high:.4g}"
    )
    lines += [f"  rank agreement with      {name}: {value:.3f}" for name, value in score["agreement"].items()]
    if "c_score" not in (score["name"], *score["agreement"]):
        lines.append("  cross-validated score    not computed: type curriculum/score=c_score to compare with it")
    lines += [f"  pictures                 {folder}/media/easiest_hardest.png", f"  lies in                  {folder}"]
    return "\n".join(lines)


def next_command(run: Run, folder: Path, words: Sequence[str]) -> str:
    """A command that goes on from here, with what the user has typed."""
    if not run.next:
        return f'python -c "import fitnets; print(fitnets.load_student({str(folder)!r}))"'
    stage = f"stage={run.next['stage']}"
    kept = [word for word in words if word.partition("=")[0] not in ("fresh", "dry_run")]
    typed = [stage if word.startswith("stage=") else word for word in kept]  # in place: flags come first
    why = f"   ({run.next['why']})" if "why" in run.next else ""
    return shlex.join(["python", "run.py", *(typed if stage in typed else [*typed, stage])]) + why
