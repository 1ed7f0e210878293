"""Where does it fail, and what does it take for what? Pictures of single results and of the confusion matrix."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from clipdiy.draw import (
    GREY,
    INK,
    LINE,
    WHITE,
    Colour,
    Pixels,
    draw_text,
    font,
    overlay,
    palette,
)
from clipdiy.evaluate.confusion import Counts, confusion_matrix, quality
from clipdiy.evaluate.datasets.sample import IGNORE
from clipdiy.evaluate.evaluator import Seen
from clipdiy.vocabulary import BACKGROUND

CELL_LONG_PX = 420
PAD, TEXT_PX, SMALL_PX = 22, 17, 14
IGNORED_COLOUR = (235, 235, 235)
LEGEND_PX = 26

MATRIX_CELL_PX = (14, 44)  # cells lie between these, so that 20 classes and 80 classes can both be read
MATRIX_SIDE_PX = 1100
CONFUSIONS_NAMED = 12


def comparison_panel(seen: Seen, names: Sequence[str], title: str) -> Image.Image:
    """Draw photo, truth and prediction side by side, and the IoU of every class that is in one of them.

    Args:
        seen: The picture.
        names: Class names, background first.
        title: Caption above.
    """
    colours = np.concatenate([palette(len(names)), np.array([IGNORED_COLOUR], np.uint8)])
    counts = confusion_matrix(seen.truth, seen.prediction, len(names))
    found = quality(counts)
    present = [int(c) for c in np.flatnonzero(~np.isnan(found.iou))]
    present.sort(key=lambda c: (c == 0, -int(counts[c].sum()), c))
    # The colours that are told apart best go to what is there.
    named = [c for c in present if c != 0]
    colours[named] = palette(len(named) + 1)[1:]
    height, width = seen.truth.shape
    scale = CELL_LONG_PX / max(height, width)
    cell_wh = max(1, round(width * scale)), max(1, round(height * scale))
    shown_truth = np.where(seen.truth == IGNORE, len(names), seen.truth).astype(np.uint16)
    pictures = [
        ("picture", Image.fromarray(seen.pixels)),
        ("truth", overlay(seen.pixels, shown_truth, colours)),
        ("prediction", overlay(seen.pixels, seen.prediction, colours)),
    ]
    sheet_w = max(4 * PAD + 3 * cell_wh[0], 760)
    columns = max(1, (sheet_w - PAD) // 240)
    lines = -(-len(present) // columns)
    top = PAD + TEXT_PX + 14
    sheet = Image.new("RGB", (sheet_w, top + SMALL_PX + 10 + cell_wh[1] + PAD + lines * LEGEND_PX + PAD // 2), WHITE)
    draw = ImageDraw.Draw(sheet)
    draw_text(draw, (PAD, PAD - 4), f"{title} · mIoU {100 * found.miou:.1f}", TEXT_PX, INK, sheet_w - 2 * PAD)
    for i, (caption, picture) in enumerate(pictures):
        x, y = PAD + i * (cell_wh[0] + PAD), top + SMALL_PX + 10
        draw_text(draw, (x, top), caption, SMALL_PX, GREY)
        sheet.paste(picture.resize(cell_wh, Image.Resampling.LANCZOS), (x, y))
        draw.rectangle((x - 1, y - 1, x + cell_wh[0], y + cell_wh[1]), outline=LINE)
    legend_top = top + SMALL_PX + 10 + cell_wh[1] + PAD
    column_px = (sheet_w - PAD) // columns
    for i, position in enumerate(present):
        x, y = PAD + i % columns * column_px, legend_top + i // columns * LEGEND_PX
        red, green, blue = (int(value) for value in colours[position])
        draw.rounded_rectangle((x, y + 1, x + 15, y + 16), 4, (red, green, blue))
        note = "" if counts[position].any() else " (not in the truth)"
        if not counts[:, position].any():
            note = " (not found)"
        text = f"{names[position]} {100 * found.iou[position]:.0f}{note}"
        draw_text(draw, (x + 22, y), text, SMALL_PX, INK, column_px - 34)
    return sheet


def confusion_picture(counts: Counts, names: Sequence[str], title: str) -> Image.Image:
    """Draw a confusion matrix: each row is what became of the pixels of one true class, as shares of them.

    Args:
        counts: (C, C) int64, truth in rows.
        names: Class names, background first.
        title: Caption above.
    """
    classes = len(names)
    cell = int(np.clip(MATRIX_SIDE_PX // classes, *MATRIX_CELL_PX))
    text_px = min(SMALL_PX + 2, cell - 2)
    rows = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(rows, 1)
    # The square root lets confusions of one per cent be seen.
    levels = np.rint(np.sqrt(shares) * 255).astype(np.uint8)
    heat: Pixels = cv2.applyColorMap(255 - levels, cv2.COLORMAP_BONE)[..., ::-1].astype(np.uint8)
    heat[rows[:, 0] == 0] = WHITE  # nothing to say about a class that the truth does not have
    name_px = round(max(font(text_px).getlength(name) for name in names)) + 12
    side = cell * classes
    worst = _named_confusions(counts, names)
    list_px = 380
    origin_x, origin_y = PAD + name_px, PAD + TEXT_PX + 20 + SMALL_PX + 6
    sheet = Image.new("RGB", (origin_x + side + PAD + list_px + PAD, origin_y + max(side + name_px, 260) + PAD), WHITE)
    draw = ImageDraw.Draw(sheet)
    draw_text(draw, (PAD, PAD - 4), title, TEXT_PX, INK)
    draw_text(
        draw, (PAD, PAD + TEXT_PX + 4), "rows: true class, columns: predicted; share of the true pixels", SMALL_PX, GREY
    )
    sheet.paste(Image.fromarray(heat).resize((side, side), Image.Resampling.NEAREST), (origin_x, origin_y))
    for offset in range(0, side + 1, cell):
        draw.line((origin_x + offset, origin_y, origin_x + offset, origin_y + side), LINE)
        draw.line((origin_x, origin_y + offset, origin_x + side, origin_y + offset), LINE)
    if cell >= 26:
        for row, col in zip(*np.nonzero(shares >= 0.005), strict=True):
            ink: Colour = WHITE if shares[row, col] > 0.35 else INK
            number = f"{100 * shares[row, col]:.0f}"
            middle = origin_x + col * cell + (cell - font(11).getlength(number)) / 2
            draw.text((round(middle), origin_y + row * cell + cell // 2 - 7), number, ink, font(11))
    for i, name in enumerate(names):
        middle = origin_y + i * cell + (cell - text_px) // 2 - 1
        draw_text(draw, (round(origin_x - 8 - font(text_px).getlength(name)), middle), name, text_px, INK)
        strip = Image.new("RGB", (name_px, text_px + 4), WHITE)
        draw_text(ImageDraw.Draw(strip), (round(name_px - 6 - font(text_px).getlength(name)), 0), name, text_px, INK)
        turned = strip.transpose(Image.Transpose.ROTATE_90)
        sheet.paste(turned, (origin_x + i * cell + (cell - turned.width) // 2, origin_y + side + 4))
    x, y = origin_x + side + PAD, origin_y
    draw_text(draw, (x, y), "most pixels mistaken", TEXT_PX, INK)
    for i, line in enumerate(worst):
        draw_text(draw, (x, y + 30 + i * (SMALL_PX + 8)), line, SMALL_PX, GREY, list_px)
    return sheet


def _named_confusions(counts: Counts, names: Sequence[str]) -> list[str]:
    """Say which mistakes cost most pixels."""
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    total = max(1, int(mistakes.sum()))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:CONFUSIONS_NAMED]
    lines = []
    for row, col in zip(*np.unravel_index(order, mistakes.shape), strict=True):
        if mistakes[row, col]:
            lines.append(
                f"{names[row]} taken for {names[col]}: {100 * mistakes[row, col] / total:.1f} % of all mistakes"
            )
    return lines


def with_background(classes: Sequence[str]) -> tuple[str, ...]:
    """Return class names with the background at position 0."""
    return (BACKGROUND, *classes)
