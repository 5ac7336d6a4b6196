"""The picture of a score: the easiest and hardest images of each class."""

from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from fitnets.data.module import DataModule

IMAGES = 6  # of each kind and class
CLASSES = 20  # rows at the most


def easiest_and_hardest(data: DataModule, difficulty: Tensor, name: str, path: Path) -> None:
    """A row for each class (by the given labels): its easiest images, then its hardest; wrong labels are framed."""
    labels, clean = data.given_labels[data.train_index], data.images.labels.cpu()
    names = data.images.class_names[:CLASSES]
    figure = Figure(figsize=(0.55 * (2 * IMAGES + 2), 0.55 * len(names) + 0.8), layout="constrained")
    grid = figure.subplots(len(names), 2 * IMAGES + 1, squeeze=False, gridspec_kw={"wspace": 0.05, "hspace": 0.05})
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for row, class_name in enumerate(names):
        of_class = data.train_index[labels == row]
        ranked = of_class[difficulty[of_class].argsort(stable=True)].tolist()
        each = min(IMAGES, len(ranked) // 2)  # of few, none comes twice
        places = [*range(each), *range(2 * IMAGES + 1 - each, 2 * IMAGES + 1)]
        for place, sample in zip(places, ranked[:each] + ranked[len(ranked) - each :], strict=True):
            image = data.images.images[sample].cpu().movedim(0, -1).squeeze(-1).numpy()
            grid[row][place].imshow(image, cmap="gray", vmin=0, vmax=max(int(image.max()), 1))
            if clean[sample] != row:
                grid[row][place].spines[:].set(visible=True, color="red", linewidth=2)
        grid[row][0].set_ylabel(class_name, rotation=0, ha="right", va="center", fontsize=9)
    grid[0][IMAGES // 2].set_title("easiest", fontsize=10)
    grid[0][IMAGES + 1 + IMAGES // 2].set_title("hardest", fontsize=10)
    framed = "; rows by the given label, wrong ones framed" if data.dataset.get("label_noise") else ""
    figure.suptitle(f"{name} on {data.dataset['name']}{framed}", fontsize=10)
    figure.savefig(path, dpi=120)
