"""The W&B workspace of dashboard.yaml: sections of panels, each panel answers one question about distillation.

python scripts/dashboard.py --entity NAME              save it as a view of project fitnets and print its address
python scripts/dashboard.py --list                     only print sections, panels and keys (no key, no network)

Needs the extra: pip install 'fitnets[dashboard]'. Colours are arms; where several seeds are shown, a line is their
mean and its band one standard deviation.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
import yaml

from fitnets.tracking.wandb import has_key

SECTIONS: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
)
BANDS: dict[str, Any] = {"groupby": wr.Config("arm"), "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}


def panel_of(kind: str, title: str, keys: list[Any], **options: Any) -> Any:
    match kind:
        case "line":
            return wr.LinePlot(title=title, x="epoch", y=keys, title_x="epoch", **BANDS, **options)
        case "bar":
            return wr.BarPlot(title=title, metrics=keys, orientation="h", **BANDS, **options)
        case "scatter":
            x, y = map(wr.SummaryMetric, keys)
            return wr.ScatterPlot(title=title, x=x, y=y, **options)
        case "media":
            return wr.MediaBrowser(title=title, media_keys=keys, num_columns=1, **options)


def sections() -> list[ws.Section]:
    panels = {name: [panel_of(**panel) for panel in listed] for name, listed in SECTIONS.items()}
    return [ws.Section(name=name, panels=p, is_open=i < 2) for i, (name, p) in enumerate(panels.items())]


def workspace(entity: str, project: str, name: str) -> ws.Workspace:
    """Built without login and without network; `save` needs both."""
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=sections(),
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Config("stage"), ws.Config("arm")],
            pinned_columns=["summary:headline/test_accuracy", "config:student", "config:temperature"],
        ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entity", default=os.environ.get("WANDB_ENTITY"), help="your W&B name or team")
    parser.add_argument("--project", default="fitnets")
    parser.add_argument("--name", default="FitNets distillation", help="of the view")
    parser.add_argument("--list", action="store_true", help="print what it would show, and save nothing")
    given = parser.parse_args(arguments)
    if given.list:
        for name, panels in SECTIONS.items():
            print(name)
            for panel in panels:
                print(f"  {panel['title']}: {', '.join(panel['keys'])}")
        return 0
    if not given.entity:
        print("Whose project? Type --entity NAME, or set WANDB_ENTITY.", file=sys.stderr)
        return 2
    if not has_key(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")):
        print("There is no W&B key here: type wandb login, or set WANDB_API_KEY.", file=sys.stderr)
        return 2
    view = workspace(given.entity, given.project, given.name)
    view.save()
    print(view.url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
