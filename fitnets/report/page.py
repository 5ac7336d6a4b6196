"""One self-contained HTML page from finished runs: what came out, how it got there, and what made it.

Every figure on it is read from the run folders; it loads nothing from anywhere and opens offline.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fitnets.files import folder_at, write
from fitnets.report import predictions, sections
from fitnets.report.comparisons import Comparison, comparisons_of
from fitnets.report.folders import Folder, joined, read, with_ancestors
from fitnets.report.html import PARTS, TEMPLATES, headline, lineage, made_by, section

SECTIONS: dict[str, Callable[[Comparison], str]] = {
    "Result": headline,
    "What was swept": sections.sweep,
    "Learning curves": sections.learning,
    "Hint stage": sections.hints,
    "Accuracy against cost": sections.cost,
    "Calibration": predictions.calibration,
    "Confusion": predictions.confusion,
    "Hardest images": predictions.hardest,
    "Curriculum": sections.curriculum,
}


def write_page(
    folders: Sequence[Path],
    out: Path,
    title: str,
    commands: Sequence[str],
    fixed_rows: bool = False,
    arms: Mapping[str, str] | None = None,
) -> Path:
    """Write the page of these finished runs, and of what they started from, to `out`, and return its path.

    `commands` are named as those that made the runs, before those that the folders have kept. Of rows of one arm with
    several settings one is chosen on validation, and the test figures of the others are not looked at, unless
    `fixed_rows` says that all were fixed in advance. `arms`: an arm's title by a folder's name, for runs that another
    command trained first. Raises NoRuns, which says what to type, where a folder holds no finished run.
    """
    given = read(folders)
    family = with_ancestors(given)
    comparisons = comparisons_of(given, fixed_rows, arms)
    rows = [row for comparison in comparisons for row in comparison.rows]
    hidden = {run.name for row in rows if not row.chosen for run in row.runs}
    labels = {run.name: row.label for comparison in comparisons for row in comparison.students for run in row.runs}
    page = TEMPLATES.get_template("page.html").render(
        title=title,
        about=about(given, family),
        comparisons=[{"title": each.title, "sections": sections_of(each)} for each in comparisons],
        lineage=lineage(family, hidden, labels),
        commands=made_by(family, commands),
        made_with=made_with(family),
    )
    folder_at(out.parent)
    write(out, page)
    return out


def sections_of(comparison: Comparison) -> str:
    """Every section that has something to say; one that fails says why and costs the others nothing."""
    found = []
    for title, make in SECTIONS.items():
        try:
            found.append(make(comparison))
        except Exception as error:
            found.append(section("failed", title, PARTS.failed(f"{type(error).__name__}: {error}")))
    return Markup("\n").join(each for each in found if each)


def about(given: Sequence[Folder], family: Sequence[Folder]) -> dict[str, str]:
    """What was trained from what on which data, by its term."""
    terms = {"student": joined(run.result["student"] for run in family)}
    terms["teacher"] = joined(run.result["teacher"] for run in family)
    data = []
    for run in given:
        size, classes = "×".join(map(str, run.config["data"]["input_shape"])), run.config["data"]["num_classes"]
        data.append(f"{run.result['dataset']} ({size}, {classes} classes, {run.labels_text})")
    terms["data"] = joined(data, "; ")
    terms["images"] = joined((images_text(run.result["data"]) for run in given), "; ")
    notes = (note for run in given for note in [*run.result["data"]["notes"], *run.nothing_learned])
    terms["notes"] = joined(notes, "; ")
    terms["seeds"] = joined(sorted({run.config["seed"] for run in given if run.of_student}))
    return terms


def images_text(found: Mapping[str, Any]) -> str:
    """How many images each part has, and what the files were as far as there are any."""
    parts = ", ".join(f"{found[part]:,} {part}" for part in ("train", "validation", "test"))
    return ", ".join([parts, *found["files"].get("said", [])])


def made_with(family: Sequence[Folder]) -> str:
    """The versions and the hardware that the runs name."""
    versions: dict[str, list[str]] = {}
    machines = []
    for run in family:
        for package, version in run.result["versions"].items():
            versions.setdefault(package, []).append(version)
        hardware = run.result["hardware"]
        threads = f", {hardware['threads']} thread(s)" if hardware["device"] == "cpu" else ""
        machines.append(hardware["name"] + threads)
    packages = joined(f"{package} {joined(found, ' and ')}" for package, found in versions.items())
    return f"{len(family)} runs. {packages}. Trained on: {joined(machines, '; ')}."
