"""Pictures of a curriculum: the easiest and hardest images of each class, and what the pool held over the training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from fitnets.data.module import DataModule
    from fitnets.runs import Run

SHOWN = 6  # images of each kind and class
CLASSES = 20  # rows at the most


def easiest_and_hardest(data: "DataModule", difficulty: "Tensor", name: str, path: Path) -> None:
    """A row for each class (by the given labels): its easiest images, then its hardest; wrong labels are framed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    assert data.images is not None
    labels, clean = data.given_labels[data.train_index], data.images.labels.cpu()
    names = data.images.class_names[:CLASSES]
    figure = Figure(figsize=(0.55 * (2 * SHOWN + 2), 0.55 * len(names) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(names), 2 * SHOWN + 1, squeeze=False, gridspec_kw={"wspace": 0.05, "hspace": 0.05})
    for row, class_name in enumerate(names):
        of_class = data.train_index[labels == row]
        ranked = of_class[difficulty[of_class].argsort(stable=True)]
        each = min(SHOWN, len(ranked) // 2)  # of few, none is shown twice
        gap = [None] * (SHOWN - each)
        both = [*ranked[:each].tolist(), *gap, None, *gap, *ranked[len(ranked) - each :].tolist()]
        for axes, sample in zip(grid[row], both, strict=True):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if sample is None:
                continue
            image = data.images.images[sample].cpu().movedim(0, -1).squeeze(-1).numpy()
            axes.imshow(image, cmap="gray", vmin=0, vmax=max(int(image.max()), 1))
            if clean[sample] != row:
                axes.spines[:].set(visible=True, color="red", linewidth=2)
        grid[row][0].set_ylabel(class_name, rotation=0, ha="right", va="center", fontsize=9)
    grid[0][SHOWN // 2].set_title("easiest", fontsize=10)
    grid[0][SHOWN + 1 + SHOWN // 2].set_title("hardest", fontsize=10)
    framed = "; rows by the given label, wrong ones framed" if data.dataset.get("label_noise") else ""
    figure.suptitle(f"{name} on {data.dataset['name']}{framed}", fontsize=10)
    figure.savefig(path, dpi=120)


def pool_picture(run: "Run", data: "DataModule", history: Sequence[Mapping[str, float]], path: Path) -> None:
    """The fraction of samples in the pool by updates, and how often each tenth of difficulty was shown."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from fitnets.data.curriculum import pacing, pool_size

    curriculum, batches = run.spec["curriculum"], data.train_batches
    pace, n = pacing(curriculum["pacing"], data.updates, data.batches_per_epoch), len(batches.pool)
    sizes = [pool_size(pace(t), n, batches.batch_size) / n for t in range(data.updates)]
    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    pool, shown = figure.subplots(1, 2)
    pool.plot(range(data.updates), sizes, drawstyle="steps-post", color="#1f77b4")
    pool.set(xlabel="updates", ylabel="fraction in the pool", ylim=(0, 1.03))
    pool.set_title(f"pacing {curriculum['pacing']['name']}, {curriculum['name']}", fontsize=10)
    prefix = "curriculum/shown_decile"
    shares = {int(name.removeprefix(prefix)): v for name, v in history[-1].items() if name.startswith(prefix)}
    if shares:
        shown.bar(list(shares), [100 * share for share in shares.values()], color="#1f77b4")
        shown.axhline(100 / len(shares), color="gray", linestyle="--", linewidth=1)
        shown.set(xlabel="tenth of difficulty (1: easiest)", ylabel="share of the samples shown (%)")
        shown.set_title(f"score {run.needed['score'].net_name}", fontsize=10)
    else:
        shown.set_visible(False)
    for axes in (pool, shown):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=120)
