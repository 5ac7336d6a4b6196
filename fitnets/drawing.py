"""Small pictures with words, drawn with Pillow: some 10 ms each, as a stage may last only seconds."""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

TILE = 96  # pixels
INK = "#1f2328"


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


def canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A white picture, and what draws on it."""
    picture = Image.new("RGB", (width, height), "white")
    return picture, ImageDraw.Draw(picture)


def brightest(images: Tensor) -> float:
    """What is white in pictures of a set of uint8 images, by its first ones: digits have 16 levels."""
    return max(float(images[:256].max()), 1.0)


def tile(image: Tensor, white: float, side: int = TILE) -> Image.Image:
    """A uint8 image (1 or 3 channels, H, W), as large as a tile."""
    pixels = (image.float() * (255 / white)).clamp(0, 255).byte().cpu().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels[..., :3]).convert("RGB")
    smooth = Image.Resampling.NEAREST if max(picture.size) <= side // 2 else Image.Resampling.BICUBIC
    return picture.resize((side, side), smooth)


def fitting(text: str, width: int) -> str:
    """As much of a text as `width` pixels hold."""
    while font().getlength(text) > width:
        text = text[:-1]
    return text
