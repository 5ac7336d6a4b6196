"""The pictures of one stage, as PNG files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from fitnets.drawing import INK, TILE, canvas, fitting, font, tile
from fitnets.training.figures import ece

GAP, LINE, PICTURED = 10, 17, 16
FAINT, BAR, LACK = "#d0d7de", "#3b6ea8", "#c9532c"
STOPS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], float)  # viridis


@dataclass(frozen=True)
class Tested:
    """Answers on a test part: images uint8 (N, C, H, W), black at 0 and white at `white`, and logits (N, K)."""

    images: Tensor
    white: float
    names: Sequence[str]  # of the classes
    logits: Tensor
    labels: Tensor
    teacher_logits: Tensor | None = None

    def strip(self, path: Path, order: Tensor, caption: Callable[[int], list[str]], heading: str) -> None:
        """The first images of an order of samples, with lines of text below each."""
        first = order[:PICTURED].tolist()
        tiles = [tile(self.images[i], self.white) for i in first]
        _strip(path, tiles, [[f"is {self.names[int(self.labels[i])]}", *caption(i)] for i in first], heading)


def hardest(path: Path, tested: Tested) -> None:
    """The images with the highest loss, worst first, with label, answer and loss in nats."""
    losses = F.cross_entropy(tested.logits, tested.labels, reduction="none")
    answers = tested.logits.argmax(1)

    def caption(i: int) -> list[str]:
        return [f"said {tested.names[int(answers[i])]}", f"loss {losses[i]:.2f}"]

    tested.strip(path, losses.argsort(descending=True), caption, "Highest loss on the test part")


def disagreed(path: Path, tested: Tested) -> None:
    """The images on which student and teacher differ most, by KL(teacher || student), with both answers."""
    assert tested.teacher_logits is not None
    both = {"S": tested.logits.softmax(1), "T": tested.teacher_logits.softmax(1)}
    difference = tested.teacher_logits.log_softmax(1) - tested.logits.log_softmax(1)

    def caption(i: int) -> list[str]:
        best = {whose: probabilities[i].max(0) for whose, probabilities in both.items()}
        return [f"{whose} {tested.names[int(at)]} {share:.0%}" for whose, (share, at) in best.items()]

    order = (both["T"] * difference).sum(1).argsort(descending=True)
    tested.strip(path, order, caption, "Where student (S) and teacher (T) differ most")


def hint_maps(path: Path, images: Tensor, white: float, hints: Tensor, predicted: Tensor) -> None:
    """Hint maps beside the regressor's, (N, C, H, W) or (N, D), of the same images: the mean channel, and the one
    that varies most over these images. A pair of rows shares its colours, dark the lowest."""
    hints, predicted = (maps if maps.ndim == 4 else _folded(maps) for maps in (hints, predicted))
    channel = int(hints.transpose(0, 1).flatten(1).var(1).argmax())
    rows = [("image", [tile(image, white) for image in images])]
    for which, pick in (("mean", lambda maps: maps.mean(1)), (f"channel {channel}", lambda maps: maps[:, channel])):
        pair = [pick(maps) for maps in (hints, predicted)]
        low, high = min(float(p.min()) for p in pair), max(float(p.max()) for p in pair)
        for whose, maps in zip(("hint", "student"), pair, strict=True):
            rows.append((f"{whose}, {which}", [_heat((m - low) / max(high - low, 1e-12)) for m in maps]))
    left = 150
    picture, draw = canvas(left + len(images) * (TILE + GAP), GAP + len(rows) * (TILE + GAP))
    for r, (name, tiles) in enumerate(rows):
        top = GAP + r * (TILE + GAP)
        draw.text((left - GAP, top + TILE // 2), name, INK, font(), anchor="rm")
        for c, each in enumerate(tiles):
            picture.paste(each, (left + c * (TILE + GAP), top))
    picture.save(path)


def confusion(path: Path, counts: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Rows are true classes, columns answers; shaded by the share of the row, counts where they can be read."""
    k = len(counts)
    cell = 40 if k <= 20 else max(4, 640 // k)
    left = 30 + (max(int(font().getlength(name[:14])) for name in names) if k <= 20 else 0)
    picture, draw = canvas(left + k * cell + GAP, left + k * cell + GAP)
    for r, row in enumerate(counts):
        for c, count in enumerate(row):
            x, y, share = left + c * cell, left + r * cell, count / max(1, sum(row))
            shade = tuple(round(255 + share * (end - 255)) for end in (59, 110, 168))
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), shade if count else "#f3f4f6")
            if cell >= 30 and count:
                draw.text((x + cell // 2, y + cell // 2), f"{count}", "white" if share > 0.5 else INK, font(), "mm")
        if k <= 20:
            draw.text((left - 6, left + r * cell + cell // 2), names[r][:14], INK, font(), "rm")
            _upright(picture, names[r][:14], (left + r * cell + cell // 2, left - 6))
    draw.text((left + k * cell // 2, 4), "answer", INK, font(), "mt")
    draw.text((4, 4), "true", INK, font())
    picture.save(path)


def reliability(path: Path, bins: dict[str, list[float]]) -> None:
    """Accuracy by confidence, the gap to it in another colour, and how many samples each bin has."""
    side, low, left, top = 360, 60, 64, 40
    picture, draw = canvas(left + side + 24, top + side + low + 64)
    size, floor, most = side / len(bins["count"]), top + side, max(bins["count"])
    for i, count in enumerate(bins["count"]):
        x = left + i * size
        draw.rectangle((x, floor + low + 8 - low * count / most, x + size - 2, floor + low + 8), FAINT)
        if count:
            confidence, accuracy = (floor - side * bins[key][i] for key in ("confidence", "accuracy"))
            draw.rectangle((x, accuracy, x + size - 2, floor), BAR)
            draw.rectangle((x, min(confidence, accuracy), x + size - 2, max(confidence, accuracy)), None, LACK, 2)
    draw.line((left, floor, left + side, top), INK, 1)
    draw.line((left, top, left, floor, left + side, floor), INK, 1)
    for tick in (0, 0.25, 0.5, 0.75, 1):
        draw.text((left - 8, floor - tick * side), f"{tick:g}", INK, font(), "rm")
        draw.text((left + tick * side, floor + low + 14), f"{tick:g}", INK, font(), "mt")
    draw.text((left, 10), f"ECE {ece(bins):.2%}   bars: accuracy, frame: gap to confidence", INK, font())
    draw.text((left + side // 2, floor + low + 36), "confidence (grey: samples)", INK, font(), "mt")
    _upright(picture, "accuracy", (14, top + side // 2), "middle")
    picture.save(path)


def _strip(path: Path, tiles: list[Image.Image], captions: list[list[str]], heading: str) -> None:
    """Tiles in rows of eight, lines of text below each."""
    width, lines = 124, max(map(len, captions))
    height = TILE + lines * LINE + GAP
    picture, draw = canvas(GAP + min(8, len(tiles)) * width, 34 + -(-len(tiles) // 8) * height)
    draw.text((GAP, 9), heading, INK, font(14))
    for i, (each, caption) in enumerate(zip(tiles, captions, strict=True)):
        x, y = GAP + i % 8 * width, 34 + i // 8 * height
        picture.paste(each, (x, y))
        for n, line in enumerate(caption):
            draw.text((x, y + TILE + 2 + n * LINE), fitting(line, width - 6), INK, font())
    picture.save(path)


def _heat(values: Tensor) -> Image.Image:
    """A map (H, W) of numbers from 0 to 1 in colours, as large as a tile."""
    at = values.float().nan_to_num().clamp(0, 1).cpu().numpy() * (len(STOPS) - 1)
    rgb = np.stack([np.interp(at, np.arange(len(STOPS)), stops) for stops in STOPS.T], -1)
    return Image.fromarray(rgb.astype(np.uint8)).resize((TILE, TILE), Image.Resampling.NEAREST)


def _folded(vectors: Tensor) -> Tensor:
    """Vectors (N, D) as one-channel maps (N, 1, H, W), padded with their smallest value."""
    side = int(np.ceil(vectors.shape[1] ** 0.5))
    padded = F.pad(vectors, (0, side * side - vectors.shape[1]), value=float(vectors.min()))
    return padded.view(len(vectors), 1, side, side)


def _upright(picture: Image.Image, text: str, at: tuple[int, int], how: str = "bottom") -> None:
    """Text turned by 90 degrees: centred on `at`, or ending above it."""
    strip = Image.new("RGB", (int(font().getlength(text)) + 2, 18), "white")
    ImageDraw.Draw(strip).text((0, 0), text, INK, font())
    turned = strip.rotate(90, expand=True)
    top = at[1] - (turned.height if how == "bottom" else turned.height // 2)
    picture.paste(turned, (at[0] - turned.width // 2, top))


def of_predictions(folder: Path, tested: Tested, details: Mapping[str, Any]) -> None:
    """reliability.png, hardest.png, confusion.png (of few classes), and disagreed.png where there is a teacher."""
    folder.mkdir(exist_ok=True)
    hardest(folder / "hardest.png", tested)
    if "confusion" in details:
        confusion(folder / "confusion.png", details["confusion"], tested.names)
    reliability(folder / "reliability.png", details["reliability"])
    if tested.teacher_logits is not None:
        disagreed(folder / "disagreed.png", tested)
