"""One self-contained HTML page from finished runs: tables, curves, lineage and commands. It opens offline.

python scripts/report.py                                   every finished run under runs/
python scripts/report.py runs/kd-*-s0-* runs/backprop-*    these; what they started from comes with them
python scripts/report.py --runs-dir elsewhere --out page.html

A RUN_FOLDER is a path, or the name of a folder under the runs_dir. Imports no torch.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from fitnets.files import StorageError  # noqa: E402
from fitnets.report.folders import NoRuns, finished_in  # noqa: E402
from fitnets.report.page import write_page  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, help="default: reports/page.html under the runs_dir")
    parser.add_argument("--title", default="FitNets: what was trained")
    given = parser.parse_args(arguments)
    try:
        folders = [folder_named(name, given.runs_dir) for name in given.folders] or finished_in(given.runs_dir)
        page = write_page(folders, given.out or given.runs_dir / "reports" / "page.html", given.title, [])
    except (NoRuns, StorageError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, NoRuns) else 1
    print(f"Page of {len(folders)} runs: {page}")
    return 0


def folder_named(name: Path, runs_dir: Path) -> Path:
    """A path as it stands, or else a folder of that name under the runs_dir."""
    return name if name.exists() or not (runs_dir / name).exists() else runs_dir / name


if __name__ == "__main__":
    sys.exit(main())
