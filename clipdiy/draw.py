"""From a segmentation to pictures for a person: an indexed PNG, and the photo with its masks and a legend."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clipdiy.errors import ShapeError

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

WHITE, INK, GREY, LINE = (255, 255, 255), (28, 30, 36), (110, 114, 124), (222, 224, 230)

OVERLAY_LONG_PX = (720, 1600)  # limits of an overlay's longer side; in smaller ones the legend could not be read
FILL = 0.45  # how much of the class colour covers the photo
INDEXED_CLASSES = 256  # what an 8-bit palette holds, background included

# Easy to tell apart, also side by side. Index 0 is the first label, not the background.
FIRST_COLOURS: tuple[Colour, ...] = (
    (230, 57, 70), (33, 132, 255), (255, 190, 11), (46, 176, 92), (156, 72, 219), (255, 122, 0), (0, 190, 205),
    (255, 96, 170), (137, 201, 36), (124, 86, 60), (72, 61, 190), (0, 128, 110), (206, 38, 150), (190, 155, 60),
    (122, 162, 255), (150, 20, 50), (120, 235, 190), (255, 165, 140), (90, 100, 30), (200, 150, 240),
)  # fmt: skip

# Pillow's built-in font holds little more than ASCII; these are looked for when a label needs more.
OTHER_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf",
    "NotoSansCJK-Regular.ttc", "NotoSansArabic-Regular.ttf",
)  # fmt: skip


@dataclass(frozen=True)
class LegendEntry:
    """One line of a legend.

    Attributes:
        name: The class.
        colour: Its colour.
        score: In [0, 1].
        area: Share of the picture, in [0, 1].
    """

    name: str
    colour: Colour
    score: float
    area: float


def palette(classes: int) -> Pixels:
    """Return a colour per position of a vocabulary: (classes, 3) uint8, RGB; the background's (position 0) is black.

    The same position always gets the same colour, however many there are.
    """
    colours: list[Colour] = [(0, 0, 0), *FIRST_COLOURS[: max(0, classes - 1)]]
    for i in range(len(colours), classes):
        # Steps of the golden ratio never come close to an earlier hue; lightness changes in another rhythm.
        red, green, blue = colorsys.hls_to_rgb(i * 0.6180339887 % 1, (0.42, 0.58, 0.7)[i % 3], (0.9, 0.55)[i // 3 % 2])
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return np.array(colours[:classes], np.uint8)


def label_image(label_map: NDArray[np.uint16], colours: Pixels) -> Image.Image:
    """Return a label map as an image whose pixel values are the positions in the vocabulary.

    Args:
        label_map: (H, W) uint16.
        colours: (C, 3) uint8, the palette.

    Returns:
        Mode `P` (8 bits, indexed) up to 256 classes with the background, else mode `I;16` (grey, 16 bits, no palette).

    Raises:
        ShapeError: If the map holds a position that has no colour.
    """
    if label_map.size and int(label_map.max()) >= len(colours):
        raise ShapeError(f"the label map holds position {int(label_map.max())}, and there are {len(colours)} colours")
    if len(colours) > INDEXED_CLASSES:
        return Image.fromarray(label_map)
    image = Image.fromarray(label_map.astype(np.uint8))
    image.putpalette(colours.tobytes())
    return image


def overlay(photo: Pixels, label_map: NDArray[np.uint16], colours: Pixels) -> Image.Image:
    """Lay the masks over the photo: each class tinted in its colour, with a thin outline.

    Args:
        photo: (h, w, 3) uint8, RGB; may be smaller than the label map.
        label_map: (H, W) uint16.
        colours: (C, 3) uint8.

    Returns:
        RGB, with the label map's aspect ratio, its longer side within `OVERLAY_LONG_PX`.
    """
    size_wh = overlay_size(label_map.shape[1], label_map.shape[0])
    canvas = _resize(photo, size_wh).astype(np.float32)
    line_px = max(size_wh) / 560
    for position in np.flatnonzero(np.bincount(label_map.ravel())):
        if position == 0:
            continue
        inside = _resize((label_map == position).astype(np.uint8) * 255, size_wh).astype(np.float32) / 255
        # Half way up the blurred step lies the border; a band around it is an antialiased line of even width.
        blurred = cv2.GaussianBlur(inside, (0, 0), line_px, borderType=cv2.BORDER_REPLICATE)
        line = np.clip(1.7 - 3.8 * np.abs(blurred - 0.5), 0, 1)
        alpha = np.maximum(inside * FILL, line)[..., None]
        canvas += alpha * (colours[position].astype(np.float32) - canvas)
    return Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8))


def overlay_size(width: int, height: int) -> tuple[int, int]:
    """Return width and height of the overlay of a photo."""
    smallest, largest = OVERLAY_LONG_PX
    scale = min(max(max(width, height), smallest), largest) / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def with_legend(image: Image.Image, entries: Sequence[LegendEntry], not_found: Sequence[str] = ()) -> Image.Image:
    """Put a legend under a picture: colour, class, score and area of each entry, in as many columns as fit.

    Args:
        image: RGB.
        entries: The classes in the picture, in the order in which they are shown.
        not_found: Names of the classes that were asked for and are not in the picture.
    """
    width = max(image.width, 320)
    size = max(15, round(width / 62))
    pad, row_px = round(size * 1.1), round(size * 1.9)
    columns = max(1, (width - pad) // (size * 18))
    column_px = (width - pad) // columns - pad
    missing = f"not found: {', '.join(not_found)}" if not_found else ("" if entries else "nothing found")
    rows = -(-len(entries) // columns)
    height = 2 * pad + row_px * (rows + bool(missing)) - round(row_px - size * 1.4)
    sheet = Image.new("RGB", (width, image.height + height), WHITE)
    sheet.paste(image, ((width - image.width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    top = image.height + pad
    for i, entry in enumerate(entries):
        x, y = pad + i % columns * (column_px + pad), top + i // columns * row_px
        draw_legend_entry(draw, (x, y), entry, size, column_px)
    if missing:
        draw_text(draw, (pad, top + rows * row_px), missing, size, GREY, width - 2 * pad)
    return sheet


def draw_legend_entry(
    draw: ImageDraw.ImageDraw, xy: tuple[int, int], entry: LegendEntry, size: int, width: int
) -> None:
    """Draw one line: a patch of colour, the name, and score and area at the right edge."""
    x, y = xy
    side = round(size * 1.2)
    draw.rounded_rectangle((x, y, x + side, y + side), size // 4, entry.colour)
    numbers = f"score {entry.score:.2f}, {percent(entry.area)}"
    numbers_px = font(size).getlength(numbers)
    name_x = x + round(size * 1.7)
    draw_text(draw, (name_x, y), entry.name, size, INK, round(width - size * 2.2 - numbers_px))
    draw_text(draw, (round(x + width - numbers_px), y), numbers, size, GREY)


def percent(share: float) -> str:
    """Format a share for a person: `31 %`, below ten per cent with one more digit."""
    return f"{share:.0%}".replace("%", " %") if share >= 0.0995 else f"{share:.1%}".replace("%", " %")


def draw_text(
    draw: ImageDraw.ImageDraw,
    xy: tuple[int, int],
    text: str,
    size: int,
    colour: Colour = INK,
    max_px: int | None = None,
) -> None:
    """Write one line of text, cut off if it is wider than `max_px`."""
    text = " ".join(text.split())
    face = font_for(text, size)
    if max_px is not None and face.getlength(text) > max_px:
        while text and face.getlength(text + "…") > max_px:
            text = text[:-1]
        text = text.rstrip() + "…"
    draw.text(xy, text, colour, face)


@cache
def font(size: int) -> Font:
    """Return Pillow's built-in font at a size in pixels."""
    return ImageFont.load_default(size)


@lru_cache(maxsize=1000)
def font_for(text: str, size: int) -> Font:
    """Return a font that has all of the text's letters, built-in or installed; the built-in one if there is none."""
    if _can_write(font(size), text):
        return font(size)
    for name in OTHER_FONTS:
        try:
            face = ImageFont.truetype(name, size)
        except OSError:
            continue
        if _can_write(face, text):
            return face
    return font(size)


def _can_write(face: Font, text: str) -> bool:
    unknown = bytes(face.getmask("\uffff"))  # what the font draws for a letter that it does not have
    return all(letter.isspace() or bytes(face.getmask(letter)) != unknown for letter in set(text))


def _resize(pixels: Pixels, size_wh: tuple[int, int]) -> Pixels:
    """Resize (H, W) or (H, W, 3) uint8; by area when shrinking, so that nothing aliases."""
    shrink = pixels.shape[1] > size_wh[0]
    resized = cv2.resize(pixels, size_wh, interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)
    return resized.astype(np.uint8, copy=False)
