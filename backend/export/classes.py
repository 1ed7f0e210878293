"""Which classes does a data set have, and which number has a label? From the labeling config. Pure.

Numbers follow the order of the config, so they stay the same from one export to the next, whatever was annotated
meanwhile. 0 is the background: what no region covers, and what a label for the background covers. `IGNORED` is what
nobody should learn from or be measured on: labels that were named so, regions without a label, and labels that the
config no longer has. None of these is known to be background.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from backend.errors import ExportError
from backend.labeling.controls import LabelConfig, MaskControl
from backend.labeling.reader import parse_label_config
from backend.labeling.xml import parse_xml, tag

BACKGROUND = 0
IGNORED = 65_535
"""In label maps; formats write their own number for it."""
MOST_CLASSES = 10_000

_MASKS = ("brush", "bitmask", "polygon")
_DRAWING = frozenset((*_MASKS, "rectangle", *(f"{kind}labels" for kind in (*_MASKS, "rectangle"))))


@dataclass(frozen=True)
class Classes:
    """The classes of a data set.

    Attributes:
        names: In the order of the config; the first has number 1.
        background: Labels that say that nothing is there.
        ignored: Labels that were named to be ignored.
    """

    names: tuple[str, ...]
    background: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()

    @cached_property
    def _numbers(self) -> dict[str, int]:
        numbers = {name: number for number, name in enumerate(self.names, 1)}
        return {**dict.fromkeys(self.background, BACKGROUND), **numbers, **dict.fromkeys(self.ignored, IGNORED)}

    def number_of(self, labels: Sequence[str]) -> int:
        """Return the number of a region with these labels: of several, that which is first in the config."""
        numbers = [self._numbers.get(label, IGNORED) for label in labels] or [IGNORED]
        named = [number for number in numbers if number not in (BACKGROUND, IGNORED)]
        return min(named or numbers)


def read_config(xml: str) -> LabelConfig:
    """Read a labeling config for what people draw with, also where it is not predicted (`predict="false"`).

    Raises:
        LabelConfigError: If nothing in it draws.
    """
    root = parse_xml(xml)
    for element in root.iter():
        if tag(element) in _DRAWING:
            for name in [name for name in element.attrib if name.lower() == "predict"]:
                del element.attrib[name]
    return parse_label_config(ET.tostring(root, encoding="unicode"))


def drawing_controls(config: LabelConfig, names: Sequence[str] = ()) -> tuple[MaskControl, ...]:
    """Return the controls whose regions are exported.

    Args:
        config: Of the project.
        names: Which ones. If empty, all that draw masks; boxes only for an image that has nothing else, as a box is
            a poor mask.

    Raises:
        ExportError: If there is no control of a name.
    """
    drawing = [control for control in config.controls if control.kind != "choices"]
    there = {control.from_name for control in drawing}
    if missing := sorted(set(names) - there):
        raise ExportError(
            f"no control that draws is called {', '.join(missing)}; there are: {', '.join(sorted(there))}"
        )
    if names:
        return tuple(control for control in drawing if control.from_name in names)
    with_masks = {control.to_name for control in drawing if _draws_masks(control)}
    chosen = tuple(control for control in drawing if _draws_masks(control) or control.to_name not in with_masks)
    if not chosen:
        raise ExportError("the project's labeling config has no control that draws")
    return chosen


def classes_of(controls: Iterable[MaskControl], ignore: Sequence[str] = ()) -> Classes:
    """Return the classes of controls: all their labels, each once, in the order of the config.

    Args:
        controls: With labels; see `MaskControl.for_task`.
        ignore: Labels whose pixels are to be ignored.

    Raises:
        ExportError: If a label to be ignored is none, or there are too many.
    """
    labels = [label for control in controls for label in control.labels if not label.is_rival]
    there = dict.fromkeys(label.value for label in labels)
    if missing := sorted(set(ignore) - set(there)):
        raise ExportError(f"no label is called {', '.join(missing)}; there are: {', '.join(there)}")
    named = dict.fromkeys(label.value for label in labels if not label.is_background)
    background = frozenset(there) - frozenset(named)
    names = tuple(name for name in named if name not in ignore)
    if len(names) > MOST_CLASSES:
        raise ExportError(f"expected at most {MOST_CLASSES:,} labels, got {len(names):,}")
    return Classes(names, background - frozenset(ignore), frozenset(ignore))


def _draws_masks(control: MaskControl) -> bool:
    return control.kind.removesuffix("labels") in _MASKS
