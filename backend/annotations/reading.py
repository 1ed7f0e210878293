"""What stands in an annotation: Label Studio's results read back into masks. Pure.

Reading the list costs little and never fails: what is not a region of ours, or not possible, becomes a sentence. Masks
are decoded when they are asked for. Whoever can send an annotation can send anything, so every size is bounded before
anything of that size is made.
"""

import base64
import binascii
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from backend.errors import AnnotationError, RleError
from backend.labeling.controls import LabelConfig
from backend.outputs.box_geometry import box_corners, turn
from backend.outputs.brush import decode_mask
from backend.outputs.polygons import fill

MOST_REGIONS = 10_000
MOST_PX = 200_000_000
"""Of one region's picture."""
MOST_PX_TOGETHER = 20_000_000_000
"""Of all regions of an annotation: each is a mask of its picture's size for a moment."""
MOST_POINTS = 50_000
"""Of one polygon."""
MOST_CROSSINGS = 50_000_000
"""Rows that the edges of a polygon cross, all edges together."""
MOST_CODE = 20_000_000
"""Numbers of a brush's code, and letters of a bitmask's picture."""
MOST_SIDE = 1_000_000
PROBLEMS_SAID = 20
_NO_ID = 1 << 63
PAINTED = 128
"""Alpha from which a pixel is painted: brushes have soft edges."""
ELLIPSE_POINTS = 720

Kind = Literal["brush", "bitmask", "polygon", "rectangle", "ellipse"]
_KINDS: dict[str, Kind] = {
    "brush": "brush",
    "bitmask": "bitmask",
    "polygon": "polygon",
    "rectangle": "rectangle",
    "ellipse": "ellipse",
}


@dataclass(frozen=True)
class KeptRegion:
    """A region as a person left it, or as it was predicted.

    Attributes:
        region_id: Its id.
        control: `from_name` of what draws it.
        labels: Its values, in their order; a region may have none.
        page: `item_index`, `None` where the task has one picture.
        kind: In which form it is drawn.
        size_hw: Height and width of the picture it was drawn on.
        origin: `prediction`, `prediction-changed`, `manual` or what else Label Studio says.
        score: As predicted, `None` if it has none.
        value: Label Studio's `value`.
    """

    region_id: str
    control: str
    labels: tuple[str, ...]
    page: int | None
    kind: Kind
    size_hw: tuple[int, int]
    origin: str
    score: float | None
    value: Mapping[str, Any] = field(repr=False, default_factory=dict)

    def mask(self) -> NDArray[np.bool_]:
        """Return where it is painted, (H, W) bool.

        Raises:
            AnnotationError: If its form is damaged.
        """
        try:
            return _READERS[self.kind](self.value, self.size_hw)
        except (RleError, AnnotationError, KeyError, TypeError, ValueError, OverflowError) as err:
            raise AnnotationError(f"region {self.region_id[:40]!r} ({self.kind}) cannot be read: {err}") from err


@dataclass(frozen=True)
class KeptChoices:
    """What was chosen for a picture, or a page of it.

    Attributes:
        control: `from_name`.
        values: The choices.
        page: `item_index`.
    """

    control: str
    values: tuple[str, ...]
    page: int | None


@dataclass(frozen=True)
class KeptRegions:
    """Everything that an annotation says of pictures.

    Attributes:
        regions: In their order.
        problems: A sentence for each that was left out, though it looked like one; the first `PROBLEMS_SAID`.
        choices: Of whole pictures.
    """

    regions: tuple[KeptRegion, ...] = ()
    problems: tuple[str, ...] = ()
    choices: tuple[KeptChoices, ...] = ()


def read_regions(result: object, config: LabelConfig | None = None) -> KeptRegions:
    """Read the results of an annotation or of a prediction.

    Args:
        result: Label Studio's list; anything.
        config: If given, regions of other controls than its own are left out silently.
    """
    if not isinstance(result, list):
        return KeptRegions(problems=() if result is None else (f"expected a list, got {type(result).__name__}",))
    named = _labels_by_region(result)
    drawn = None if config is None else {control.from_name for control in config.controls}
    regions: list[KeptRegion] = []
    choices: list[KeptChoices] = []
    problems: list[str] = []
    pixels = 0
    for entry in result:
        if not isinstance(entry, Mapping):
            problems.append(f"expected an object, got {type(entry).__name__}")
            continue
        kind = _kind_of(entry)
        if kind is None:
            choices += _choices_of(entry)
            continue
        if drawn is not None and entry.get("from_name") not in drawn:
            continue
        if len(regions) == MOST_REGIONS:
            problems.append(f"more than {MOST_REGIONS:,} regions")
            break
        try:
            region = _region(entry, kind, named)
        except AnnotationError as err:
            problems.append(str(err))
            continue
        pixels += region.size_hw[0] * region.size_hw[1]
        if pixels > MOST_PX_TOGETHER:
            problems.append(f"its regions have more than {MOST_PX_TOGETHER:,} pixels together")
            break
        regions.append(region)
    return KeptRegions(tuple(regions), tuple(problems[:PROBLEMS_SAID]), tuple(choices))


def _kind_of(entry: Mapping[str, Any]) -> Kind | None:
    """Return in which form a result draws; `None` for relations, texts, choices, labels of a shape."""
    kind = entry.get("type")
    return _KINDS.get(kind.removesuffix("labels")) if isinstance(kind, str) else None


def _choices_of(entry: Mapping[str, Any]) -> Iterable[KeptChoices]:
    value = entry.get("value")
    if entry.get("type") == "choices" and isinstance(value, Mapping) and isinstance(value.get("choices"), list):
        values = tuple(one for one in value["choices"] if isinstance(one, str))
        yield KeptChoices(_name(entry, "from_name"), values, _page(entry))


def _labels_by_region(result: list[Any]) -> dict[str, tuple[str, ...]]:
    """Return the labels that stand in results of their own (`Labels` beside `Brush`), by region."""
    found = {}
    for entry in result:
        if isinstance(entry, Mapping) and entry.get("type") == "labels" and isinstance(entry.get("value"), Mapping):
            found[_name(entry, "id")] = _texts(entry["value"].get("labels"))
    return found


def _region(entry: Mapping[str, Any], kind: Kind, named: Mapping[str, tuple[str, ...]]) -> KeptRegion:
    """Read one result.

    Raises:
        AnnotationError: If it cannot be a region.
    """
    region_id = _name(entry, "id")
    where = f"region {region_id[:40]!r} ({kind})"
    size_hw = (_side(entry, "original_height", where), _side(entry, "original_width", where))
    if size_hw[0] * size_hw[1] > MOST_PX:
        raise AnnotationError(f"{where} is of a picture of {size_hw[1]} x {size_hw[0]} pixels, more than {MOST_PX:,}")
    if entry.get("image_rotation") not in (None, 0):
        raise AnnotationError(f"{where} was drawn on a turned picture: that is not supported")
    value = entry.get("value")
    if not isinstance(value, Mapping):
        raise AnnotationError(f"{where} has no value")
    labels = _texts(value.get(str(entry.get("type")))) or named.get(region_id, ())
    origin = entry.get("origin")
    return KeptRegion(
        region_id,
        _name(entry, "from_name"),
        labels,
        _page(entry),
        kind,
        size_hw,
        origin if isinstance(origin, str) else "manual",
        _score(entry.get("score")),
        value,
    )


def _name(entry: Mapping[str, Any], key: str) -> str:
    """Return an id or a name; a text without letters for what can be neither."""
    name = entry.get(key)
    return name if isinstance(name, str) else str(name) if isinstance(name, int) and abs(name) < _NO_ID else ""


def _score(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # JSON has integers that no float can hold.
    return float(value) if is_number and -_NO_ID < value < _NO_ID else None  # type: ignore[operator, arg-type]


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _page(entry: Mapping[str, Any]) -> int | None:
    page = entry.get("item_index")
    return page if isinstance(page, int) and not isinstance(page, bool) and 0 <= page < MOST_SIDE else None


def _side(entry: Mapping[str, Any], name: str, where: str) -> int:
    side = entry.get(name)
    if isinstance(side, float) and side.is_integer():
        side = int(side)
    if not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= MOST_SIDE:
        raise AnnotationError(f"{where} has no {name} from 1 to {MOST_SIDE:,}")
    return side


def _numbers(value: Mapping[str, Any], *names: str) -> list[float]:
    """Return numbers by their names.

    Raises:
        AnnotationError: If one is missing, or none.
    """
    found = []
    for name in names:
        number = value.get(name, 0 if name == "rotation" else None)
        if not isinstance(number, int | float) or isinstance(number, bool) or not math.isfinite(number):
            raise AnnotationError(f"{name} is no number")
        if abs(number) > MOST_SIDE:
            raise AnnotationError(f"{name} is far outside of the picture")
        found.append(float(number))
    return found


def _brush(value: Mapping[str, Any], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    rle = value.get("rle")
    if not isinstance(rle, list) or len(rle) > MOST_CODE:
        raise AnnotationError(f"its rle is no list of at most {MOST_CODE:,} numbers")
    return decode_mask(rle, size_hw) >= PAINTED


def _bitmask(value: Mapping[str, Any], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    url = value.get("imageDataURL")
    head, comma, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not comma or not head.startswith("data:image/png") or not head.endswith("base64") or len(data) > MOST_CODE * 4:
        raise AnnotationError("its imageDataURL is no PNG in base64")
    try:
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=["PNG"]) as image:
            if (image.height, image.width) != size_hw:
                raise AnnotationError(
                    f"its PNG has {image.width} x {image.height} pixels, expected {size_hw[1]} x {size_hw[0]}"
                )
            alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as err:
        raise AnnotationError(f"its PNG is damaged: {type(err).__name__}") from err
    return alpha >= PAINTED


def _polygon(value: Mapping[str, Any], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    points = value.get("points")
    if not isinstance(points, list) or len(points) > MOST_POINTS:
        raise AnnotationError(f"its points are no list of at most {MOST_POINTS:,}")
    percent = np.array(points, np.float64) if points else np.zeros((0, 2))
    if percent.ndim != 2 or percent.shape[1] != 2 or not np.isfinite(percent).all():
        raise AnnotationError("its points are no pairs of numbers")
    if np.abs(percent).max(initial=0) > MOST_SIDE:
        raise AnnotationError("its points lie far outside of the picture")
    return painted(percent * [size_hw[1] / 100, size_hw[0] / 100], size_hw)


def _rectangle(value: Mapping[str, Any], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    x, y, width, height, rotation = _numbers(value, "x", "y", "width", "height", "rotation")
    return painted(box_corners(x, y, width, height, rotation, size_hw), size_hw)


def _ellipse(value: Mapping[str, Any], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    x, y, across, down, rotation = _numbers(value, "x", "y", "radiusX", "radiusY", "rotation")
    angles = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS, endpoint=False)
    height, width = size_hw
    around = np.stack([across / 100 * width * np.cos(angles), down / 100 * height * np.sin(angles)], axis=1)
    return painted(around @ turn(rotation) + [x / 100 * width, y / 100 * height], size_hw)


def painted(points: NDArray[np.float64], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Paint a polygon, touching no more of the picture than it reaches.

    Args:
        points: (N, 2) float64, x and y in pixels; may lie outside.
        size_hw: Of the picture.

    Raises:
        AnnotationError: If it goes to and fro so often that painting it would take long.
    """
    mask = np.zeros(size_hw, np.bool_)
    if len(points) < 3:
        return mask
    height, width = size_hw
    inner = points.clip([-1, -1], [width + 1, height + 1])
    if np.abs(np.diff(inner[:, 1], append=inner[:1, 1])).sum() > MOST_CROSSINGS:
        raise AnnotationError(f"its edges cross more than {MOST_CROSSINGS:,} rows of pixels")
    left, top = np.floor(inner.min(axis=0)).astype(int).clip(0)
    right, bottom = (int(end) for end in np.ceil(inner.max(axis=0)).astype(int).clip(0, [width, height]))
    if right > left and bottom > top:
        mask[top:bottom, left:right] = fill(points - [left, top], (bottom - int(top), right - int(left)))
    return mask


_READERS = {
    "brush": _brush,
    "bitmask": _bitmask,
    "polygon": _polygon,
    "rectangle": _rectangle,
    "ellipse": _ellipse,
}
