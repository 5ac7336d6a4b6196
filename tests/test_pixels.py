"""A picture is trained on as a viewer shows it: a row for each kind of picture, with the values that must come out."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from fitnets.data import pixels
from fitnets.data.files import folder
from fitnets.data.identity import DataError
from fitnets.data.pixels import head_of, levels_of, shown

pytestmark = pytest.mark.fast

GREY = np.array([[0, 50, 100], [150, 200, 250]], np.uint8)
RED = np.zeros((2, 2, 3), np.uint8) + np.array([255, 0, 0], np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_trained(picture: bytes, background: Any = "white") -> Any:
    """The picture alone in its data set, as nested lists."""
    head = head_of(picture)
    grey = head.grey and (not head.alpha or pixels.is_grey_colour(background))
    return np.asarray(shown(picture, grey, levels_of([head]), background)).tolist()


def turned(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(
        Image.fromarray(GREY).convert("RGB"), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})
    )


def rgba(*pixel: int) -> Image.Image:
    return Image.fromarray(np.array([[pixel]], np.uint8), "RGBA")


def palette(transparent: int | None = None) -> bytes:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    return encoded(image, **({} if transparent is None else {"transparency": transparent}))


def deep(values: list[list[float]], kind: Any, to: str = "TIFF") -> bytes:
    return encoded(Image.fromarray(np.array(values, kind)), to)


def frames(kind: str) -> bytes:
    first, second = (Image.new("L", (2, 1), value) for value in (10, 200))
    return encoded(first, kind, save_all=True, append_images=[second])


UPRIGHT = {  # by EXIF orientation
    1: GREY,
    2: GREY[:, ::-1],
    3: GREY[::-1, ::-1],
    4: GREY[::-1],
    5: GREY.T,
    6: GREY[::-1].T,
    7: GREY[::-1, ::-1].T,
    8: GREY.T[::-1],
}


def png(depth: int, colour: int, rows: list[bytes], width: int, transparent: bytes = b"") -> bytes:
    """A PNG written by hand, of kinds that Pillow reads and does not write."""
    head = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", head), *([(b"tRNS", transparent)] if transparent else []), (b"IDAT", data), (b"IEND", b"")]
    file = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        file += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return file


def tiff(values: Any, **tags: int) -> bytes:
    """A TIFF with some of its tags changed."""
    names = {"photometric": 262, "sample_format": 339}
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        info[names[name]] = value
    written = encoded(Image.fromarray(np.asarray(values)), "TIFF", tiffinfo=info)
    for name, value in tags.items():  # Pillow writes some as it thinks best
        for other in (1, 2, 3):
            entry = struct.pack("<HHI", names[name], 3, 1)
            written = written.replace(entry + struct.pack("<I", other), entry + struct.pack("<I", value))
    return written


DEEP_KEY = struct.pack(">HHH", 0, 1000, 65535)
SHOWN = {  # a picture -> its values
    "16 bits, one value transparent": (png(16, 0, [DEEP_KEY], 3, struct.pack(">H", 1000)), [[0, 255, 255]]),
    "2 bits, one value transparent": (png(2, 0, [bytes([0b00011011])], 4, struct.pack(">H", 1)), [[0, 255, 170, 255]]),
    "4 bits, one value transparent": (png(4, 0, [bytes([0x0F])], 2, struct.pack(">H", 0)), [[255, 255]]),
    "16 bits, white is zero": (tiff(np.array([[0, 65535]], np.uint16), photometric=0), [[255, 0]]),
    "32 bits without a sign": (tiff(np.array([[0, -1]], np.int32), sample_format=1), [[0, 255]]),
    "8 bits": (encoded(Image.fromarray(GREY)), GREY.tolist()),
    "1 bit": (encoded(Image.fromarray(GREY > 120)), [[0, 0, 0], [255, 255, 255]]),
    "colour": (encoded(Image.fromarray(RED)), RED.tolist()),
    "16 bits": (deep([[0, 257, 65535]], np.uint16, "PNG"), [[0, 1, 255]]),
    "16 bits, TIFF": (deep([[0, 32768, 65535]], np.uint16), [[0, 128, 255]]),
    "16 bits, PGM": (deep([[0, 32768, 65535]], np.uint16, "PPM"), [[0, 128, 255]]),
    "12 of 16 bits keep their gradations": (deep([[0, 2048, 4095]], np.uint16), [[0, 128, 255]]),
    "8 of 16 bits": (deep([[0, 7, 255]], np.uint16), [[0, 7, 255]]),
    "32 bits": (deep([[0, 65535]], np.int32), [[0, 255]]),
    "negative": (deep([[-1000, 0, 1000]], np.int32), [[0, 128, 255]]),
    "float from 0 to 1": (deep([[0, 0.5, 1]], np.float32), [[0, 128, 255]]),
    "float to 255": (deep([[0, 100.4, 255]], np.float32), [[0, 100, 255]]),
    "float beyond": (deep([[-2, 0, 2]], np.float32), [[0, 128, 255]]),
    "palette": (palette(), [[[255, 0, 0], [0, 0, 255]]]),
    "palette with transparency": (palette(0), [[[255, 255, 255], [0, 0, 255]]]),
    "grey palette": (encoded(Image.fromarray(GREY).quantize(8)), GREY.tolist()),
    "CMYK": (encoded(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF"), [[[255, 0, 0]]]),
    "opaque": (encoded(rgba(10, 20, 30, 255)), [[[10, 20, 30]]]),
    "transparent": (encoded(rgba(0, 0, 0, 0)), [[[255, 255, 255]]]),
    "half transparent": (encoded(rgba(255, 0, 0, 128)), [[[255, 127, 127]]]),
    "transparent WebP": (encoded(rgba(0, 0, 0, 0), "WEBP", lossless=True), [[[255, 255, 255]]]),
    "grey and alpha": (encoded(Image.fromarray(np.array([[[9, 0], [9, 255]]], np.uint8), "LA")), [[255, 9]]),
    "a transparent grey": (encoded(Image.fromarray(np.array([[7, 9]], np.uint8)), transparency=7), [[255, 9]]),
    **{f"first frame of {kind}": (frames(kind), [[10, 10]]) for kind in ("GIF", "PNG", "TIFF")},
    "first frame of WEBP": (frames("WEBP"), [[[10, 10, 10]] * 2]),
    **{f"PNG, EXIF {n}": (turned(n, "PNG"), np.stack([values] * 3, 2).tolist()) for n, values in UPRIGHT.items()},
    **{f"{kind}, EXIF 6": (turned(6, kind), np.stack([UPRIGHT[6]] * 3, 2).tolist()) for kind in ("WEBP", "TIFF")},
}


@pytest.mark.parametrize("kind", SHOWN)
def test_a_picture_is_as_a_viewer_shows_it(kind: str) -> None:
    picture, expected = SHOWN[kind]
    assert as_trained(picture) == expected
    height, width = np.shape(expected)[:2]
    assert head_of(picture).size == (width, height), "known before it is decoded"


def test_a_jpeg_from_a_telephone_stands_upright() -> None:
    values = np.zeros((16, 32), np.uint8)
    values[:8] = 240
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the right
    upright = np.array(as_trained(encoded(Image.fromarray(values), "JPEG", exif=exif, quality=95)))
    assert upright.shape == (32, 16) and upright[:, 9:].min() > 200 > 60 > upright[:, :7].max()


@pytest.mark.parametrize(
    ("background", "expected"),
    [("white", [[255, 9]]), ("black", [[0, 9]]), ("#808080", [[128, 9]]), ([255, 0, 0], [[[255, 0, 0], [9, 9, 9]]])],
)
def test_transparent_pictures_lie_on_the_background(background: Any, expected: Any) -> None:
    grey = Image.fromarray(np.array([[[9, 0], [9, 255]]], np.uint8), "LA")
    assert as_trained(encoded(grey), background) == expected


def test_one_rule_for_all_deep_pictures_of_a_set() -> None:
    dark, bright = deep([[0, 100]], np.uint16), deep([[0, 4000]], np.uint16)
    levels = levels_of(map(head_of, (dark, bright)))
    assert levels == {"I": (0.0, 4095.0)}
    assert [np.asarray(shown(each, True, levels, "white")).max() for each in (dark, bright)] == [6, 249]


WHOLE = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)))
REFUSED = {
    "signed bytes": (tiff(np.array([[0, 200]], np.uint8), sample_format=2), "8 bits are signed"),
    "truncated": (WHOLE[: len(WHOLE) // 2], "truncated"),
    "empty": (b"", "it is empty"),
    "text": (b"hello, I am no picture", "no picture that Pillow reads"),
    "zero-sized": (b"P5\n0 5\n255\n", "no picture|0x5"),
    "not finite": (deep([[0, np.nan]], np.float32), "not finite"),
    "LAB": (encoded(Image.new("LAB", (2, 2)), "TIFF"), "save it as RGB"),
    "huge": (b"P5\n60000 60000\n255\n", "pixels: make it smaller"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_picture_that_cannot_be_shown_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    """Without a wait or gigabytes, too, and beside good ones."""
    picture, why = REFUSED[kind]
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "data" / name / f"{i}.png").write_bytes(WHOLE)
    (tmp_path / "data" / "dog" / "bad.png").write_bytes(picture)
    with pytest.raises(DataError, match=rf"1 picture of .*dog/bad\.png: .*({why}).*Restore"):
        folder(str(tmp_path / "data"), 0, str(tmp_path / "cache"), size=8)
    assert not list((tmp_path / "cache").glob("*.safetensors*"))


def test_huge_is_told_from_the_head_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "MOST_PIXELS", 40 * 40 - 1)
    with pytest.raises(ValueError, match="it is 40x40, more than 1,599 pixels"):
        head_of(WHOLE[:60])
