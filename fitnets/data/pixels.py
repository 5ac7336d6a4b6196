"""One picture as a viewer shows it: upright, its first frame, on a background, with 8 bits a channel."""

import io
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import Image, ImageColor, ImageOps

from fitnets.data.identity import DataError

FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "WEBP", "AVIF", "TIFF", "PPM", "JPEG2000")  # Pillow's names
MOST_PIXELS = 2**27  # of a picture: it is refused before it is decoded
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap width and height
BITS, PHOTOMETRIC, BANDS, EXTRA, KIND = 258, 262, 277, 338, 339  # tags of a TIFF
SIGNED, WHITE_IS_ZERO = 2, 0  # values of KIND and of PHOTOMETRIC
WORDS = {"I": "whole numbers", "F": "decimals"}  # of modes with more than 8 bits a channel


@dataclass(frozen=True)
class Head:
    """What is known of a picture before it is shown: `mode` is Pillow's, `size` that of the upright picture."""

    format: str
    mode: str
    size: tuple[int, int]  # width, height
    alpha: bool
    animated: bool
    grey: bool
    low: float = 0.0  # the smallest and the largest value of a picture with more than 8 bits
    high: float = 0.0


Levels = Mapping[str, tuple[float, float]]  # by kind of number, I or F: what is black and what is white


def opened(file: IO[bytes]) -> Any:
    """Pillow's picture, its pixels not yet decoded. Raises an error with a reason to print."""
    if not file.read(1):
        raise ValueError("it is empty")
    file.seek(0)
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
        except Image.UnidentifiedImageError as error:
            raise ValueError("it is no picture that Pillow reads") from error
        except Image.DecompressionBombError as error:
            raise ValueError(f"it has more than {MOST_PIXELS:,} pixels: make it smaller") from error
    if image.mode == "LAB":
        raise ValueError("its colours are in LAB, which is not read: save it as RGB")
    if image.format == "TIFF":
        _refuse_unknown_bands(image)
    if image.format == "PNG" and isinstance(image.info.get("transparency"), int):
        at = file.tell()
        file.seek(24)
        depth = file.read(1)[0]
        file.seek(at)
        if depth < 8:  # Pillow brings the pixels to 8 bits, and not the value that is transparent
            image.info["transparency"] *= 255 // (2**depth - 1)
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ValueError(f"it is {width}x{height}, more than {MOST_PIXELS:,} pixels: make it smaller")
    if not width * height:
        raise ValueError(f"it is {width}x{height}")
    return image


def _refuse_unknown_bands(image: Any) -> None:
    """ValueError for a TIFF whose bands Pillow would drop, or take for what they are not."""
    bands = image.tag_v2.get(BANDS, 1)
    if bands > len(image.getbands()) or (image.mode == "RGBA" and EXTRA not in image.tag_v2):
        raise ValueError(f"it has {bands} bands and does not say what they show: save it in grey or as RGB")
    if image.tag_v2.get(BITS) == (8,) and image.tag_v2.get(KIND) == (SIGNED,):
        raise ValueError("its 8 bits are signed: save it unsigned, or with 16 bits")


def _deep_values(image: Any) -> Any:
    """The numbers of a picture with more than 8 bits, more is brighter."""
    values = np.asarray(image)
    if image.format == "TIFF":
        tags = image.tag_v2
        if image.mode == "I" and tags.get(BITS) == (32,) and tags.get(KIND, (1,)) == (1,):
            values = values.view(np.uint32)
        if image.mode.startswith("I;16") and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
            values = 2**16 - 1 - values
    return values


def head_of(encoded: bytes) -> Head:
    """What is known of a picture; its pixels are decoded only where they have more than 8 bits."""
    image = opened(io.BytesIO(encoded))
    width, height = image.size
    turned = image.format != "TIFF" and _orientation(image) in TURNED  # Pillow itself turns a TIFF
    found = Head(
        format=image.format,
        mode=image.mode,
        size=(height, width) if turned else (width, height),
        alpha=image.has_transparency_data,
        animated=bool(getattr(image, "is_animated", False)) and image.format != "MPO",
        grey=_is_grey(image),
    )
    if _depth(image.mode):
        values = _deep_values(image)
        if not np.isfinite(values).all():
            raise ValueError("it has values that are not finite")
        return Head(**{**vars(found), "low": float(values.min()), "high": float(values.max())})
    return found


def levels_of(heads: Iterable[Head]) -> dict[str, tuple[float, float]]:
    """What is black and white for pictures with more than 8 bits a channel, one rule for all of a data set.

    Whole numbers: from 0 to the largest of as many bits as the largest value of the set needs (4095: 12 bits), at
    least 8. Decimals: from 0 to 1, or to 255 where some are above 1. Where these do not hold all values, from the
    smallest to the largest one.
    """
    found = {}
    for kind in WORDS:
        deep = [head for head in heads if _depth(head.mode) == kind]
        if deep:
            low, high = min(head.low for head in deep), max(head.high for head in deep)
            white = 2 ** max(8, int(high).bit_length()) - 1 if kind == "I" else 1 if high <= 1 else 255
            found[kind] = (low, max(high, low + 1)) if low < 0 or high > white else (0.0, float(white))
    return found


def shown(encoded: bytes, grey: bool, levels: Levels, background: Any) -> Any:
    """Pillow's picture as a viewer shows it: L where `grey`, else RGB."""
    image = opened(io.BytesIO(encoded))
    image.load()
    image = _upright(image)
    own = "L" if _is_grey(image) else "RGB"
    if kind := _depth(image.mode):
        (black, white), values, transparent = levels[kind], _deep_values(image), image.info.get("transparency")
        scaled = (values.astype(np.float64) - black) * (255 / (white - black))
        image = Image.fromarray(np.rint(scaled).clip(0, 255).astype(np.uint8))
        if isinstance(transparent, int):
            image.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", above.size, colour_of(background)), above).convert("RGB")
        own = own if is_grey_colour(background) else "RGB"
    return image.convert(own).convert("L" if grey else "RGB")


def colour_of(background: Any) -> tuple[int, ...]:
    """(red, green, blue) of a name, #rrggbb or three numbers. Raises DataError."""
    try:
        return tuple(background) if isinstance(background, list | tuple) else ImageColor.getrgb(background)[:3]
    except ValueError as error:
        raise DataError(f"dataset.background is {background!r}, no colour: type white, black or [r,g,b]") from error


def is_grey_colour(background: Any) -> bool:
    return len(set(colour_of(background))) == 1


def _depth(mode: str) -> str:
    """I or F for a mode with more than 8 bits a channel, else nothing."""
    return mode[0] if mode[0] in WORDS else ""


def _is_grey(image: Any) -> bool:
    if image.mode == "P":
        palette = np.reshape(image.getpalette() or [0, 1, 2], (-1, 3))
        return bool((palette == palette[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La") or bool(_depth(image.mode))


def _orientation(image: Any) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # a picture whose EXIF is damaged is shown as it lies
        return 1


def _upright(image: Any) -> Any:
    return ImageOps.exif_transpose(image) if 1 < _orientation(image) <= 8 else image
