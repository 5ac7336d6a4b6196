"""The W&B workspace as code: sections of panels, each panel answers one question about distillation.

python scripts/dashboard.py --entity NAME              save it as a view of project fitnets and print its address
python scripts/dashboard.py --list                     only print sections, panels and keys (no key, no network)

Needs the extra: pip install 'fitnets[dashboard]'. Colours are arms; where several seeds are shown, a line is their
mean and its band one standard deviation.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from fitnets.tracking.wandb import has_key

BANDS: dict[str, Any] = {"groupby": wr.Config("arm"), "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
BARS = BANDS | {"orientation": "h"}


def over_epochs(title: str, *keys: str, **options: Any) -> wr.LinePlot:
    return wr.LinePlot(title=title, x="epoch", y=list(keys), title_x="epoch", **BANDS | options)


def by_arm(title: str, *keys: str) -> wr.BarPlot:
    return wr.BarPlot(title=title, metrics=list(keys), **BARS)


def against(title: str, x: str, y: str, **options: Any) -> wr.ScatterPlot:
    return wr.ScatterPlot(title=title, x=wr.SummaryMetric(x), y=wr.SummaryMetric(y), **options)


def of_tenths(figure: str) -> list[str]:
    return [f"curriculum/{figure}_decile{number}" for number in ("01", "10")]


def sections() -> list[ws.Section]:
    """One question a section, at most six panels each."""
    panels: dict[str, list[Any]] = {
        "headline: did distillation help?": [
            by_arm("Which arm is best on the test part?", "headline/test_accuracy"),
            by_arm("How far from its teacher? (points / 100)", "headline/gap_to_teacher"),
            against("What does accuracy cost in parameters?", "cost/params", "headline/test_accuracy", log_x=True),
            by_arm("Who is sure of wrong answers? (ECE)", "headline/test_ece"),
        ],
        "train: is training healthy?": [
            over_epochs("Does the loss fall?", "train/loss"),
            over_epochs("Does the hint loss fall?", "train/hint_loss", "val/hint_loss", log_y=True),
            over_epochs("What is the learning rate?", "train/lr"),
        ],
        "distill: which term drives?": [
            over_epochs("How large is each term?", "distill/hard", "distill/soft"),
            over_epochs("And times its weight?", "distill/weighted_hard", "distill/weighted_soft"),
            over_epochs("Which term moves the logits?", "distill/gradient_share_hard", "distill/gradient_share_soft"),
            over_epochs("How much weight has the teacher?", "distill/lambda"),
            over_epochs("How soft are the answers?", "distill/temperature"),
        ],
        "match: does it imitate?": [
            over_epochs("Same answer as the teacher?", "match/agreement"),
            over_epochs("How far are the answers? (KL, nats)", "match/kl"),
            over_epochs("How alike are hint and guided layer? (CKA)", "match/cka"),
            over_epochs("How much of the hint is predicted? (R2)", "val/r2"),
        ],
        "val: is it good and calibrated?": [
            over_epochs("Validation accuracy", "val/accuracy"),
            over_epochs("Negative log-likelihood, nats", "val/nll"),
            over_epochs("Calibration error (ECE, 15 bins)", "val/ece"),
            over_epochs("Brier score", "val/brier"),
            over_epochs("The class it knows least", "val/worst_class_accuracy"),
        ],
        "curriculum: what is it shown?": [
            over_epochs("How much of the data is in the pool?", "curriculum/pool_fraction"),
            over_epochs("How hard are its samples?", *(f"curriculum/difficulty_{q}" for q in ("q10", "q50", "q90"))),
            over_epochs("How often were the easiest and the hardest tenth shown?", *of_tenths("shown")),
            over_epochs("How right is it about the easiest and the hardest tenth?", *of_tenths("accuracy")),
            wr.MediaBrowser(title="Pool and tenths of one run", media_keys=["media/curriculum"], num_columns=1),
        ],
        "cost: what did we buy?": [
            against("Accuracy against multiplications", "cost/multiplications", "headline/test_accuracy", log_x=True),
            by_arm("How many times smaller than the teacher?", "cost/compression"),
            by_arm("One image, ms", "cost/latency_ms_p50_batch1", "cost/latency_ms_p95_batch1"),
            by_arm("128 images, ms", "cost/latency_ms_p50_batch128", "cost/latency_ms_p95_batch128"),
            by_arm("Training speed, images/s", "cost/images_per_s"),
            by_arm("The teacher's part of the training time", "cost/teacher_share"),
        ],
        "media: why?": [
            wr.MediaBrowser(title=title, media_keys=[f"media/{key}"], num_columns=1)
            for title, key in (
                ("Hint maps, and the student's, of the same images", "hint_maps"),
                ("Where student and teacher differ most", "disagreed"),
                ("The hardest test images", "hardest"),
                ("What is taken for what?", "confusion"),
                ("Is it as sure as it is right?", "reliability"),
                ("Accuracy by class", "per_class"),
            )
        ],
    }
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


def keys_of(panel: Any) -> list[str]:
    """The logged keys that a panel shows."""
    if isinstance(panel, wr.MediaBrowser):
        return list(panel.media_keys)
    metrics: list[Any] = [panel.x, panel.y] if isinstance(panel, wr.ScatterPlot) else []
    metrics += panel.metrics if isinstance(panel, wr.BarPlot) else []
    metrics += panel.y if isinstance(panel, wr.LinePlot) else []
    return [str(getattr(metric, "name", metric)) for metric in metrics]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entity", default=os.environ.get("WANDB_ENTITY"), help="your W&B name or team")
    parser.add_argument("--project", default="fitnets")
    parser.add_argument("--name", default="FitNets distillation", help="of the view")
    parser.add_argument("--list", action="store_true", help="print what it would show, and save nothing")
    given = parser.parse_args(arguments)
    if given.list:
        for section in sections():
            print(section.name)
            panels: list[Any] = section.panels
            for panel in panels:
                print(f"  {panel.title}: {', '.join(keys_of(panel))}")
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
