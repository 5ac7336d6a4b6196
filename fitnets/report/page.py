"""One self-contained HTML page from finished runs: what came out, how it got there, and what made it.

Every figure on it is read from the run folders; it loads nothing from anywhere and opens offline.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from fitnets.report import sections
from fitnets.report.comparisons import Comparison, comparisons_of
from fitnets.report.folders import Folder, joined, read, with_ancestors
from fitnets.report.html import headline, lineage, made_by, section

TEMPLATE = Path(__file__).with_name("page.html")
SECTIONS: dict[str, Callable[[Comparison], str]] = {
    "Result": headline,
    "What was swept": sections.sweep,
    "Learning curves": sections.learning,
    "Hint stage": sections.hints,
    "Accuracy against cost": sections.cost,
    "Calibration": sections.calibration,
    "Confusion": sections.confusion,
    "Hardest images": sections.hardest,
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
    body = [sections_of(comparison) for comparison in comparisons]
    body += ["<h2>Runs</h2>", lineage(family, hidden, labels), made_by(family, commands)]
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title), about=about(given, family), body="\n".join(body), made_with=escape(made_with(family))
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.partial")
    partial.write_text(page, encoding="utf-8")
    return partial.replace(out)


def sections_of(comparison: Comparison) -> str:
    """Every section that has something to say; one that fails says why and costs the others nothing."""
    found = [f"<h2>{escape(comparison.title)}</h2>"]
    for title, make in SECTIONS.items():
        try:
            found.append(make(comparison))
        except Exception as error:
            warning = escape(f"This section could not be made: {type(error).__name__}: {error}")
            found.append(section("failed", title, f'<p class="warning">{warning}</p>'))
    return "\n".join(each for each in found if each)


def about(given: Sequence[Folder], family: Sequence[Folder]) -> str:
    """What was trained from what on which data, as a list of terms."""
    terms = {"student": joined(run.result["student"] for run in family)}
    terms["teacher"] = joined(run.result["teacher"] for run in family)
    data = []
    for run in given:
        size, classes = "×".join(map(str, run.config["data"]["input_shape"])), run.config["data"]["num_classes"]
        data.append(f"{run.result['dataset']} ({size}, {classes} classes, {run.labels_text})")
    terms["data"] = joined(data, "; ")
    terms["seeds"] = joined(sorted({run.config["seed"] for run in given if run.of_student}))
    return "".join(f"<div><dt>{term}</dt><dd>{escape(text)}</dd></div>" for term, text in terms.items() if text)


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
