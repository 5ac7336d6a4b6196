"""The pictures of one stage as PNG files. Drawn with Pillow, some 10 ms each: a stage may last only seconds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fitnets.training.figures import ece

TILE, GAP, LINE, PICTURED = 96, 10, 17, 16
INK, FAINT, BAR, LACK = "#1f2328", "#d0d7de", "#3b6ea8", "#c9532c"
STOPS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], float)  # viridis


@cache
def font(size: int = 12) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which has the letters of most names of classes; matplotlib brings it."""
    found = find_spec("matplotlib")
    assert found and found.submodule_search_locations
    return ImageFont.truetype(Path(found.submodule_search_locations[0], "mpl-data/fonts/ttf/DejaVuSans.ttf"), size)


def drawable(names: Sequence[str]) -> list[str]:
    """The names of classes; a class whose letters the font lacks is told by its number."""
    lacking = bytes(font().getmask("\U0010fffe"))

    def can_be(letter: str) -> bool:
        return letter.isprintable() and bytes(font().getmask(letter)) != lacking

    return [name if all(map(can_be, name)) else f"class {number}" for number, name in enumerate(names)]


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
        tiles = [_tile(self.images[i], self.white) for i in first]
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
    rows = [("image", [_tile(image, white) for image in images])]
    for which, pick in (("mean", lambda maps: maps.mean(1)), (f"channel {channel}", lambda maps: maps[:, channel])):
        pair = [pick(maps) for maps in (hints, predicted)]
        low, high = min(float(p.min()) for p in pair), max(float(p.max()) for p in pair)
        for whose, maps in zip(("hint", "student"), pair, strict=True):
            rows.append((f"{whose}, {which}", [_heat((m - low) / max(high - low, 1e-12)) for m in maps]))
    left = 150
    canvas, draw = _canvas(left + len(images) * (TILE + GAP), GAP + len(rows) * (TILE + GAP))
    for r, (name, tiles) in enumerate(rows):
        top = GAP + r * (TILE + GAP)
        draw.text((left - GAP, top + TILE // 2), name, INK, font(), anchor="rm")
        for c, tile in enumerate(tiles):
            canvas.paste(tile, (left + c * (TILE + GAP), top))
    canvas.save(path)


def confusion(path: Path, counts: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Rows are true classes, columns answers; shaded by the share of the row, counts where they can be read."""
    k = len(counts)
    cell = 40 if k <= 20 else max(4, 640 // k)
    left = 30 + (max(int(font().getlength(name[:14])) for name in names) if k <= 20 else 0)
    canvas, draw = _canvas(left + k * cell + GAP, left + k * cell + GAP)
    for r, row in enumerate(counts):
        for c, count in enumerate(row):
            x, y, share = left + c * cell, left + r * cell, count / max(1, sum(row))
            shade = tuple(round(255 + share * (end - 255)) for end in (59, 110, 168))
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), shade if count else "#f3f4f6")
            if cell >= 30 and count:
                draw.text((x + cell // 2, y + cell // 2), f"{count}", "white" if share > 0.5 else INK, font(), "mm")
        if k <= 20:
            draw.text((left - 6, left + r * cell + cell // 2), names[r][:14], INK, font(), "rm")
            _upright(canvas, names[r][:14], (left + r * cell + cell // 2, left - 6))
    draw.text((left + k * cell // 2, 4), "answer", INK, font(), "mt")
    draw.text((4, 4), "true", INK, font())
    canvas.save(path)


def reliability(path: Path, bins: dict[str, list[float]]) -> None:
    """Accuracy by confidence, the gap to it in another colour, and how many samples each bin has."""
    side, low, left, top = 360, 60, 64, 40
    canvas, draw = _canvas(left + side + 24, top + side + low + 64)
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
    _upright(canvas, "accuracy", (14, top + side // 2), "middle")
    canvas.save(path)


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("RGB", (width, height), "white")
    return canvas, ImageDraw.Draw(canvas)


def _strip(path: Path, tiles: list[Image.Image], captions: list[list[str]], heading: str) -> None:
    """Tiles in rows of eight, lines of text below each."""
    width, lines = 124, max(map(len, captions))
    each = TILE + lines * LINE + GAP
    canvas, draw = _canvas(GAP + min(8, len(tiles)) * width, 34 + -(-len(tiles) // 8) * each)
    draw.text((GAP, 9), heading, INK, font(14))
    for i, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        x, y = GAP + i % 8 * width, 34 + i // 8 * each
        canvas.paste(tile, (x, y))
        for n, line in enumerate(caption):
            draw.text((x, y + TILE + 2 + n * LINE), _fitting(line, width - 6), INK, font())
    canvas.save(path)


def _fitting(text: str, width: int) -> str:
    while font().getlength(text) > width:
        text = text[:-1]
    return text


def _tile(image: Tensor, white: float) -> Image.Image:
    """A uint8 image (1 or 3 channels, H, W), as large as a tile."""
    pixels = (image.float() * (255 / white)).clamp(0, 255).byte().cpu().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels[..., :3]).convert("RGB")
    smooth = Image.Resampling.NEAREST if max(picture.size) <= TILE // 2 else Image.Resampling.BICUBIC
    return picture.resize((TILE, TILE), smooth)


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


def _upright(canvas: Image.Image, text: str, at: tuple[int, int], how: str = "bottom") -> None:
    """Text turned by 90 degrees: centred on `at`, or ending above it."""
    strip = Image.new("RGB", (int(font().getlength(text)) + 2, 18), "white")
    ImageDraw.Draw(strip).text((0, 0), text, INK, font())
    turned = strip.rotate(90, expand=True)
    top = at[1] - (turned.height if how == "bottom" else turned.height // 2)
    canvas.paste(turned, (at[0] - turned.width // 2, top))


def of_predictions(folder: Path, tested: Tested, details: Mapping[str, Any]) -> None:
    """reliability.png, hardest.png, confusion.png (of few classes), and disagreed.png where there is a teacher."""
    folder.mkdir(exist_ok=True)
    hardest(folder / "hardest.png", tested)
    if "confusion" in details:
        confusion(folder / "confusion.png", details["confusion"], tested.names)
    reliability(folder / "reliability.png", details["reliability"])
    if tested.teacher_logits is not None:
        disagreed(folder / "disagreed.png", tested)
