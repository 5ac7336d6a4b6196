"""The picture of a score: the easiest and hardest images of each class."""

from pathlib import Path

from torch import Tensor

from fitnets.data.module import DataModule
from fitnets.drawing import INK, brightest, canvas, drawable, fitting, font, tile

IMAGES = 6  # of each kind and class
CLASSES = 20  # rows at the most
SIDE, GAP, TOP, WRONG = 56, 6, 56, "#d1242f"


def easiest_and_hardest(data: DataModule, difficulty: Tensor, name: str, path: Path) -> None:
    """A row for each class (by the given labels): its easiest images, then its hardest; wrong labels are framed."""
    white = brightest(data.images.images)
    labels, clean = data.given_labels[data.train_index], data.images.labels.cpu()
    names = [fitting(each, 160) for each in drawable(data.images.class_names[:CLASSES])]
    left, step = 2 * GAP + max(int(font().getlength(each)) for each in names), SIDE + GAP
    picture, draw = canvas(left + (2 * IMAGES + 1) * step, TOP + len(names) * step)
    framed = "; rows by the given label, wrong ones framed" if data.dataset.get("label_noise") else ""
    draw.text((GAP, 8), f"{name} on {data.dataset['name']}{framed}", INK, font(14))
    for place, heading in ((0, "easiest"), (IMAGES + 1, "hardest")):
        draw.text((left + place * step, TOP - 20), heading, INK, font())
    for row, class_name in enumerate(names):
        top = TOP + row * step
        draw.text((left - GAP, top + SIDE // 2), class_name, INK, font(), anchor="rm")
        of_class = data.train_index[labels == row]
        ranked = of_class[difficulty[of_class].argsort(stable=True)].tolist()
        each = min(IMAGES, len(ranked) // 2)  # of few, none comes twice
        places = [*range(each), *range(2 * IMAGES + 1 - each, 2 * IMAGES + 1)]
        for place, sample in zip(places, ranked[:each] + ranked[len(ranked) - each :], strict=True):
            x = left + place * step
            picture.paste(tile(data.images.images[sample], white, SIDE), (x, top))
            if clean[sample] != row:
                draw.rectangle((x - 1, top - 1, x + SIDE, top + SIDE), None, WRONG, 3)
    picture.save(path)
