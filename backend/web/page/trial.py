"""The panel *try it*: a picture and labels come in, what was found and why goes out, drawn and ready for a template."""

import base64
import io
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from backend.corrections.intake import mask_controls
from backend.errors import RequestError
from backend.labeling.controls import MAX_LABEL_CHARS, MAX_PROMPTS, LabelConfig, MaskControl, MaskLabel
from backend.labeling.taught import Taught
from backend.predicting.trying import Tried
from backend.settings import Settings
from clipdiy.draw import OVERLAY_LONG_PX, Pixels, overlay, palette
from clipdiy.errors import VocabularyError
from clipdiy.explanation import ExplainedRegions, Explanation
from clipdiy.labels import USUAL, parse_vocabulary
from clipdiy.method import method_named
from clipdiy.panel import explain_panel
from clipdiy.segmentation import Segmentation
from clipdiy.vocabulary import make_vocabulary

MAX_LABELS = 100
"""Each is drawn by itself, and read by a person."""
MAX_CHARS = 10_000
MAX_KEY_CHARS = 200


class TryRequest(BaseModel):
    """What the panel sends."""

    model_config = ConfigDict(extra="ignore")

    picture: str = Field(description="The picture's file as a data URI with base64.")
    labels: str = Field("", max_length=MAX_CHARS, description="See `clipdiy.labels.parse_labels`.")
    stuff: str = Field("", max_length=MAX_CHARS, description="Which of the labels are stuff, written as they are.")
    project: str = Field(
        "", max_length=MAX_KEY_CHARS, description="Whose version in use answers, and whose labels if none are given."
    )


@dataclass(frozen=True)
class Found:
    """A label that is in the picture.

    Attributes:
        name: The label.
        colour: As `#rrggbb`.
        score: In [0, 1].
        area: Share of the picture, in [0, 1].
    """

    name: str
    colour: str
    score: float
    area: float


@dataclass(frozen=True)
class Drawn:
    """A picture for a page.

    Attributes:
        uri: The picture itself, as a data URI.
        width: In pixels.
        height: In pixels.
    """

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Trial:
    """Everything that is shown of a trial.

    Attributes:
        picture: The picture.
        masks: The same under its masks.
        panel: Every step on the way.
        found: Labels that were found, the largest first.
        missing: Labels that were not.
        taken: Others that won a part of the picture, and how much of it (a share), the largest first.
        competing: Others that competed; `None` where none were asked for.
        left_out: Others that did not, and why, by label.
        doubts: What the weights cannot know.
        version: Of the project whose corrections took part; 0 for the words alone.
        is_calibrated: Whether scores were brought to the IoU that corrections bear out.
        seconds: How long it took.
    """

    picture: Drawn
    masks: Drawn
    panel: Drawn
    found: tuple[Found, ...]
    missing: tuple[str, ...]
    taken: tuple[tuple[str, float], ...]
    competing: tuple[str, ...] | None
    left_out: tuple[tuple[str, tuple[str, ...]], ...]
    doubts: tuple[str, ...]
    version: int
    is_calibrated: bool
    seconds: float


def config_for(labels: str, settings: Settings, stuff: str = "") -> LabelConfig:
    """Return what is asked of a picture for labels that a person wrote, as a project without wishes of its own asks it.

    Args:
        labels: See `clipdiy.labels.parse_labels`.
        settings: Of the service.
        stuff: Which of them are stuff; where it is empty, what the service takes for stuff by its words.

    Raises:
        RequestError: If it cannot be read, or is too much.
    """
    core = settings.core_config()
    try:
        vocabulary = parse_vocabulary(labels, method_named(core.method).templates(core), _stuff(stuff, settings))
    except VocabularyError as err:
        raise RequestError(str(err)) from err
    if len(vocabulary) - 1 > MAX_LABELS:
        raise RequestError(f"expected at most {MAX_LABELS} labels, got {len(vocabulary) - 1}")
    if any(len(text) > MAX_LABEL_CHARS for text in (*vocabulary.names, *sum(vocabulary.prompts, ()))):
        raise RequestError(f"expected labels and phrases of at most {MAX_LABEL_CHARS} characters each")
    control = MaskControl(
        from_name="try",
        to_name="picture",
        data_key="picture",
        kind="brushlabels",
        labels=tuple(MaskLabel(label.name, label.prompts, is_stuff=label.stuff) for label in vocabulary.labels[1:]),
        background=vocabulary.labels[0].prompts,
        refine=settings.refine == "always",
        others=settings.chosen_others,
    )
    if control.prompt_count > MAX_PROMPTS:
        raise RequestError(f"expected at most {MAX_PROMPTS:,} prompts, these labels make {control.prompt_count:,}")
    return LabelConfig((control,))


def _stuff(stuff: str, settings: Settings) -> str | None:
    return stuff.strip() or (USUAL if settings.stuff == "usual" else None)


def config_as(project: LabelConfig | None, labels: str, settings: Settings, stuff: str = "") -> LabelConfig:
    """Return what is asked of a picture as a project has learned it.

    Its own labels, or those that a person wrote: a label of the project is known among them by its phrases.

    Args:
        project: The project's config with what it has learned, `None` if it is not known.
        labels: As for `config_for`; may be empty.
        settings: Of the service.
        stuff: As for `config_for`: of the labels that were written down.

    Raises:
        RequestError: As for `config_for`; if stuff is named without labels; if there is no such project, or none of its
            controls learns.
    """
    control = next(iter(mask_controls(project)), None) if project else None
    if control is None:
        raise RequestError("nothing can be tried as this project has learned it any more: load the page again")
    if not labels.strip():
        if stuff.strip():
            raise RequestError("the project says which of its labels are stuff: write labels down to say it here")
        if len(control.labels) > MAX_LABELS:
            raise RequestError(f"this project has more than {MAX_LABELS} labels: write down some of them to try")
        return LabelConfig((control,))
    [written] = config_for(labels, settings, stuff).controls
    known = {label.value: label for label in control.labels}
    said = bool(stuff.strip())
    # A name alone is the project's label of that name, with its phrases.
    named = tuple(
        _with_stuff(known.get(label.value, label), label, said=said) if label.prompts == plain.prompts else label
        for label, plain in zip(written.labels, _plainly(written, settings), strict=True)
    )
    return LabelConfig((replace(written, labels=named, others=control.others, taught=control.taught),))


def _with_stuff(known: MaskLabel, written: MaskLabel, *, said: bool) -> MaskLabel:
    return replace(known, is_stuff=known.is_stuff or (said and written.is_stuff))


def _plainly(control: MaskControl, settings: Settings) -> tuple[MaskLabel, ...]:
    """Return labels as they would be with nothing but their names written down."""
    core = settings.core_config()
    vocabulary = make_vocabulary(
        [label.value for label in control.labels], template=method_named(core.method).templates(core)
    )
    return tuple(MaskLabel(label.name, label.prompts) for label in vocabulary.labels[1:])


def show(tried: Tried, taught: Taught | None = None) -> Trial:
    """Draw what was found and how it came about.

    Args:
        tried: The answer.
        taught: What a project's corrections had taught whoever answered.
    """
    photo, names = tried.photo.pixels, tried.vocabulary.names
    segmentation = _small(tried.segmentation)
    colours = palette(len(names))
    masks = overlay(photo, segmentation.label_map, colours)
    picture = Image.fromarray(photo).resize(masks.size, Image.Resampling.LANCZOS)
    panel = explain_panel(photo, tried.explanation, segmentation, tried.vocabulary, colours)
    present = sorted(segmentation.present, key=lambda position: -segmentation.area[position])
    choice = tried.choice
    left_out = choice.left_out_by_label() if choice else {}
    return Trial(
        picture=_drawn(picture, "JPEG"),
        masks=_drawn(masks, "JPEG"),
        panel=_drawn(panel, "WEBP"),
        found=tuple(_found(position, segmentation, names, colours) for position in present),
        missing=tuple(name for position, name in enumerate(names) if position and position not in present),
        # What the words alone would have given away says nothing of what was learned.
        taken=() if taught and taught.learned else _taken(tried.explanation),
        competing=None if choice is None else tuple(label.name for label in choice.competing),
        left_out=tuple((label, tuple(map(str, reasons))) for label, reasons in left_out.items()),
        doubts=tried.doubts,
        version=taught.number if taught else 0,
        is_calibrated=taught is not None and taught.calibration is not None,
        seconds=tried.seconds,
    )


def _found(position: int, segmentation: Segmentation, names: tuple[str, ...], colours: Pixels) -> Found:
    colour = "#" + bytes(colours[position]).hex()
    return Found(names[position], colour, float(segmentation.score[position]), float(segmentation.area[position]))


def _taken(explanation: Explanation) -> tuple[tuple[str, float], ...]:
    """Say which others won which share of the picture."""
    shares: dict[str, float] = {}
    for seen in explanation.pictures:
        if isinstance(seen, ExplainedRegions):
            counts = np.bincount(seen.regions.numpy().ravel(), minlength=len(seen.names) + 1)[1:]
            shares |= {seen.names[i]: float(counts[i]) / seen.regions.numel() for i in np.flatnonzero(counts)}
    return tuple(sorted(shares.items(), key=lambda entry: -entry[1]))


def _small(segmentation: Segmentation) -> Segmentation:
    """Return it with no more pixels than are drawn: every class costs as many again."""
    height, width = segmentation.size_hw
    scale = OVERLAY_LONG_PX[1] / max(height, width)
    if scale >= 1:
        return segmentation
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    label_map: NDArray[np.uint16] = cv2.resize(segmentation.label_map, size_wh, interpolation=cv2.INTER_NEAREST).astype(
        np.uint16, copy=False
    )
    return replace(segmentation, label_map=label_map)


def _drawn(image: Image.Image, kind: Literal["JPEG", "WEBP"]) -> Drawn:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=88)
    return Drawn(data_uri(buffer.getvalue(), kind.lower()), image.width, image.height)


def data_uri(content: bytes, kind: str) -> str:
    """Put a picture into an address, so that nothing has to be kept until the browser asks for it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
