"""List the runs under a runs_dir with their lineage, or remove some.

python scripts/runs.py                                 every run, children below what they start from
python scripts/runs.py --runs-dir elsewhere
python scripts/runs.py --remove NAME [NAME ...]        these runs; NAME may be the start of a folder's name
python scripts/runs.py --remove NAME --with-children   and everything that was trained from them
python scripts/runs.py --remove-answers                the teachers' cached answers (they are computed again)
python scripts/runs.py --remove-set-aside              what was found broken, and set aside
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from fitnets.files import SET_ASIDE, read_config, read_json  # noqa: E402
from fitnets.report.folders import ABOVE, REACHED, TESTED, filled  # noqa: E402


def found_runs(runs_dir: Path) -> dict[str, dict[str, Any]]:
    """Finished and half-finished runs by folder name: what result.json, or else config.yaml, says of them."""
    runs = {}
    for folder in sorted(path.parent for path in runs_dir.glob("*/config.yaml")):
        try:
            parents = {str(role): str(parent) for role, parent in read_config(folder)["parents"].items()}
            result = read_json(folder / "result.json") or {}
            outcome(result)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            print(f"{folder.name} is left out, it is no run: {type(error).__name__} {error}", file=sys.stderr)
            continue
        runs[folder.name] = {"parents": parents, "result": result}
    return runs


def nearest_parent(runs: dict[str, dict[str, Any]], child: str) -> str | None:
    """The run on disk that it is shown below: a KD stage after a hint hangs below the hint."""
    parents = runs[child]["parents"]
    return next((parents[role] for role in (*ABOVE, *parents) if parents.get(role) in runs), None)


def outcome(result: dict[str, Any]) -> str:
    return "  ".join(filled(result, TESTED) or filled(result, *REACHED)) if result else "half-finished"


def show(runs: dict[str, dict[str, Any]]) -> None:
    """A line a run, its children below it."""
    below: dict[str | None, list[str]] = {}
    for name in runs:
        below.setdefault(nearest_parent(runs, name), []).append(name)

    def tell(name: str, depth: int) -> None:
        result = runs[name]["result"]
        labels, order = result.get("labels", "all"), result.get("curriculum", "none")
        more = "" if labels == "all" else f"  {labels} labels"
        more += "" if order == "none" else f"  {order}"
        print(f"{'  ' * depth}{name:{60 - 2 * depth}} {outcome(result)}{more}")
        for child in below.get(name, []):
            tell(child, depth + 1)

    for root in below.get(None, []):
        tell(root, 0)


def remove(runs_dir: Path, runs: dict[str, dict[str, Any]], names: list[str], with_children: bool) -> int:
    """Remove runs; refuses, and removes nothing, if a name fits no run or a run still has children."""
    chosen: list[str] = []
    for given in names:
        fitting = [name for name in runs if name.startswith(given)]
        if len(fitting) != 1:
            known = ", ".join(fitting or runs) or "none"
            print(f"{given!r} fits {len(fitting)} runs, it must fit one; runs: {known}", file=sys.stderr)
            return 2
        chosen += fitting
    everything = list(dict.fromkeys(chosen))
    for name in everything:
        children = [child for child, run in runs.items() if name in run["parents"].values()]
        everything += [child for child in children if child not in everything]
    if len(everything) > len(set(chosen)) and not with_children:
        left = ", ".join(sorted(set(everything) - set(chosen)))
        print(f"these were trained from them: {left}; type --with-children to remove all", file=sys.stderr)
        return 2
    from filelock import FileLock, Timeout

    (runs_dir / ".locks").mkdir(exist_ok=True)
    for name in everything:
        try:
            with FileLock(runs_dir / ".locks" / f"{name}.lock", timeout=0):
                shutil.rmtree(runs_dir / name)
        except Timeout:
            print(f"{name} is being trained by another process; it and what follows is left", file=sys.stderr)
            return 2
        print(f"removed {name}")
    return 0


def kept_answers(runs_dir: Path) -> list[Path]:
    return sorted((runs_dir / ".answers").glob("*.npy"))


def remove_answers(runs_dir: Path) -> int:
    """Remove cached answers; a training that reads them has its own copy or keeps the file open."""
    from filelock import FileLock, Timeout

    for file in kept_answers(runs_dir):
        try:
            with FileLock(file.with_suffix(".lock"), timeout=0):
                size = file.stat().st_size
                file.unlink()
                file.with_suffix(".json").unlink(missing_ok=True)
        except Timeout:
            print(f"{file.name} is being filled by another process and is left", file=sys.stderr)
            continue
        print(f"removed {file.name} ({size / 2**20:.1f} MiB)")
    return 0


def set_aside_in(runs_dir: Path) -> list[Path]:
    return sorted([*runs_dir.glob(f"{SET_ASIDE}/*"), *runs_dir.glob(f".answers/{SET_ASIDE}/*")])


def remove_set_aside(runs_dir: Path) -> int:
    for path in set_aside_in(runs_dir):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        print(f"removed {path.relative_to(runs_dir)}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--remove", nargs="+", metavar="NAME", default=[])
    parser.add_argument("--with-children", action="store_true")
    parser.add_argument("--remove-answers", action="store_true")
    parser.add_argument("--remove-set-aside", action="store_true")
    given = parser.parse_args()
    if given.remove_set_aside:
        return remove_set_aside(given.runs_dir)
    if given.remove_answers:
        return remove_answers(given.runs_dir)
    runs = found_runs(given.runs_dir)
    if given.remove:
        return remove(given.runs_dir, runs, given.remove, given.with_children)
    if not runs:
        print(f"no runs in {given.runs_dir}/; `python run.py` makes some, --runs-dir names another folder")
    show(runs)
    if answers := kept_answers(given.runs_dir):
        mib = sum(file.stat().st_size for file in answers) / 2**20
        print(f"{len(answers)} cached answers of teachers: {mib:.1f} MiB (--remove-answers removes them)")
    if broken := set_aside_in(given.runs_dir):
        print(f"{len(broken)} found broken and set aside (--remove-set-aside removes them)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
