"""One self-contained HTML page from finished runs: what came out, how it got there, and what made it.

Every figure on it is read from the run folders; it loads nothing from anywhere and opens offline.
"""

import itertools
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from fitnets.report.folders import Folder, read, with_ancestors
from fitnets.report.grouping import Problem, problems_of
from fitnets.report.headline import headline, lineage, made_by
from fitnets.report.testing import calibration, confusion, cost, hardest
from fitnets.report.training import curriculum, hints, learning, sweep

TEMPLATE = Path(__file__).with_name("page.html")
SECTIONS = (headline, sweep, learning, hints, cost, calibration, confusion, hardest, curriculum)


def write_page(
    folders: Sequence[Path], out: Path, title: str, commands: Sequence[str], fixed_rows: bool = False
) -> Path:
    """Write the page of these finished runs to `out`, and return its path.

    What the runs started from comes with them: teachers, hint stages, the lineage. `commands` are shown as those that
    made the runs, before those that the folders have kept. Rows of one arm with several settings are a sweep: one is
    chosen on validation, and the test figures of the others are not shown, unless `fixed_rows` says that all were
    fixed in advance. Raises NoRuns, which says what to type, where a folder holds no finished run.
    """
    given = read(folders)
    family = with_ancestors(given)
    problems = problems_of(given, fixed_rows)
    hidden = {run.name for problem in problems for row in problem.rows if not row.shown for run in row.runs}
    labels = {run.name: row.label for problem in problems for row in problem.students for run in row.runs}
    body = [of_problem(problem) for problem in problems]
    body += ["<h2>Runs</h2>", lineage(family, hidden, labels), made_by(family, commands)]
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        about=about(given, family),
        body=distinct("\n".join(part for part in body if part)),
        made_with=escape(made_with(family)),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.partial")
    partial.write_text(page, encoding="utf-8")
    return partial.replace(out)


def of_problem(problem: Problem) -> str:
    found = [part for part in (make(problem) for make in SECTIONS) if part]
    return "\n".join([f"<h2>{escape(problem.title)}</h2>", *found])


def distinct(body: str) -> str:
    """The same with names inside a figure made different from those in another."""
    number = itertools.count(1)

    def each(figure: re.Match[str]) -> str:
        prefix = rf"\g<1>f{next(number)}-"
        return re.sub(r'( id="|href="#|url\(#)', prefix, figure[0])

    return re.sub(r"<svg .*?</svg>", each, body, flags=re.DOTALL)


def about(given: Sequence[Folder], family: Sequence[Folder]) -> str:
    """What was trained from what on which data, in a line of facts."""
    facts = []
    for word, key in (("student", "student"), ("teacher", "teacher")):
        names = dict.fromkeys(run.result[key] for run in family if run.result[key])
        facts.append((word + ("s" if len(names) > 1 else ""), ", ".join(names)))
    data: dict[str, None] = {}
    for run in given:
        shape, classes = run.config["data"]["input_shape"], run.config["data"]["num_classes"]
        labels = run.result["labels"]
        seen = "all labels" if labels == "all" else f"{labels} labels"
        data[f"{run.result['dataset']} ({'×'.join(map(str, shape))}, {classes} classes, {seen})"] = None
    facts.append(("data", "; ".join(data)))
    seeds = sorted({run.seed for run in given if run.is_student or run.config["stage"] == "hint"})
    facts.append(("seeds", ", ".join(map(str, seeds))))
    return "".join(f"<div><dt>{word}</dt><dd>{escape(told)}</dd></div>" for word, told in facts if told)


def made_with(family: Sequence[Folder]) -> str:
    """The versions and the hardware that the runs name."""
    versions: dict[str, dict[str, None]] = {}
    where: dict[str, None] = {}
    for run in family:
        for package, version in run.result["versions"].items():
            versions.setdefault(package, {})[version] = None
        place = run.result["hardware"]
        threads = f", {place['threads']} thread(s)" if place["device"] == "cpu" else ""
        where[f"{place['name']}{threads}"] = None
    told = ", ".join(f"{package} {' and '.join(found)}" for package, found in versions.items())
    return f"{len(family)} runs. {told}. Trained on: {'; '.join(where)}."
