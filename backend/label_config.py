"""What a labeling config asks of us: which controls want masks, of which image, and in what words.

Pure: text in, dataclasses out. Free of torch, of HTTP and of settings, so that `/setup` can answer at once.
Held by `tests/unit/backend/test_label_config.py`.

What is read of a config

    <BrushLabels name="brush" toName="img">              one `MaskControl` per image that toName names
      <Label value="Sofa" predicted_values="sofa, couch"/>   several phrases, their embeddings averaged
      <Label value="Hund" alias="dog"/>                      Label Studio itself stores "dog" for this one
      <Label value="Background" alias="wall"/>               t0, asked for as "wall"
    </BrushLabels>
    <Image name="img" value="$photo"/>

Tags and attributes that are not known are left alone. Tag and attribute names count in any case, as in the browser.
"""

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal
from xml.sax.saxutils import quoteattr

from backend.errors import LabelConfigError
from clipdiy.config import PUBLISHED_TEMPLATE
from clipdiy.vocabulary import BACKGROUND, Label, Vocabulary, phrases_to_prompts

MAX_CONFIG_CHARS = 2_000_000
MAX_LABELS = 65_534
"""Positions are uint16 and 0 is the background; one is kept free."""

ControlKind = Literal["brushlabels"]
_KINDS: dict[str, ControlKind] = {"brushlabels": "brushlabels"}
_VARIABLE = re.compile(r"\$([^, ]+)")

WORKING_CONFIG = """\
<View>
  <Image name="img" value="$image"/>
  <BrushLabels name="brush" toName="img">
    <Label value="Cat"/>
    <Label value="Sofa" predicted_values="sofa, couch"/>
  </BrushLabels>
</View>"""


@dataclass(frozen=True)
class MaskLabel:
    """One label of a control.

    Attributes:
        value: What Label Studio stores in a result for this label: its alias if it has one, else its value.
        prompts: Whole texts for CLIP (`a photo of a cat`), at least one; several are averaged.
        is_background: The label stands for t0: its prompts describe what is no object, and it is never drawn.
    """

    value: str
    prompts: tuple[str, ...]
    is_background: bool = False


@dataclass(frozen=True)
class MaskControl:
    """One control that wants masks of one image.

    Attributes:
        from_name: Name of the control.
        to_name: Name of the image.
        data_key: Where the image is found in the task's data (`image` for `value="$image"`).
        kind: Type of the results, in Label Studio's words.
        labels: In the order of the config. Labels are positions: two of them may have one value.
        background: Prompts of t0.
    """

    from_name: str
    to_name: str
    data_key: str
    kind: ControlKind
    labels: tuple[MaskLabel, ...]
    background: tuple[str, ...]

    @cached_property
    def drawn(self) -> tuple[MaskLabel, ...]:
        """The labels that can become a region, in vocabulary order: the first is at position 1."""
        return tuple(label for label in self.labels if not label.is_background)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The control's own vocabulary: t0, then `drawn`."""
        t0 = Label(BACKGROUND, self.background)
        return Vocabulary((t0, *(Label(label.value, label.prompts) for label in self.drawn)))

    def label_at(self, position: int) -> MaskLabel | None:
        """Return the label at a position of the vocabulary, `None` for t0, which is not drawn.

        Raises:
            IndexError: If the vocabulary has no such position.
        """
        if not 0 <= position <= len(self.drawn):
            raise IndexError(f"position {position} is outside the vocabulary of {len(self.drawn) + 1}")
        return self.drawn[position - 1] if position else None

    @property
    def identity(self) -> str:
        """Everything of the control that decides a prediction, as stable JSON."""
        labels = [[label.value, list(label.prompts)] for label in self.drawn]
        return json.dumps([self.kind, self.from_name, self.to_name, self.data_key, list(self.background), labels])


@dataclass(frozen=True)
class LabelConfig:
    """What a labeling config asks of us.

    Attributes:
        controls: At least one, in the order of the config.
        skipped: One sentence for each control that looks like ours but cannot be served, for the log.
    """

    controls: tuple[MaskControl, ...]
    skipped: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """Everything of the config that decides predictions, as stable JSON: two configs with one identity are one.

        Colours, hotkeys, layout and skipped controls are not in it.
        """
        return "[" + ", ".join(control.identity for control in self.controls) + "]"


def parse_label_config(xml: str, *, template: str = PUBLISHED_TEMPLATE) -> LabelConfig:
    """Read a labeling config.

    A control that names an image, and labels, is served wherever it stands in the tree. One that asks for something we
    do not do (labels from the task's data, several pages, video) is skipped with a note as long as another one is
    left. One that contradicts itself is an error even then, because its author meant something else.

    Args:
        xml: The config. Document type declarations, and with them entities, are refused.
        template: Text the phrases are put into, `{}` standing for the phrase.

    Raises:
        LabelConfigError: If it is no XML, too long, contradicts itself, or has no control we can serve.
        VocabularyError: If the template has no `{}`.
    """
    root = _parse_xml(xml)
    candidates = [element for element in root.iter() if _tag(element) in _KINDS]
    named = [(name, element) for element in root.iter() if (name := _attribute(element, "name"))]
    objects = {name: element for name, element in named if _attribute(element, "toName") is None}
    uses = Counter(name for name, _ in named)
    controls: list[MaskControl] = []
    skipped: list[str] = []
    for element in candidates:
        name = _attribute(element, "name")
        if name and uses[name] > 1:
            raise _error(f"{uses[name]} tags are called {name!r}; every name may be used once")
        for made in _controls_of(element, objects, template):
            if isinstance(made, MaskControl):
                controls.append(made)
            else:
                skipped.append(made)
    if not controls:
        found = "; ".join(skipped) if skipped else f"found {_summary(root)}"
        raise _error(f"expected a BrushLabels control with labels and an Image; {found}")
    return LabelConfig(tuple(controls), tuple(skipped))


class _NoDoctype(ET.TreeBuilder):
    """Builds the tree, and stops at a document type declaration: entities can be declared nowhere else."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called by the parser before anything inside the declaration is read."""
        raise LabelConfigError("a labeling config has no document type declaration (<!DOCTYPE ...>); take it out")


def _parse_xml(xml: str) -> ET.Element:
    if len(xml) > MAX_CONFIG_CHARS:
        raise LabelConfigError(f"a labeling config may have {MAX_CONFIG_CHARS:,} characters, got {len(xml):,}")
    if not xml.strip():
        raise _error("the labeling config is empty")
    # The builder stops at declarations, so nothing can be expanded or fetched.
    parser = ET.XMLParser(target=_NoDoctype())
    try:
        parser.feed(xml)
        root: ET.Element = parser.close()
    except (ET.ParseError, ValueError) as err:
        if isinstance(err, LabelConfigError):
            raise
        raise _error(f"the labeling config is no XML: {err}") from err
    return root


def _controls_of(element: ET.Element, objects: dict[str, ET.Element], template: str) -> Iterator[MaskControl | str]:
    """Yield one control per image that the element names, or why there is none."""
    kind = _KINDS[_tag(element)]
    from_name = _attribute(element, "name") or ""
    to_names = [name.strip() for name in (_attribute(element, "toName") or "").split(",") if name.strip()]
    if not from_name or not to_names:
        opening = _opening(element)
        raise _error(f'{opening} needs name="..." and toName="..." (the name of an Image)')
    where = f"{_local_name(element)} {from_name!r}"
    if (_attribute(element, "value") or "").startswith("$"):
        yield f"{where} takes its labels from the task's data ({_attribute(element, 'value')}), which is not served"
        return
    labels, background = _labels_of(element, where, template)
    for to_name in to_names:
        if to_name not in objects:
            images = [name for name, tag in objects.items() if _tag(tag) == "image"]
            there = f"the images are called {_quoted(images)}" if images else "there is no Image at all"
            raise _error(f"{where} has toName={to_name!r}, but no image is called that; {there}")
        image = objects[to_name]
        if _tag(image) != "image":
            yield f"{where} is for {_local_name(image)} {to_name!r}, and only an Image can be served"
            continue
        if _attribute(image, "valueList") is not None:
            yield f"Image {to_name!r} has several pages (valueList), which are not served"
            continue
        variable = _VARIABLE.fullmatch((_attribute(image, "value") or "").strip())
        if variable is None:
            raise _error(
                f'Image {to_name!r} needs value="$..." naming the field of the task\'s data that holds the picture, '
                f"got {_opening(image)}"
            )
        yield MaskControl(from_name, to_name, variable[1], kind, labels, background)


def _labels_of(element: ET.Element, where: str, template: str) -> tuple[tuple[MaskLabel, ...], tuple[str, ...]]:
    """Return the labels inside a control and the prompts of t0."""
    labels = tuple(_label(tag, template) for tag in element.iter() if _tag(tag) == "label" and _is_used(tag))
    drawn = sum(not label.is_background for label in labels)
    if not drawn:
        besides = " besides the background" if labels else ""
        raise _error(f'{where} has no <Label value="..."/> in it{besides}')
    if drawn > MAX_LABELS:
        raise LabelConfigError(f"a control may have {MAX_LABELS:,} labels, {where} has {drawn:,}")
    background = tuple(prompt for label in labels if label.is_background for prompt in label.prompts)
    return labels, background or phrases_to_prompts((BACKGROUND,), (template,))


def _is_used(tag: ET.Element) -> bool:
    """A label with neither value nor alias is nothing a result could name; Label Studio passes it over too."""
    return bool((_attribute(tag, "value") or "").strip() or (_attribute(tag, "alias") or "").strip())


def _label(tag: ET.Element, template: str) -> MaskLabel:
    value, alias = _attribute(tag, "value") or "", _attribute(tag, "alias") or ""
    # The browser writes, and the server checks for, the alias wherever there is one.
    stored = alias or value
    is_background = BACKGROUND in (value.strip().lower(), alias.strip().lower())
    predicted = [phrase.strip() for phrase in (_attribute(tag, "predicted_values") or "").split(",")]
    phrases = [phrase for phrase in predicted if phrase] or [alias.strip() or value.strip() or stored]
    if is_background:
        phrases = [BACKGROUND if phrase.lower() == BACKGROUND else phrase for phrase in phrases]
    return MaskLabel(stored, phrases_to_prompts(phrases, (template,)), is_background)


def _local_name(element: ET.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _tag(element: ET.Element) -> str:
    return _local_name(element).lower()


def _attribute(element: ET.Element, name: str) -> str | None:
    """Return an attribute by its name in any case."""
    if name in element.attrib:
        return element.attrib[name]
    return next((value for key, value in element.attrib.items() if key.lower() == name.lower()), None)


def _opening(element: ET.Element) -> str:
    """Write the element's opening tag, for a message."""
    attributes = "".join(f" {key}={quoteattr(value)}" for key, value in element.attrib.items())
    text = f"<{_local_name(element)}{attributes}>"
    return text if len(text) <= 200 else text[:197] + "..."


def _quoted(names: Iterable[str], most: int = 10) -> str:
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(repr(name) for name in listed[:most]) + more


def _summary(root: ET.Element) -> str:
    """Say which controls and objects are there, by tag and name."""
    named = [f"{_local_name(tag)} {_attribute(tag, 'name')!r}" for tag in root.iter() if _attribute(tag, "name")]
    if not named:
        return f"<{_local_name(root)}> with no named tag in it"
    return ", ".join(named[:10]) + (f" and {len(named) - 10} more" if len(named) > 10 else "")


def _error(problem: str) -> LabelConfigError:
    return LabelConfigError(f"{problem}.\nA config that works:\n{WORKING_CONFIG}")
