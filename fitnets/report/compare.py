"""The table and the plot of stage=compare, from the results on disk."""

import csv
import hashlib
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from fitnets.report.arms import ARM_NAMES, COLORS, FIRST_STAGES, paired_difference, versus
from fitnets.report.folders import metrics_in
from fitnets.report.page import write_page
from fitnets.runs import Run, folder_of


@dataclass(frozen=True)
class Row:
    """One arm over seeds. Accuracies and differences are fractions of the test part."""

    arm: str
    accuracy_mean: float
    accuracy_sd: float | None  # sample standard deviation; None with n = 1
    n: int
    difference: float | None  # mean paired difference to the baseline
    difference_ci: float | None  # half width of its 95 % t-interval
    params: int
    multiplications: int
    updates: int
    seconds: float  # mean a seed: hint and KD stages together, without the teacher


def arms_of(cfg: dict[str, Any]) -> list[str]:
    return cfg["stage"]["orders"] if cfg["stage"]["name"] == "controls" else cfg["stage"]["arms"]


def baseline_of(arms: list[str]) -> str:
    """The arm that the others are held against: plain shuffles among a curriculum's controls, else backprop."""
    return next((arm for arm in ("iid", "random") if arm in arms), "backprop")


def rows(named: list[Run], results: dict[str, dict[str, Any]], arms: list[str]) -> list[Row]:
    """A row per arm; the last stage of a seed gives the accuracy, all its stages the updates and seconds."""
    accuracy: dict[str, dict[int, float]] = {arm: {} for arm in arms}
    updates: dict[str, dict[int, int]] = {arm: {} for arm in arms}
    seconds: dict[str, dict[int, float]] = {arm: {} for arm in arms}
    cost: dict[str, tuple[int, int]] = {}
    for run in named:
        result, arm = results[run.fingerprint], run.column
        updates[arm][run.seed] = updates[arm].get(run.seed, 0) + result["updates"]
        seconds[arm][run.seed] = seconds[arm].get(run.seed, 0.0) + result["seconds"]
        if run.stage not in FIRST_STAGES:
            accuracy[arm][run.seed] = result["test_accuracy"]
            cost[arm] = (result["params"], result["multiplications"])
    table = []
    for arm in arms:
        values = accuracy[arm]
        difference = half = None
        baseline = baseline_of(arms)
        if arm != baseline and baseline in accuracy:
            difference, half = paired_difference(values, accuracy[baseline])
        sd = stdev(values.values()) if len(values) > 1 else None
        table.append(
            Row(
                arm,
                mean(values.values()),
                sd,
                len(values),
                difference,
                half,
                *cost[arm],
                max(updates[arm].values()),
                mean(seconds[arm].values()),
            )
        )
    return table


def report(
    cfg: dict[str, Any],
    named: list[Run],
    results: dict[str, dict[str, Any]],
    runs_dir: Path,
    console: Any,
    overrides: list[str],
) -> None:
    """Print the table; write it, the plot and the page under runs_dir/reports/."""
    table = rows(named, results, arms_of(cfg))
    teachers = [r for run in named for r in [run.parents.get("teacher")] if r and r.spec["epochs"]]
    teacher = results[teachers[0].fingerprint] if teachers else None
    key = hashlib.sha256("".join(sorted(run.fingerprint for run in named)).encode()).hexdigest()[:10]
    folder = runs_dir / "reports" / f"{cfg['stage']['name']}-{cfg['student']['name']}-{cfg['dataset']['name']}-{key}"
    folder.mkdir(parents=True, exist_ok=True)

    text = markdown(cfg, table, teacher, overrides)
    (folder / "table.md").write_text(text)
    with open(folder / "table.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(table[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in table)
    plot(cfg, named, teacher, runs_dir, folder / "curves.png")
    folders = [folder_of(run, runs_dir) for run in named]
    command = shlex.join(["python", "run.py", *overrides])
    page = write_page(folders, folder / "page.html", heading(cfg), [command], fixed_rows=True)  # arms are fixed before
    print_table(cfg, table, teacher, console)
    console.print(f"\nTable: {folder}/table.md   plot: {folder}/curves.png   runs: {runs_dir}/ (scripts/runs.py)")
    console.print(f"Page with everything, for a browser: {page}")


def heading(cfg: dict[str, Any]) -> str:
    labels = cfg["dataset"]["labels"]
    of = "all labels" if labels == "all" else f"{labels} labels"
    noise = f", {cfg['dataset']['label_noise']:.0%} wrong labels" if cfg["dataset"].get("label_noise") else ""
    if cfg["stage"]["name"] == "controls":
        curriculum, arm = cfg["curriculum"], ARM_NAMES[cfg["stage"]["arm"]]
        balanced = ", balanced" if curriculum["balanced"] else ""
        by = f"score {curriculum['score']['name']}, pacing {curriculum['pacing']['name']}{balanced}"
        return f"{cfg['student']['name']} by {arm} on {cfg['dataset']['name']}, {of}{noise}, {by}"
    nets = f"{cfg['student']['name']} from {cfg['teacher']['name']} on {cfg['dataset']['name']}"
    return f"{nets}, {of}{noise}, init {cfg['init']['name']}"


def notes(cfg: dict[str, Any]) -> str:
    """What makes the arms comparable, in a line."""
    optimizer = cfg["optimizer"]["_target_"].rpartition(".")[2]
    labels = cfg["dataset"]["labels"]
    patience = cfg["patience"]
    updates = f"UNEQUAL UPDATES (patience {patience})" if patience else "same number of updates"
    few = "" if labels == "all" else f"; backprop: {min(labels, cfg['batch_size'])} of the labelled images"
    return (
        f"All arms: same initial weights a seed, {updates}, one set of hyper-parameters ({optimizer}, "
        f"lr {cfg['optimizer']['lr']}, {cfg['lr_schedule']}, batch {cfg['batch_size']}{few}); "
        f"weights tested: {'best on validation' if cfg['keep'] == 'best' else 'the last'}. "
        f"± is the sample sd over seeds, with one teacher and one split; "
        f"differences are paired by seed, with a 95 % t-interval."
    )


HEADER = ("arm", "test accuracy %", "n", "vs {}", "parameters", "multiplications", "updates", "seconds")


def baseline_name(cfg: dict[str, Any]) -> str:
    return ARM_NAMES[baseline_of(arms_of(cfg))]


def cells(row: Row) -> tuple[str, ...]:
    spread = "" if row.accuracy_sd is None else f" ± {100 * row.accuracy_sd:.2f}"
    return (
        ARM_NAMES[row.arm],
        f"{100 * row.accuracy_mean:.2f}{spread}",
        str(row.n),
        versus(row.difference, row.difference_ci),
        f"{row.params:,}",
        f"{row.multiplications:,}",
        f"{row.updates:,}",
        f"{row.seconds:.1f}",
    )


def teacher_cells(teacher: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"teacher ({teacher['teacher']})",
        f"{100 * teacher['test_accuracy']:.2f}",
        "1",
        "",
        f"{teacher['params']:,}",
        f"{teacher['multiplications']:,}",
        f"{teacher['updates']:,}",
        f"{teacher['seconds']:.1f}",
    )


def all_cells(table: list[Row], teacher: dict[str, Any] | None) -> list[tuple[str, ...]]:
    return ([teacher_cells(teacher)] if teacher else []) + [cells(row) for row in table]


def print_table(cfg: dict[str, Any], table: list[Row], teacher: dict[str, Any] | None, console: Any) -> None:
    """The same table, narrow enough for a terminal: costs in millions."""
    lines: list[tuple[str, ...]] = [
        ("arm", "test acc. %", "n", f"vs {baseline_name(cfg)}", "params", "mults", "updates", "seconds")
    ]
    for line in all_cells(table, teacher):
        arm, *figures, params, mults, updates, seconds = line
        millions = [f"{int(count.replace(',', '')) / 1e6:.2f} M" for count in (params, mults)]
        lines.append((arm.partition(" (")[0], *figures, *millions, updates, seconds))
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    console.print(f"\n{heading(cfg)}\n")
    for arm, *figures in lines:
        numbers = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
        console.print("  ".join([arm.ljust(widths[0]), *numbers]))
    console.print(f"\n{notes(cfg)}")


def markdown(cfg: dict[str, Any], table: list[Row], teacher: dict[str, Any] | None, overrides: list[str]) -> str:
    lines = [f"**{heading(cfg)}** (`{shlex.join(['python', 'run.py', *overrides])}`)", ""]
    header = [column.format(baseline_name(cfg)) for column in HEADER]
    lines += ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(HEADER) - 1)]
    lines += ["| " + " | ".join(line) + " |" for line in all_cells(table, teacher)]
    return "\n".join([*lines, "", notes(cfg), ""])


# --------------------------------------------------------------------------------------------- plot


def plot(cfg: dict[str, Any], named: list[Run], teacher: dict[str, Any] | None, runs_dir: Path, path: Path) -> None:
    """Validation accuracy of the arms against updates (mean, and mean ± sd over seeds), and the hint loss."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    accuracy, hint = figure.subplots(1, 2, width_ratios=(3, 2))
    for arm in arms_of(cfg):
        runs = [run for run in named if run.column == arm and run.stage not in FIRST_STAGES]
        _band(accuracy, runs, runs_dir, "val/accuracy", COLORS[arm], ARM_NAMES[arm], scale=100)
    if teacher:
        level = 100 * teacher["validation"]["accuracy"]
        accuracy.axhline(level, color="black", linestyle="--", linewidth=1, label=f"teacher {level:.1f}")
    accuracy.set(xlabel="updates of the student", ylabel="validation accuracy (%)")
    accuracy.set_title(heading(cfg), fontsize=10)
    accuracy.legend(frameon=False)
    hints = [run for run in named if run.stage == "hint" and run.column in ("fitnet", "iid")]
    if hints:
        _band(hint, hints, runs_dir, "val/hint_loss", COLORS["fitnet"], "hint stage")
        hint.set(xlabel="updates of the student", ylabel=f"validation hint loss ({cfg['hint']['reduction']})")
        hint.set_title(
            f"hint: {cfg['hint']['student_layer']} (student) to {cfg['hint']['teacher_layer']} (teacher)",
            fontsize=10,
        )
    else:
        hint.set_visible(False)
    for axes in (accuracy, hint):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=150)


def _band(axes: Any, runs: list[Run], runs_dir: Path, column: str, color: str, label: str, scale: float = 1) -> None:
    curves = []
    for run in (run.parents.get("found", run) for run in runs):  # a retraining has no validation of its own
        offset = 0.0
        if "hint" in run.parents:  # a KD stage goes on where its hint stage ended
            offset = metrics_in(folder_of(run.parents["hint"], runs_dir))[-1]["updates"]
        history = metrics_in(folder_of(run, runs_dir))
        curves.append([(offset + row["updates"], scale * row[column]) for row in history])
    length = min(len(curve) for curve in curves)  # with patience they differ
    updates = [point[0] for point in curves[0][:length]]
    values = [[curve[i][1] for curve in curves] for i in range(len(updates))]
    middle = [mean(v) for v in values]
    axes.plot(updates, middle, color=color, label=label)
    if len(curves) > 1:
        spread = [stdev(v) for v in values]
        low = [m - s for m, s in zip(middle, spread, strict=True)]
        high = [m + s for m, s in zip(middle, spread, strict=True)]
        axes.fill_between(updates, low, high, color=color, alpha=0.2, linewidth=0)
