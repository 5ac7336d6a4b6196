"""The page: whole, offline, escaped; its figures are those of result.json, its pictures those of the runs."""

import base64
import csv
import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
import yaml
from PIL import Image

import report
from fitnets.report.charts import counted_in, legend_columns
from fitnets.report.comparisons import comparisons_of
from fitnets.report.folders import NoRuns, read
from fitnets.report.page import write_page
from tests.conftest import copied, go

VOID = {"meta", "link", "img", "br", "input", "hr"}
ARMS = {"backprop": "backprop", "kd": "KD", "fitnet": "hint then KD"}


class Page(HTMLParser):
    """Nesting, links, sections, tables and pictures of a page; anything out of order is in `problems`."""

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.sections: list[str] = []
        self.pictures: list[bytes] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.svg: dict[str, str] = {}  # what a figure is about -> its words
        self.raw = path.read_text()
        self.feed(self.raw)
        self.close()
        self.problems += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.links += [given[name] for name in ("src", "href") if name in given]
        self.ids += [given["id"]] if "id" in given else []
        if tag == "section":
            self.sections.append(given["class"])
        if tag == "svg":
            self.about = given["aria-label"]
            self.svg[self.about] = ""
        if tag == "img":
            head, _, data = given["src"].partition(",")
            assert head == "data:image/png;base64" and given["alt"]
            self.pictures.append(base64.b64decode(data))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes something else, line {self.getpos()[0]}")

    def handle_data(self, data):
        if "script" in self.open or "style" in self.open:
            return
        self.text += data
        if "svg" in self.open:
            self.svg[self.about] += data + " "
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def table(self, number: int = 0) -> list[dict[str, str]]:
        head, *lines = self.tables[number]
        return [dict(zip(head, line, strict=True)) for line in lines]


def results(runs_dir: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(runs_dir.glob("*/result.json"))]


def write(runs_dir: Path, **options) -> Page:
    folders = [path.parent for path in sorted(runs_dir.glob("*/result.json"))]
    return Page(write_page(folders, runs_dir / "page.html", options.pop("title", "A page"), [], **options))


def edited(folder: Path, **result) -> dict:
    """The run's result.json with other values."""
    facts = json.loads((folder / "result.json").read_text()) | result
    (folder / "result.json").write_text(json.dumps(facts))
    return facts


@pytest.fixture(scope="module")
def measured(compared, tmp_path_factory) -> Path:
    """A copy of the finished comparison, with a curriculum in its KD runs."""
    runs_dir = tmp_path_factory.mktemp("measured") / "runs"
    copied(compared[1], runs_dir)
    for folder in (path.parent for path in runs_dir.glob("kd-*/metrics.csv")):
        rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
        for i, row in enumerate(rows):
            part = (i + 1) / len(rows)
            low, high = 0.1 * part, 0.9 * part
            row |= {"curriculum/pool_size": 1168 * part, "curriculum/pool_fraction": part}
            row |= {"curriculum/difficulty_mean": (low + high) / 2, "curriculum/difficulty_q10": low}
            row |= {"curriculum/difficulty_q50": 0.5 * part, "curriculum/difficulty_q90": high}
        with open(folder / "metrics.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["curriculum"] = {"name": "easy_first", "score": {"name": "loss"}, "pacing": {"name": "linear"}}
        score = next(runs_dir.glob("backprop-*"))
        config["parents"]["score"] = score.name
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        hardest = Image.open(score / "media" / "hardest.png")
        hardest.transpose(Image.Transpose.ROTATE_180).save(score / "media" / "easiest_hardest.png")
    return runs_dir


@pytest.fixture(scope="module")
def whole(measured: Path) -> Page:
    return write(measured)


def test_a_page_stands_alone_and_is_well_formed(whole: Page) -> None:
    page = whole
    assert page.problems == []
    assert len(page.ids) == len(set(page.ids)) and page.ids, "clip paths and markers"
    referred = set(re.findall(r"url\(#([^)]+)\)", page.raw)) | {link[1:] for link in page.links if link[:1] == "#"}
    assert referred and referred <= set(page.ids)
    assert {link.partition(":")[0] for link in page.links if not link.startswith("#")} == {"data"}
    assert "http" not in page.raw and "@import" not in page.raw
    figures = re.findall(r"<svg .*?</svg>", page.raw)
    assert len(figures) == len(page.svg) > 8
    for figure in figures:
        assert "var(--" in figure
        assert not re.search(r"(?<!, )#[0-9a-f]{6}\b", figure), "a colour stands only as the fallback of the theme's"
    for words in page.svg.values():
        assert len(words) > 20, "text is text"


def test_every_section_is_there_for_a_measured_comparison(whole: Page) -> None:
    page = whole
    assert page.sections == [
        *("headline", "learning", "hints", "cost", "calibration", "confusion", "hardest", "curriculum"),
        *("lineage", "commands"),
    ]  # fmt: skip
    for about in (
        *("Validation accuracy over updates", "validation hint loss over updates", "Accuracy against confidence"),
        *("test accuracy against parameters", "Confusion matrix of KD", "Test accuracy by class"),
        *("Size of the pool over updates", "Difficulty of the pool over updates"),
    ):
        assert about in page.svg
    assert all(arm in page.svg["Validation accuracy over updates"] for arm in (*ARMS.values(), "teacher"))
    assert "mean ± sample standard deviation over seeds (n = 2)" in page.text
    assert page.text.count("scored by backprop-thin_deep") == 4 + 1, "in the lineage of four KD runs, over one picture"


def test_sections_without_data_are_left_out(compared, tmp_path: Path) -> None:
    copied(compared[1], tmp_path / "runs")
    for folder in (path.parent for path in (tmp_path / "runs").glob("*/result.json")):  # as an older version left them
        shutil.rmtree(folder / "media")
        edited(folder, details={})
    assert write(tmp_path / "runs").sections == ["headline", "learning", "hints", "cost", "lineage", "commands"]
    for folder in (tmp_path / "runs").glob("*/config.yaml"):
        config = yaml.safe_load(folder.read_text())
        del config["trainer"]["command"]
        folder.write_text(yaml.safe_dump(config))
    backprop = [path for path in (tmp_path / "runs").glob("backprop-*")]
    page = Page(write_page(backprop, tmp_path / "page.html", "Backprop", []))
    assert page.sections == ["headline", "learning", "cost", "lineage"] and not page.pictures
    assert [row["arm"] for row in page.table()] == ["backprop"] and "agreement %" not in page.table()[0]
    teacher = Page(write_page([next((tmp_path / "runs").glob("teacher-*"))], tmp_path / "page.html", "Teacher", []))
    assert teacher.sections == ["headline", "lineage"]


def test_every_figure_of_the_table_is_result_jsons(measured: Path, whole: Page) -> None:
    """Computed again from the files, by another way."""

    def spread(values):
        return f"{100 * mean(values):.2f}" + (f" ± {100 * stdev(values):.2f}" if len(values) > 1 else "")

    table = whole.table()
    assert [row["arm"] for row in table] == ["teacher", *ARMS.values()]
    found = results(measured)
    base = {r["seed"]: r["test_accuracy"] for r in found if r["stage"] == "backprop"}
    for row, arm in zip(table, ["teacher", *ARMS], strict=True):
        last = [r for r in found if r["arm"] == arm and r["stage"] != "hint"]
        assert row["n"] == str(len(last)) and len(last) == (1 if arm == "teacher" else 2)
        assert row["validation %"] == spread([r["validation"]["accuracy"] for r in last])
        assert row["test %"] == spread([r["test"]["accuracy"] for r in last])
        assert row["ECE %"] == spread([r["test"]["ece"] for r in last])
        assert row["Brier"].startswith(f"{mean(r['test']['brier'] for r in last):.3f}")
        agreement = [r["test"]["agreement"] for r in last if "agreement" in r["test"]]
        assert row["agreement %"] == (spread(agreement) if agreement else "")
        assert row["params"] == counted_in(last[0]["params"])
        assert row["mults"] == counted_in(last[0]["multiplications"])
        every = [r for r in found if r["arm"] == arm]
        assert row["updates"] == f"{sum(r['updates'] for r in every) // len(last):,}"
        assert float(row["seconds"]) == pytest.approx(sum(r["seconds"] for r in every) / len(last), abs=0.051)
        if arm in ("kd", "fitnet"):
            difference = 100 * mean(r["test_accuracy"] - base[r["seed"]] for r in last)
            assert float(row["vs backprop"].partition(" ")[0].replace("−", "-")) == pytest.approx(
                difference, abs=0.0051
            )
        else:
            assert row["vs backprop"] == ""
    hint = [r["validation"] for r in found if r["stage"] == "hint"]
    (row,) = whole.table(1)
    assert row["R2"] == f"{mean(h['r2'] for h in hint):.3f} ± {stdev(h['r2'] for h in hint):.3f}"
    assert float(row["hint loss"].partition(" ")[0]) == pytest.approx(mean(h["hint_loss"] for h in hint), rel=5e-4)


@pytest.mark.parametrize(("count", "told"), [(181258, "181 k"), (15_060_480, "15.1 M"), (934, "934"), (2.5e9, "2.5 G")])
def test_counts_are_told_to_three_digits(count: float, told: str) -> None:
    assert counted_in(count) == told


def test_confusion_and_calibration_are_the_sums_over_seeds(measured: Path, whole: Page) -> None:
    page = whole
    kd = [r for r in results(measured) if r["arm"] == "kd"]
    counts = np.sum([r["details"]["confusion"] for r in kd], axis=0)
    shown = sorted(int(word) for word in page.svg["Confusion matrix of KD"].split() if word.isdigit())
    axes = 2 * list(range(10))
    assert shown == sorted([*counts[counts > 0].tolist(), *axes])
    ece = [100 * r["test"]["ece"] for r in kd]
    assert f"KD, ECE {mean(ece):.2f} ± {stdev(ece):.2f} %" in page.svg["Accuracy against confidence"]


def test_curves_are_metrics_csvs(measured: Path, whole: Page) -> None:
    """The drawn means, in the figure's own units, are a straight function of those in the files."""
    folders = sorted(measured.glob("backprop-*"))
    tables = [list(csv.DictReader((f / "metrics.csv").read_text().splitlines())) for f in folders]
    expected = [100 * mean(float(t[i]["val/accuracy"]) for t in tables) for i in range(len(tables[0]))]
    svg = whole.raw.partition('aria-label="Validation accuracy over updates"')[2].partition("</svg>")[0]
    drawn = [
        [float(point.split()[-1]) for point in re.findall(r"[ML] [-\d.]+ [-\d.]+", path)]
        for path in re.findall(r'<path d="([^"]*)"[^>]*stroke: var\(--s0,[^>]*stroke-width: 1.6', svg)
    ]
    (heights,) = [path for path in drawn if len(path) == len(expected)]
    if len(set(np.round(expected, 6))) > 1:
        assert np.corrcoef(heights, expected)[0, 1] == pytest.approx(-1, abs=1e-6), "down is up in an SVG"
    else:
        assert len(set(heights)) == 1


def test_every_picture_comes_from_a_run(measured: Path, whole: Page) -> None:
    page = whole
    files = {path.read_bytes(): path.name for path in measured.glob("*/media/*.png")}
    shown = [files[picture] for picture in page.pictures]
    assert set(shown) >= {"hint_maps.png", "hardest.png", "disagreed.png"}
    assert len(page.pictures) == 1 + 4 + 2 + 1, "hint maps, hardest, disagreed, easiest and hardest"
    for picture in page.pictures:
        assert np.asarray(Image.open(BytesIO(picture))).std() > 10


def test_titles_and_commands_are_escaped(compared, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "backprop-<b>&"
    copied(next(compared[1].glob("backprop-*")), folder)
    title, command = 'Is 1 < 2 & "so"?', "python run.py 'x=<script>alert(1)</script>'"
    edited(folder, dataset="<i>digits</i>")
    page = Page(write_page([folder], tmp_path / "page.html", title, [command]))
    assert page.problems == [] and page.text.count(title) == 2 and command in page.text
    assert "<script>alert" not in page.raw and "<b>" not in page.raw and "<i>" not in page.raw
    assert folder.name in page.text and "<i>digits</i>" in unescape(page.raw)


def test_the_lineage_and_the_commands_are_those_of_the_folders(compared) -> None:
    runs_dir = compared[1]
    (path,) = (runs_dir / "reports").glob("compare-*/page.html")
    page = Page(path)
    lineage = page.raw.partition('<section class="lineage">')[2].partition("</section>")[0]
    names = re.findall(r"<code>([^<]*)</code>", lineage)
    assert sorted(names) == sorted(path.parent.name for path in runs_dir.glob("*/result.json"))
    for child in runs_dir.glob("kd-*"):
        parents = yaml.safe_load((child / "config.yaml").read_text())["parents"]
        before = lineage[: lineage.index(child.name)]
        above = parents.get("student", parents["teacher"])
        assert above in before
        inside = before[before.index(above) :]
        assert inside.count("<ul>") > inside.count("</ul>"), f"{child.name} hangs below {above}"
    assert "<pre>python run.py</pre>" in page.raw, "what was typed"
    assert page.text.index("Result") < page.text.index("Learning curves") < page.text.index("Lineage")


def test_a_missing_parent_is_told(compared, tmp_path: Path) -> None:
    configs = {f: yaml.safe_load((f / "config.yaml").read_text()) for f in compared[1].glob("kd-*")}
    child = next(folder for folder, config in configs.items() if "student" in config["parents"])
    copied(child, tmp_path / child.name)
    page = Page(write_page([tmp_path / child.name], tmp_path / "page.html", "Alone", []))
    assert "(teacher, student no longer on disk)" in page.text and "hints" not in page.sections


# ---------------------------------------------------------------------------------------------- sweeps


@pytest.fixture(scope="module")
def swept(compared, tmp_path_factory) -> Path:
    """Two temperatures and two pairs of layers of `hint then KD`, made of copies of one finished training."""
    runs_dir = tmp_path_factory.mktemp("swept") / "runs"
    copied(compared[1], runs_dir)
    for folder in [f for f in runs_dir.glob("kd-*") if "kd-" in f.name]:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        if "student" not in config["parents"]:
            shutil.rmtree(folder)
            continue
        for temperature, gain in ((4.0, 0.01), (8.0, -0.01)):
            copy = runs_dir / f"{folder.name}-t{temperature:g}"
            copied(folder, copy)
            config["kd_loss"]["temperature"] = temperature
            (copy / "config.yaml").write_text(yaml.safe_dump(config))
            result = json.loads((copy / "result.json").read_text())
            accuracy = result["validation"]["accuracy"] + gain
            told = 0.1234 * temperature / 4
            test = result["test"] | {"accuracy": told}
            edited(copy, validation=result["validation"] | {"accuracy": accuracy}, test_accuracy=told, test=test)
    return runs_dir


def test_a_sweep_shows_test_for_the_row_chosen_on_validation_alone(swept: Path) -> None:
    page = write(swept)
    rows = {row["temperature"]: row for row in page.table() if row["arm"] == "hint then KD"}
    assert list(rows) == ["3", "4", "8"], "by size"
    assert rows["4"]["test %"].startswith("12.34") and rows["3"]["test %"] == rows["8"]["test %"] == "–"
    assert rows["3"]["agreement %"] == rows["8"]["agreement %"] == "" != rows["4"]["agreement %"]
    assert "24.68" not in page.raw, "nor anywhere else on the page"
    assert "chosen" in page.svg["Validation accuracy against temperature"]
    assert "validation accuracy against parameters" in page.svg, "not test"
    assert "sweep" in page.sections
    fixed = write(swept, fixed_rows=True)
    assert [row["test %"][:5] for row in fixed.table() if row["arm"] == "hint then KD"][1:] == ["12.34", "24.68"]


@pytest.mark.slow
def test_pairs_of_layers_are_a_heat_map(swept: Path, tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    copied(swept, runs_dir)
    for folder in runs_dir.glob("hint-*"):
        copy = runs_dir / f"{folder.name}-conv1"
        copied(folder, copy)
        result = json.loads((copy / "result.json").read_text())
        edited(copy, hint=result["hint"] | {"hint_layer": "conv1"}, validation={"hint_loss": 1.0, "r2": 0.987})
        for child in runs_dir.glob("kd-*-t4"):
            config = yaml.safe_load((child / "config.yaml").read_text())
            if config["parents"]["student"] == folder.name:
                other = runs_dir / f"{child.name}-conv1"
                copied(child, other)
                config["parents"]["student"] = copy.name
                (other / "config.yaml").write_text(yaml.safe_dump(config))
                facts = json.loads((other / "result.json").read_text())
                edited(other, validation=facts["validation"] | {"accuracy": 0.901})
    page = write(runs_dir)
    assert "0.987" in page.svg["validation R2 by pair of layers"]
    words = page.svg["validation accuracy % by pair of layers"]
    assert "90.1" in words and "conv1" in words and "conv2" in words
    (row,) = [row for row in page.table() if row["test %"].startswith("12.34")]
    assert row["hint ← guided"].startswith("conv1 ← ") and row["temperature"] == "4"


def test_runs_that_differ_in_the_seed_alone_are_one_row_and_an_older_twin_is_left_out(compared, tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    copied(compared[1], runs_dir)
    old = next(runs_dir.glob("backprop-*"))
    copied(old, runs_dir / f"{old.name}-new")
    edited(runs_dir / f"{old.name}-new", test_accuracy=0.5)
    (comparison,) = comparisons_of(read([path.parent for path in sorted(runs_dir.glob("*/result.json"))]))
    assert comparison.repeated == 1 and [len(row.runs) for row in comparison.students] == [2, 2, 2]
    backprop = comparison.students[0]
    assert [run.name.endswith("-new") for run in backprop.runs].count(True) == 1
    assert "1 older run(s)" in write(runs_dir).text


# -------------------------------------------------------------------------------------------- the door


@pytest.mark.slow
def test_other_labels_are_a_problem_of_their_own(compared, tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    copied(compared[1], runs_dir)
    for folder in list(runs_dir.glob("backprop-*")):
        few = runs_dir / f"{folder.name}-few"
        copied(folder, few)
        edited(few, labels=50, test_accuracy=0.5)
    page = write(runs_dir)
    assert page.problems == [] and page.sections.count("headline") == 2
    assert len(page.ids) == len(set(page.ids)), "figures of two problems have names of their own"
    assert re.findall("<h2>(.*)</h2>", page.raw) == ["digits, all labels", "digits, 50 labels", "Runs"]
    lengths = [len(table) for table in page.tables]
    assert lengths == [5, 2, 11, 2, 11], "four rows, the hint stage, classes; the other problem and its"


@pytest.mark.slow
def test_report_py_of_all_runs_and_of_some(compared, tmp_path: Path, capsys) -> None:
    runs_dir = compared[1]
    out = tmp_path / "new" / "page.html"
    assert report.main(["--runs-dir", str(runs_dir), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out and len(Page(out).table()) == 4
    name = next(runs_dir.glob("backprop-*")).name
    assert report.main([name, "--runs-dir", str(runs_dir), "--out", str(out), "--title", "One"]) == 0
    page = Page(out)
    assert [row["arm"] for row in page.table()] == ["backprop"] and "One" in page.text


def test_bad_words_are_one_error_that_says_what_to_type(compared, tmp_path: Path, capsys) -> None:
    def refused(*words: str) -> str:
        assert report.main([*words, "--out", str(tmp_path / "page.html")]) == 2
        assert not (tmp_path / "page.html").exists()
        return capsys.readouterr().err

    (tmp_path / "empty").mkdir()
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(next(compared[1].glob("backprop-*")) / "config.yaml", half)
    assert "holds no finished run; `python run.py` makes some" in refused("--runs-dir", str(tmp_path))
    told = refused(str(tmp_path / "empty"), str(tmp_path / "nowhere"), str(half))
    assert "empty is no run" in told and "nowhere is no folder" in told and "half is not finished" in told
    assert "scripts/runs.py" in told and "Traceback" not in told
    with pytest.raises(NoRuns, match="no run was given"):
        write_page([], tmp_path / "page.html", "Nothing", [])


def test_a_single_seed_and_a_lone_hint_stage_have_their_page(small, tmp_path: Path) -> None:
    cfg = small("stage=fitnet", "epochs.teacher=1", "epochs.hint=1", "epochs.kd=1")
    go(cfg, "stage=fitnet")
    runs_dir = Path(cfg["runs_dir"])
    page = write(runs_dir)
    assert page.problems == [] and "one seed, no spread" in page.text and "±" not in page.table()[-1]["test %"]
    assert "python run.py stage=fitnet" in page.text, "kept in the run folders"
    hint = Page(write_page(list(runs_dir.glob("hint-*")), tmp_path / "hint.html", "Hint", []))
    assert [name for name in hint.sections if name in ("hints", "learning", "lineage")] == ["hints", "lineage"]


# --------------------------------------------------------------------------------------------- Chromium


def chromium() -> str | None:
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in found if path), None)


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="no Chromium on PATH (.ci/run installs it)")
def test_it_renders_on_a_desk_and_a_phone_in_light_and_dark(measured: Path, tmp_path: Path) -> None:
    folders = [path.parent for path in sorted(measured.glob("*/result.json"))]
    path = write_page(folders, tmp_path / "page.html", "Rendered", ["python run.py " + "a_long_word" * 30])
    told = "[innerWidth, document.documentElement.scrollWidth, document.querySelectorAll('button').length]"
    probe, frame = tmp_path / "probe.html", tmp_path / "frame.html"  # a window itself is 500 pixels wide at the least
    probe.write_text(path.read_text().replace("</body>", f"<script>parent.postMessage({told}, '*')</script></body>"))

    def run(page: Path, width: int, dark: bool, *options: str) -> str:
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        words = [
            *(chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--no-first-run", "--hide-scrollbars", f"--user-data-dir={tmp_path}/profile", scheme),
            *(f"--window-size={width},3000", *options, page.as_uri()),
        ]
        return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout

    frames = "".join(
        f'<iframe width="{w}" height="3000" style="border: 0" src="probe.html"></iframe>' for w in (390, 1280)
    )
    listen = "<title></title><script>onmessage = event => document.title += event.data + ';'</script>"
    frame.write_text(listen + frames)
    dumped = run(frame, 1800, False, "--dump-dom", "--virtual-time-budget=3000")
    answers = re.search(r"<title>([\d,;]+);</title>", dumped)[1].split(";")
    told_by = {int(sizes.split(",")[0]): sizes for sizes in answers}
    for width in (390, 1280):
        inner, scrolled, buttons = map(int, told_by[width].split(","))
        assert inner == width and scrolled <= width, f"{scrolled} pixels wide in a window of {inner}"
        assert buttons == len(Page(path).svg), "the page's own script ran"
        for dark in (False, True):
            file = tmp_path / f"{width}-{dark}.png"
            run(path, width, dark, f"--screenshot={file}")
            pixels = np.asarray(Image.open(file).convert("RGB")).astype(int)
            assert pixels.shape == (3000, width, 3)
            paper = pixels[2, 2]
            assert (paper.max() < 50) if dark else (paper.min() > 250)
            drawn = (abs(pixels - paper).max(2) > 40).mean(1) > 0.005
            assert drawn.reshape(10, 300).any(1).all(), "there is something to see in every part of the page"
            colours = pixels.max(2) - pixels.min(2)
            assert (colours > 100).sum() > 300, "lines in colour"


@pytest.mark.parametrize("lengths", [[13] * 5, [3, 30, 3, 3], [8], [20] * 9])
def test_a_legend_stays_within_its_chart(lengths: list[int]) -> None:
    """Its columns as matplotlib fills them, the first ones with one entry more."""
    columns = legend_columns(lengths, 330)
    widths = [28 + 4.6 * max(column) for column in np.array_split(lengths, columns)]
    assert columns == 1 or sum(widths) < 330
