"""How a control says that it is to be answered: its attributes, and what holds where it says nothing. Pure.

Every reader of an attribute raises `LabelConfigError` for what contradicts itself, with the tag as it is and as it
could be, or for what is beyond a limit.
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

from backend.labeling.controls import (
    MAX_LABEL_CHARS,
    MAX_OTHERS,
    MAX_PARTS,
    USUAL_PARTS,
    Area,
    ControlKind,
    LabelError,
    LabelRules,
    MaskLabel,
    Others,
    Refining,
    make_label,
    parse_score,
)
from backend.labeling.xml import attribute, attributes, contradiction, shown, too_much
from clipdiy.config import PUBLISHED_TEMPLATE
from clipdiy.errors import VocabularyError
from clipdiy.labels import USUAL
from clipdiy.others.words import AUTO, NONE, parse_words

MAX_TEMPLATES = 100
"""Of one control; ImageNet's well-known ones are 80."""
MAX_TEMPLATE_CHARS = 300
MAX_PLACES = 3
"""How often `{}` stands in one template."""
_REFINEMENTS = {"pamr": True, "true": True, "none": False, "false": False}


class Steering:
    """Reads attributes of controls. Where several elements make one control, the first that says something counts."""

    def __init__(
        self,
        templates: tuple[str, ...],
        scales: Sequence[int] | None,
        refining: Refining,
        others: Others | None,
        usual_stuff: bool = False,
    ) -> None:
        """Take what holds for controls that say nothing, and what the service can do.

        Args:
            templates: Texts that phrases are put into.
            scales: Crop sizes that are encoded; `None` takes any.
            refining: Whether the service refines masks.
            others: What competes with labels.
            usual_stuff: Labels whose words usually mean stuff are stuff.
        """
        self._templates = templates
        self._scales = None if scales is None else tuple(scales)
        self._refining = refining
        self._others = others
        self._usual_stuff = usual_stuff

    def rules(self, elements: Sequence[ET.Element]) -> LabelRules:
        """Read what holds for all labels that do not say otherwise."""
        templates = self._first(elements, "prompt", _read_templates)
        threshold = self._first(elements, "score_threshold", _read_score)
        min_area = self._first(elements, "min_area", _read_area)
        usual_stuff = self._first(elements, "stuff", _read_stuff, self._usual_stuff)
        return LabelRules(templates or self._templates, threshold or 0.0, min_area or Area(), usual_stuff)

    def scales(self, elements: Sequence[ET.Element]) -> tuple[int, ...] | None:
        """Read `model_scales`: crop sizes, largest first; `None` means all."""
        scales: tuple[int, ...] | None = self._first(elements, "model_scales", self._read_scales)
        return scales

    def refine(self, elements: Sequence[ET.Element]) -> bool:
        """Read `refine`: whether edges follow the picture, where the service can do that."""
        return bool(self._first(elements, "refine", self._read_refinement, self._refining != "asked"))

    def tolerance_px(self, elements: Sequence[ET.Element]) -> float | None:
        """Read `tolerance`: how far a polygon may lie from the edge of its mask."""
        tolerance: float | None = self._first(elements, "tolerance", _read_tolerance)
        return tolerance

    def max_parts(self, elements: Sequence[ET.Element], kind: ControlKind) -> int | None:
        """Read `parts` and `max_parts`: whether each connected part is a region, and how many there may be.

        Raises:
            LabelConfigError: If polygons or boxes are to be one region, or a number is said of parts that are none.
        """
        separate: bool | None = self._first(elements, "parts", _read_parts)
        most: int | None = self._first(elements, "max_parts", _read_max_parts)
        if kind.removesuffix("labels") not in ("brush", "bitmask"):
            if separate is False and kind != "choices":
                raise contradiction(
                    elements[0], "a polygon or a box is one part, so parts cannot be together", parts="separate"
                )
            return None
        if most is not None and not separate:
            raise contradiction(elements[0], "max_parts is of parts that are separate", parts="separate")
        return (most or USUAL_PARTS) if separate else None

    def others(self, elements: Sequence[ET.Element]) -> Others | None:
        """Read `others`: what competes with the labels and stays empty."""
        others: Others | None = self._first(elements, "others", self._read_others, self._others)
        return others

    def learns(self, elements: Sequence[ET.Element]) -> bool:
        """Read `learn`: whether corrections of its masks may change later ones."""
        return bool(self._first(elements, "learn", _read_learn, True))

    def label(self, element: ET.Element, rules: LabelRules) -> MaskLabel | None:
        """Read a label's tag; see `make_label`."""
        given = attributes(element)
        try:
            return make_label(given, rules)
        except LabelError as err:
            sentence = f"{err.attribute} of the label {shown(given.get('value', ''))}: {err.problem}"
            better = _BETTER.get(err.attribute)
            if better is None:
                raise too_much(element, sentence) from err
            raise contradiction(element, sentence, **{err.attribute: better(given[err.attribute])}) from err

    def _first(self, elements: Sequence[ET.Element], name: str, read: Any, otherwise: Any = None) -> Any:
        """Read an attribute from the first element that has it, and is not empty; `otherwise` if none has."""
        for element in elements:
            text = (attribute(element, name) or "").strip()
            if text:
                return read(element, text)
        return otherwise

    def _read_scales(self, element: ET.Element, text: str) -> tuple[int, ...] | None:
        known = self._scales
        example = ",".join(map(str, known or (256, 128)))
        parts = [part.strip() for part in text.split(",")]
        if not all(part.isdecimal() and len(part) < 9 for part in parts):
            raise contradiction(
                element,
                f'model_scales is a list of crop sizes such as "{example}", got {shown(text)}',
                model_scales=example,
            )
        chosen = {int(part) for part in parts}
        if known is None:
            return tuple(sorted(chosen, reverse=True))
        if not chosen <= set(known):
            possible = ",".join(str(scale) for scale in known if scale in chosen) or example
            raise contradiction(
                element,
                f"model_scales can be some of {example}, which are encoded; got {shown(text)}",
                model_scales=possible,
            )
        kept = tuple(scale for scale in known if scale in chosen)
        return None if kept == known else kept

    def _read_refinement(self, element: ET.Element, text: str) -> bool:
        if text.lower() not in _REFINEMENTS:
            possible = "none" if self._refining == "never" else "pamr"
            raise contradiction(element, f'refine is "pamr" or "none", got {shown(text)}', refine=possible)
        wanted = _REFINEMENTS[text.lower()]
        if wanted and self._refining == "never":
            raise contradiction(
                element,
                "refine asks for what this service does not do: it has to be started with CLIPDIY_REFINE=asked",
                refine="none",
            )
        # Where nothing is refined there is nothing to leave out, and the config means the same.
        return wanted or self._refining == "never"

    def _read_others(self, element: ET.Element, text: str) -> Others | None:
        if text.lower() in (AUTO, NONE):
            return Others() if text.lower() == AUTO else None
        try:
            words = parse_words(text)
        except VocabularyError as err:
            raise contradiction(element, f"{err}; or none for no others", others=NONE) from err
        if len(words) > MAX_OTHERS:
            raise too_much(element, f"expected at most {MAX_OTHERS} others, got {len(words):,}")
        for word in words:
            if len(word) > MAX_LABEL_CHARS:
                raise too_much(element, f"expected others of at most {MAX_LABEL_CHARS:,} characters, got {len(word):,}")
        return Others(words)


def _read_templates(element: ET.Element, text: str) -> tuple[str, ...]:
    templates = tuple(part.strip() for part in text.split("|"))
    if len(templates) > MAX_TEMPLATES or any(len(template) > MAX_TEMPLATE_CHARS for template in templates):
        raise too_much(
            element, f"prompt: expected at most {MAX_TEMPLATES} templates of {MAX_TEMPLATE_CHARS} characters each"
        )
    if any(template.count("{}") > MAX_PLACES for template in templates):
        raise too_much(element, f"prompt: expected {{}} at most {MAX_PLACES} times in a template")
    if not all("{}" in template for template in templates):
        better = "|".join(part if "{}" in part else f"{part} {{}}" for part in templates if part)
        raise contradiction(
            element,
            'prompt needs {} where the label goes, in every part between "|"',
            prompt=better or PUBLISHED_TEMPLATE,
        )
    return templates


def _read_score(element: ET.Element, text: str) -> float:
    try:
        return parse_score(text)
    except ValueError as err:
        raise contradiction(element, f"score_threshold: {err}", score_threshold=_better_score(text)) from err


def _read_area(element: ET.Element, text: str) -> Area:
    try:
        return Area.parse(text)
    except ValueError as err:
        raise contradiction(element, f"min_area: {err}", min_area=_better_area(text)) from err


def _read_learn(element: ET.Element, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise contradiction(element, f'learn is "true" or "false", got {shown(text)}', learn="false")
    return text.lower() == "true"


def _read_stuff(element: ET.Element, text: str) -> bool:
    if text.lower() not in (USUAL, NONE):
        raise contradiction(
            element,
            f'stuff of a control is "usual" (labels whose words usually mean it) or "none", got {shown(text)}; of a '
            'single label it is "true" or "false"',
            stuff=USUAL,
        )
    return text.lower() == USUAL


def _read_parts(element: ET.Element, text: str) -> bool:
    if text.lower() not in ("separate", "together"):
        raise contradiction(element, f'parts is "separate" or "together", got {shown(text)}', parts="separate")
    return text.lower() == "separate"


def _read_max_parts(element: ET.Element, text: str) -> int:
    if not (text.isdecimal() and len(text) < 9 and 1 <= int(text) <= MAX_PARTS):
        raise contradiction(
            element, f"max_parts is a number from 1 to {MAX_PARTS}, got {shown(text)}", max_parts=str(USUAL_PARTS)
        )
    return int(text)


def _read_tolerance(element: ET.Element, text: str) -> float:
    try:
        pixels = Area.parse(text.lower().removesuffix("px") + "px").amount
    except ValueError as err:
        raise contradiction(element, f"tolerance is a number of pixels: {err}", tolerance="1") from err
    return pixels


def _better_score(text: str) -> str:
    """Guess what was meant: 60 may have been 0.6."""
    try:
        number = float(text.strip().removesuffix("%"))
    except ValueError:
        return "0.5"
    return f"{number / 100:g}" if 1 < number <= 100 else "0.5"


def _better_area(text: str) -> str:
    """Guess what was meant: 200 may have been pixels."""
    try:
        number = float(text)
    except ValueError:
        return "200px"
    return f"{number:g}px" if 1 < number < 1e12 else "0.001"


def _better_truth(_text: str) -> str:
    return "true"


_BETTER = {"threshold": _better_score, "min_area": _better_area, "stuff": _better_truth}
