"""One picture of every step on the way to a segmentation, in the manner of figures 3 and 5 of the paper."""

import itertools

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from clipdiy.draw import (
    GREY,
    INK,
    LINE,
    WHITE,
    Pixels,
    draw_text,
    font,
    overlay,
    palette,
    percent,
)
from clipdiy.explanation import ExplainedPicture, ExplainedRegions, Explanation
from clipdiy.segmentation import Segmentation
from clipdiy.vocabulary import Label, Vocabulary

CELL_LONG_PX = 210
HEAD_LONG_PX = 330
MAX_CLASSES = 8
MAX_NAMED = 6  # regions whose names are written into the picture
TEXT_PX, SMALL_PX = 17, 14
PAD, NAME_PX = 28, 170


def explain_panel(
    photo: Pixels, explanation: Explanation, segmentation: Segmentation, vocabulary: Vocabulary, colours: Pixels
) -> Image.Image:
    """Draw photo, what the method saw of it, and the result; then one row per class with the map of every step.

    Steps of one scale share a range of colours. A small number in each map is its largest value. At most `MAX_CLASSES`
    classes are shown: what was found first, then what came closest, the background last.

    Args:
        photo: (h, w, 3) uint8, RGB.
        explanation: What `explain` gave.
        segmentation: What `segment` gave for the same photo and vocabulary.
        vocabulary: The vocabulary of both.
        colours: (C, 3) uint8, a colour per position.
    """
    height, width = segmentation.size_hw
    cell_wh, head_wh = _fit(width, height, CELL_LONG_PX), _fit(width, height, HEAD_LONG_PX)
    classes = shown_classes(explanation.closeness, segmentation)
    maps = [step.values.numpy()[classes] for step in explanation.steps]
    by_scale: dict[str, list[NDArray[np.float32]]] = {}
    for step, part in zip(explanation.steps, maps, strict=True):
        by_scale.setdefault(step.scale, []).append(part.ravel())
    ranges = {scale: _range(np.concatenate(parts)) for scale, parts in by_scale.items()}

    step_x, step_y = cell_wh[0] + PAD // 2, cell_wh[1] + PAD // 2
    caption_px = 2 * SMALL_PX + 22
    head_count = 2 + len(explanation.pictures)
    sheet_w = PAD * 2 + max(NAME_PX + step_x * len(maps) - PAD // 2, head_count * (head_wh[0] + PAD) - PAD)
    grid_top = PAD + TEXT_PX + 12 + head_wh[1] + PAD + caption_px
    sheet_h = grid_top + step_y * len(classes) + 2 * PAD + SMALL_PX
    sheet = Image.new("RGB", (sheet_w, sheet_h), WHITE)
    draw = ImageDraw.Draw(sheet)

    heads = [("photo", _picture(photo, head_wh))]
    heads += [(seen.caption, _seen(photo, seen, head_wh)) for seen in explanation.pictures]
    result = overlay(photo, segmentation.label_map, colours)
    heads.append(("result", result.resize(head_wh, Image.Resampling.LANCZOS)))
    for i, (caption, picture) in enumerate(heads):
        x = PAD + i * (head_wh[0] + PAD)
        draw_text(draw, (x, PAD), caption, TEXT_PX)
        _paste(sheet, draw, picture, (x, PAD + TEXT_PX + 12))

    for i, step in enumerate(explanation.steps):
        x = PAD + NAME_PX + i * step_x
        draw_text(draw, (x, grid_top - caption_px + 4), step.caption, TEXT_PX, INK, cell_wh[0])
        draw_text(draw, (x, grid_top - caption_px + TEXT_PX + 10), step.detail, SMALL_PX, GREY, cell_wh[0])
    for row, position in enumerate(classes):
        y = grid_top + row * step_y
        _row_caption(draw, (PAD, y), row_name(vocabulary.labels[position]), colours[position], segmentation, position)
        for i, (step, part) in enumerate(zip(explanation.steps, maps, strict=True)):
            place = PAD + NAME_PX + i * step_x, y
            _paste(sheet, draw, _heat(part[row], ranges[step.scale], cell_wh), place)
            _note(draw, place, f"{part[row].max():.3f}")
    bar_y, left = grid_top + len(classes) * step_y + PAD // 2, PAD + NAME_PX
    for scale, steps in itertools.groupby(explanation.steps, key=lambda step: step.scale):
        width_px = len(list(steps)) * step_x
        _colour_bar(sheet, draw, (left, bar_y), width_px - PAD // 2, ranges[scale])
        left += width_px
    return sheet


def row_name(label: Label) -> str:
    """Return what a class's row is called: stuff says so, as it competes with the background."""
    return f"{label.name} (stuff)" if label.stuff else label.name


def shown_classes(closeness: Tensor, segmentation: Segmentation) -> list[int]:
    """Choose what the panel shows: largest first, then the closest, at most `MAX_CLASSES`, the background last."""
    order = sorted(range(1, len(segmentation.area)), key=lambda c: (-segmentation.area[c], -float(closeness[c])))
    return [*order[: MAX_CLASSES - 1], 0]


def _fit(width: int, height: int, long_px: int) -> tuple[int, int]:
    """Return a size with the photo's aspect ratio; very long pictures are shown no narrower than a third."""
    scale = long_px / max(width, height)
    return max(long_px // 3, round(width * scale)), max(long_px // 3, round(height * scale))


def _range(values: NDArray[np.float32]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return low, high if high - low > 1e-6 else low + 1e-6


def _heat(values: NDArray[np.float32], limits: tuple[float, float], size_wh: tuple[int, int]) -> Image.Image:
    low, high = limits
    levels = np.clip(np.rint((values - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    # The values are resized, not their colours: mixed colours would stand for other values.
    levels = cv2.resize(levels, size_wh, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    coloured = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)
    return Image.fromarray(np.ascontiguousarray(coloured[..., ::-1]).astype(np.uint8, copy=False))


def _seen(photo: Pixels, seen: ExplainedPicture | ExplainedRegions, size_wh: tuple[int, int]) -> Image.Image:
    if isinstance(seen, ExplainedRegions):
        return _regions(photo, seen, size_wh)
    values = seen.values.numpy()
    if values.ndim == 2:
        return _heat(values, seen.limits, size_wh)
    return _picture(np.clip(np.rint(values * 255), 0, 255).astype(np.uint8), size_wh)


def _picture(photo: Pixels, size_wh: tuple[int, int]) -> Image.Image:
    return Image.fromarray(photo).resize(size_wh, Image.Resampling.LANCZOS)


def _regions(photo: Pixels, seen: ExplainedRegions, size_wh: tuple[int, int]) -> Image.Image:
    """Return the photo under the regions, the largest named."""
    regions = seen.regions.numpy()
    numbers, counts = np.unique(regions[regions > 0], return_counts=True)
    order = numbers[np.argsort(-counts, kind="stable")]
    # Colours by area: the largest few are told apart in every photo.
    rank = np.zeros(len(seen.names) + 1, np.uint16)
    rank[order] = np.arange(1, len(order) + 1)
    height, width = photo.shape[:2]
    placed = cv2.resize(rank[regions], (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint16, copy=False)
    picture = overlay(photo, placed, palette(len(order) + 1)).resize(size_wh, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    for number in order[:MAX_NAMED]:
        rows, cols = np.nonzero(regions == number)
        name = seen.names[number - 1]
        # In the middle of its pixels, but never beyond the edge.
        x = float(np.median(cols)) / regions.shape[1] * size_wh[0] - font(SMALL_PX).getlength(name) / 2 - 10
        y = float(np.median(rows)) / regions.shape[0] * size_wh[1] - SMALL_PX
        left = min(max(0, round(x)), max(0, size_wh[0] - round(font(SMALL_PX).getlength(name)) - 20))
        _note(draw, (left, min(max(0, round(y)), max(0, size_wh[1] - SMALL_PX - 14))), name)
    return picture


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, picture: Image.Image, xy: tuple[int, int]) -> None:
    sheet.paste(picture, xy)
    x, y = xy
    draw.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=LINE)


def _row_caption(
    draw: ImageDraw.ImageDraw,
    xy: tuple[int, int],
    name: str,
    colour: NDArray[np.uint8],
    segmentation: Segmentation,
    position: int,
) -> None:
    x, y = xy
    red, green, blue = (int(value) for value in colour)
    draw.rounded_rectangle((x, y + 2, x + 18, y + 20), 4, (red, green, blue))
    draw_text(draw, (x + 26, y), name, TEXT_PX, INK, NAME_PX - 40)
    area, score = float(segmentation.area[position]), float(segmentation.score[position])
    if area > 0:
        draw_text(draw, (x + 26, y + 26), f"area {percent(area)}", SMALL_PX, GREY)
        draw_text(draw, (x + 26, y + 26 + SMALL_PX + 5), f"score {score:.2f}", SMALL_PX, GREY)
    else:
        draw_text(draw, (x + 26, y + 26), "not found", SMALL_PX, GREY)


def _note(draw: ImageDraw.ImageDraw, xy: tuple[int, int], text: str) -> None:
    x, y = xy
    width = font(SMALL_PX).getlength(text)
    draw.rounded_rectangle((x + 5, y + 5, x + 15 + width, y + SMALL_PX + 12), 4, WHITE)
    draw_text(draw, (x + 10, y + 7), text, SMALL_PX)


def _colour_bar(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, xy: tuple[int, int], width: int, limits: tuple[float, float]
) -> None:
    x, y = xy
    ramp = np.linspace(0, 1, width, dtype=np.float32)[None, :].repeat(12, axis=0)
    _paste(sheet, draw, _heat(ramp, (0.0, 1.0), (width, 12)), xy)
    low, high = (f"{limit:.3f}" for limit in limits)
    draw_text(draw, (x, y + 18), low, SMALL_PX, GREY)
    draw_text(draw, (round(x + width - font(SMALL_PX).getlength(high)), y + 18), high, SMALL_PX, GREY)
