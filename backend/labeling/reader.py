"""What a labeling config asks of us: which controls want masks, of which image, and in what words.

Pure: text in, dataclasses out. Free of torch, of HTTP and of settings, so that `/setup` can answer at once.

What is read of a config

    <BrushLabels name="brush" toName="img"                 one `MaskControl` per image that toName names
                 prompt="a satellite photo of {}|a map of {}"     what phrases are put into; averaged
                 score_threshold="0.3" min_area="200px"           for all labels that do not say otherwise
                 model_scales="256,128" refine="pamr"             how this control's masks are made
                 parts="separate" max_parts="20"                  a region for each connected part, largest first
                 stuff="usual"                                    labels named sky or road are stuff: or none
                 others="auto">                                   what competes and stays empty: none, or cup, plate
      <Label value="Sofa" predicted_values="sofa, couch"/>   several phrases, their embeddings averaged
      <Label value="Hund" alias="dog"/>                      Label Studio itself stores "dog" for this one
      <Label value="Rust" threshold="0.6" min_area="1%"/>    only where it is sure, and not in specks
      <Label value="Sky" stuff="true"/>                      no object: it competes with the background
      <Label value="Background" alias="wall"/>               t0, asked for as "wall"
    </BrushLabels>
    <Image name="img" value="$photo"/>                     or "$doc.photo", or valueList="$pages": every page

    BitmaskLabels, PolygonLabels, RectangleLabels          the same, answered in their own form
    Labels + Brush, Bitmask, Polygon or Rectangle          the same, for shapes that borrow their labels
    Choices                                                which labels are there (see `_Reader._choices`)
    value="$labels" on one of them                         labels that stand in the task (`MaskControl.for_task`)
    predict="false" (or "true") on one of them             leave it to people (or do not)
    Rectangle(Labels) with smart="true"                    a tool to ask for masks with, where others take them

Tags and attributes that are not known are left alone. Tag and attribute names count in any case, as in the browser.
"""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from backend.labeling.controls import (
    MAX_PROMPTS,
    ControlKind,
    LabelConfig,
    MaskControl,
    MaskLabel,
    Others,
    Refining,
)
from backend.labeling.steering import Steering
from backend.labeling.xml import (
    MAX_CONFIG_CHARS,
    WORKING_CONFIG,
    attribute,
    contradiction,
    is_true,
    local_name,
    opening,
    parse_xml,
    quoted,
    shown,
    summary,
    tag,
    too_much,
    unusable,
)
from clipdiy.config import PUBLISHED_TEMPLATE
from clipdiy.vocabulary import BACKGROUND, phrases_to_prompts

__all__ = [
    "MAX_CONFIG_CHARS",
    "WORKING_CONFIG",
    "LabelConfig",
    "MaskControl",
    "MaskLabel",
    "parse_label_config",
]

# With labels of their own.
_LABELLED: dict[str, ControlKind] = {
    "brushlabels": "brushlabels",
    "bitmasklabels": "bitmasklabels",
    "polygonlabels": "polygonlabels",
    "rectanglelabels": "rectanglelabels",
}
# Labelled by a Labels control.
_SHAPES: dict[str, ControlKind] = {
    "brush": "brush",
    "bitmask": "bitmask",
    "polygon": "polygon",
    "rectangle": "rectangle",
}
_KINDS = {**_LABELLED, **_SHAPES}
_BOXES = ("rectangle", "rectanglelabels")
_VARIABLE = re.compile(r"\$([^, ]+)")

MAX_CONTROLS = 100
"""What is to be answered in a config: controls, once for each image and for each `Labels` that they go with."""
MAX_TO_NAMES = 100
MAX_NAME_CHARS = 300
_SKIPPED_SHOWN = 20
# What is said of a picture, not seen in it.
_JUDGEMENTS = """
good bad ok okay yes no true false maybe unsure unknown unclear clear sharp blurred blurry keep discard skip accept
accepted reject rejected approve approved pass fail valid invalid usable unusable relevant irrelevant correct incorrect
right wrong easy hard difficult high medium low positive negative neutral other none n/a
"""
_JUDGEMENT_WORDS = frozenset(_JUDGEMENTS.split())


@dataclass(frozen=True)
class _Source:
    """The tag a picture comes from.

    Attributes:
        name: What toName says.
        data_key: Field of the task's data.
        is_list: The field holds a list of pages.
    """

    name: str
    data_key: str
    is_list: bool


def parse_label_config(
    xml: str,
    *,
    templates: tuple[str, ...] = (PUBLISHED_TEMPLATE,),
    scales: Sequence[int] | None = None,
    refining: Refining = "never",
    others: Others | None = None,
    usual_stuff: bool = False,
) -> LabelConfig:
    """Read a labeling config.

    A control that names an image, and labels, is served wherever it stands in the tree. One that asks for something we
    do not do (video) is skipped with a note as long as another one is left. One that contradicts itself is an error
    even then, because its author meant something else.

    Args:
        xml: The config. Document type declarations, and with them entities, are refused.
        templates: Texts that phrases are put into unless the control has a `prompt`, `{}` standing for the phrase.
        scales: Crop sizes that are encoded, for checking `model_scales`; `None` takes any.
        refining: Whether the service refines masks; decides what `refine` may say, and what is meant without it.
        others: What competes with the labels of controls that do not say so themselves.
        usual_stuff: Labels whose words usually mean stuff are stuff, in controls that do not say so themselves.

    What it costs to read is bounded: by the limits of `parse_xml`, `MAX_CONTROLS`, `MAX_PROMPTS`, `MAX_TEMPLATES`,
    `MAX_TEMPLATE_CHARS`, `MAX_LABEL_CHARS`, `MAX_NAME_CHARS` and `MAX_TO_NAMES`.

    Raises:
        LabelConfigError: If it is no XML, beyond a limit, contradicts itself, or has no control we can serve.
        VocabularyError: If a template has no `{}`.
    """
    phrases_to_prompts((), templates)
    root = parse_xml(xml)
    reader = _Reader(root, Steering(templates, scales, refining, others, usual_stuff))
    controls = reader.controls()
    if not controls:
        found = "; ".join(reader.skipped) if reader.skipped else f"found {summary(root)}"
        raise unusable(f"expected a BrushLabels control with labels and an Image; {found}")
    return LabelConfig(tuple(controls), tuple(reader.skipped))


class _Reader:
    """Reads one config. `skipped` fills up on the way."""

    def __init__(
        self,
        root: ET.Element,
        steering: Steering,
    ) -> None:
        self._steering = steering
        self._elements = list(root.iter())
        named = [(name, element) for element in self._elements if (name := attribute(element, "name"))]
        self._objects = {name: element for name, element in named if attribute(element, "toName") is None}
        self._uses = Counter(name for name, _ in named)
        self._labels_for: dict[str, list[ET.Element]] = {}
        for element in self._elements:
            if tag(element) == "labels":
                for to_name in self._to_names(element):
                    self._labels_for.setdefault(to_name, []).append(element)
        self._repeated = {
            id(inside) for element in self._elements if tag(element) == "repeater" for inside in element.iter()
        }
        self._prompts_left = MAX_PROMPTS
        self._controls_left = MAX_CONTROLS
        self.skipped: list[str] = []

    def controls(self) -> list[MaskControl]:
        """Return everything that is to be answered, in the order of the config."""
        places = {id(element): place for place, element in enumerate(self._elements)}
        made: list[tuple[int, MaskControl]] = []
        smart: list[ET.Element] = []
        for element in self._elements:
            kind = _KINDS.get(tag(element))
            if kind is None or not self._is_served(element):
                continue
            if tag(element) in _BOXES and _is_smart(element):
                smart.append(element)
                continue
            made += [(places[id(element)], control) for control in self._masks(element, kind)]
        # A smart rectangle is what a mask is asked for with, unless nothing else takes what is found.
        taken = {control.to_name for _, control in made}
        for element in smart:
            boxes = self._masks(element, _KINDS[tag(element)])
            made += [(places[id(element)], control) for control in boxes if control.to_name not in taken]
        beside: dict[str, list[MaskControl]] = {}
        for _, control in sorted(made, key=lambda pair: pair[0]):
            beside.setdefault(control.to_name, []).append(control)
        rivals = {to_name: _labels_of(controls) for to_name, controls in beside.items()}
        for element in self._elements:
            if tag(element) == "choices" and self._is_served(element):
                made += [(places[id(element)], control) for control in self._choices(element, beside, rivals)]
        return [control for _, control in sorted(made, key=lambda pair: pair[0])]

    def _choices(
        self,
        element: ET.Element,
        masks: Mapping[str, Sequence[MaskControl]],
        labels_of_masks: Mapping[str, Mapping[str, MaskLabel]],
    ) -> Iterator[MaskControl]:
        """Yield a control per image whose choices say what is in the picture.

        A question such as "quality: good, blurred" is not for us to answer. So beside controls for masks of the same
        image, choices count if one of them is a label there too, or with `predict="true"`; where there are none, unless
        all of them are judgements ("good, bad"): CLIP would call every picture good. Choices that are such
        labels take over their prompts and whether they are stuff, and the labels that are no choice still compete.

        Args:
            element: The choices.
            masks: Controls for masks, by image.
            labels_of_masks: Their labels, by image and value.
        """
        where = _name_of(element)
        if is_true(element, "perRegion"):
            return
        for source in self._sources(element, where):
            beside = masks.get(source.name, ())
            made = self._control(element, "choices", source, where, "choice")
            asked = attribute(element, "predict") is not None
            if not beside and not asked and made.drawn and all(_is_judgement(label) for label in made.drawn):
                values = ", ".join(shown(label.value) for label in made.drawn[:3])
                self._skip(
                    f"{where} asks for a judgement ({values}), not for what is in the picture, so it is left to "
                    'people; predict="true" on it asks for it all the same'
                )
                continue
            rivals = labels_of_masks.get(source.name, {})
            shared = any(label.value in rivals for label in made.drawn)
            if beside and not shared and not asked:
                self._skip(
                    f"{where} shares no label with a control for masks, so it is left to people; "
                    'predict="true" on it asks for it all the same'
                )
                continue
            own = {label.value for label in made.labels}
            borrowed = tuple(
                _borrowing(label, rivals[label.value]) if _borrows(label, rivals, made) else label
                for label in made.labels
            )
            others = tuple(
                replace(label, is_rival=True) for value, label in rivals.items() if shared and value not in own
            )
            self._count_prompts(element, sum(len(label.prompts) for label in others))
            background = beside[0].background if shared else made.background
            yield self._counted(
                element,
                replace(
                    made,
                    labels=borrowed + others,
                    background=background,
                    is_single=(attribute(element, "choice") or "").lower() != "multiple",
                    per_item=source.is_list and is_true(element, "perItem"),
                ),
            )

    def _counted(self, element: ET.Element, control: MaskControl) -> MaskControl:
        """Return the control that an element makes, if there is room for it."""
        self._controls_left -= 1
        if self._controls_left < 0:
            raise too_much(
                element,
                f"expected at most {MAX_CONTROLS} controls to be answered, counted once for each image and each Labels "
                'that they go with; leave some to people with predict="false"',
            )
        return control

    def _count_prompts(self, element: ET.Element, prompts: int) -> None:
        self._prompts_left -= prompts
        if self._prompts_left < 0:
            raise too_much(
                element,
                f"expected at most {MAX_PROMPTS:,} prompts in all (labels x phrases x templates of every control), and "
                "this one goes beyond",
            )

    def _skip(self, sentence: str) -> None:
        """Say that a control is not served; of very many, that there are more."""
        if len(self.skipped) < _SKIPPED_SHOWN:
            self.skipped.append(sentence)
        elif len(self.skipped) == _SKIPPED_SHOWN:
            self.skipped.append("and more controls than are named here are not served")

    def _is_wanted(self, element: ET.Element) -> bool:
        name = attribute(element, "name")
        if name and self._uses[name] > 1:
            raise unusable(f"{self._uses[name]} tags are called {shown(name)}; every name may be used once")
        given = (attribute(element, "predict") or "true").strip().lower()
        if given not in ("true", "false"):
            raise contradiction(element, f'predict is "true" or "false", got {shown(given)}', predict="true")
        return given == "true"

    def _is_served(self, element: ET.Element) -> bool:
        """Whether a control is wanted, and stands where it can be answered; note why not."""
        if not self._is_wanted(element):
            return False
        if id(element) in self._repeated:
            self._skip(
                f"{_name_of(element)} stands in a Repeater, which is not served: show the pages with one Image that "
                'has valueList="$..."'
            )
            return False
        return True

    def _masks(self, element: ET.Element, kind: ControlKind) -> Iterator[MaskControl]:
        """Yield one control per image that the element names; note why there is none."""
        where = _name_of(element)
        for source in self._sources(element, where):
            if kind in _LABELLED.values():
                yield self._counted(element, self._control(element, kind, source, where, "label"))
                continue
            named_by = self._labels_for.get(source.name, ())
            if not named_by:
                self._skip(f'{where} has no labels: add <Labels name="labels" toName="{source.name}">')
            for labels in named_by:
                self._is_wanted(labels)
                control = self._control(labels, kind, source, _name_of(labels), "label", shape=element)
                control = replace(
                    control, from_name=attribute(element, "name") or "", labels_name=attribute(labels, "name")
                )
                yield self._counted(element, control)

    def _sources(self, element: ET.Element, where: str) -> Iterator[_Source]:
        to_names = self._to_names(element)
        if not attribute(element, "name") or not to_names:
            raise unusable(f'{opening(element)} needs name="..." and toName="..." (the name of an Image)')
        if len(to_names) > MAX_TO_NAMES:
            raise too_much(element, f"expected at most {MAX_TO_NAMES} names in toName, got {len(to_names):,}")
        for to_name in to_names:
            image = self._objects.get(to_name)
            if image is None:
                images = [name for name, found in self._objects.items() if tag(found) == "image"]
                there = f"the images are called {quoted(images)}" if images else "there is no Image at all"
                raise unusable(f"{where} has toName={shown(to_name)}, but no image is called that; {there}")
            if tag(image) != "image":
                self._skip(f"{where} is for {_name_of(image)}, and only an Image can be served")
                continue
            pages = attribute(image, "valueList")
            variable = _VARIABLE.fullmatch((pages or attribute(image, "value") or "").strip())
            if variable is None:
                raise unusable(
                    f'{_name_of(image)} needs value="$..." naming the field of the task\'s data that holds the '
                    f"picture, got {opening(image)}"
                )
            for name, tagged in ((attribute(element, "name") or "", element), (to_name, image), (variable[1], image)):
                if len(name) > MAX_NAME_CHARS:
                    raise too_much(tagged, f"expected names of at most {MAX_NAME_CHARS} characters, got {len(name):,}")
            yield _Source(to_name, variable[1], bool(pages))

    def _control(
        self,
        element: ET.Element,
        kind: ControlKind,
        source: _Source,
        where: str,
        label_tag: str,
        shape: ET.Element | None = None,
    ) -> MaskControl:
        """Read the labels inside an element, and how they are to be answered.

        Args:
            element: What holds the labels.
            kind: Type of the results.
            source: The image.
            where: What to call the element in a message.
            label_tag: `label` or `choice`.
            shape: What draws them, if it is another element; its attributes come first.
        """
        both = [element] if shape is None else [shape, element]
        rules = self._steering.rules(both)
        labels = []
        for child in element.iter():
            if child is element or tag(child) != label_tag:
                continue
            label = self._steering.label(child, rules)
            if label is not None:
                labels.append(label)
                self._count_prompts(element, len(label.prompts))
        value = (attribute(element, "value") or "").strip()
        labels_key = value[1:] if value.startswith("$") and _VARIABLE.fullmatch(value) else None
        drawn = sum(not label.is_background for label in labels)
        if labels and labels_key is not None:
            raise contradiction(
                element,
                f'{where} has labels in it and value="{shown(value)[1:-1]}", labels that stand in each task: Label '
                "Studio refuses predictions with the task's labels then, and with them all of their batch. Put all "
                "labels into the tasks, or all into the config",
                value="",
            )
        if not drawn and labels_key is None:
            besides = " besides the background" if labels else ""
            raise unusable(f'{where} has no <{label_tag.title()} value="..."/> in it{besides}')
        others = self._steering.others(both)
        if others is not None and others.words and any(attribute(each, "others") for each in both):
            self._count_prompts(element, len(others.words))
        background = tuple(prompt for label in labels if label.is_background for prompt in label.prompts)
        return MaskControl(
            attribute(element, "name") or "",
            source.name,
            source.data_key,
            kind,
            tuple(labels),
            background or phrases_to_prompts((BACKGROUND,), rules.templates),
            labels_key=labels_key,
            rules=rules,
            is_list=source.is_list,
            scales=self._steering.scales(both),
            refine=self._steering.refine(both),
            tolerance_px=self._steering.tolerance_px(both),
            max_parts=self._steering.max_parts(both, kind),
            others=others,
            learns=self._steering.learns(both),
        )

    @staticmethod
    def _to_names(element: ET.Element) -> list[str]:
        """Return the images that an element names, each once."""
        return [
            *dict.fromkeys(name for part in (attribute(element, "toName") or "").split(",") if (name := part.strip()))
        ]


def _name_of(element: ET.Element) -> str:
    """Call an element by its tag and name."""
    return f"{local_name(element)[:50]} {shown(attribute(element, 'name') or '')}"


def _is_smart(element: ET.Element) -> bool:
    return is_true(element, "smart") or is_true(element, "smartOnly")


def _labels_of(controls: Sequence[MaskControl]) -> dict[str, MaskLabel]:
    """Return labels by their values; the first of a value counts."""
    return {label.value: label for control in reversed(controls) for label in control.drawn}


def _is_judgement(label: MaskLabel) -> bool:
    return label.value.strip().lower() in _JUDGEMENT_WORDS


def _borrowing(choice: MaskLabel, label: MaskLabel) -> MaskLabel:
    said_itself = choice.is_stuff and not choice.stuff_by_words
    by_words = label.stuff_by_words and not said_itself
    return replace(choice, prompts=label.prompts, is_stuff=said_itself or label.is_stuff, stuff_by_words=by_words)


def _borrows(label: MaskLabel, rivals: Mapping[str, MaskLabel], made: MaskControl) -> bool:
    """A choice says nothing of its prompts, and a label of the same name does."""
    plain = phrases_to_prompts((label.value.strip(),), made.rules.templates)
    return label.value in rivals and label.prompts == plain
