"""How a segmentation came about, in a form that one picture can be drawn of, whatever the method (`clipdiy.panel`)."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ExplainedPicture:
    """Something that the method saw of the whole photo, whatever the labels: objectness, features as colours.

    Attributes:
        caption: A word or two.
        values: (h, w) float32, drawn as heat between the limits; or (h, w, 3) float32 in [0, 1], drawn as RGB. Laid
            over the whole photo, whatever its aspect ratio.
        limits: What the coldest and the hottest colour stand for.
    """

    caption: str
    values: Tensor
    limits: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class ExplainedRegions:
    """Parts of the photo that something was found in, with its name: what others won.

    Attributes:
        caption: A word or two.
        regions: (h, w) int16: 0 for nothing, i + 1 for `names[i]`. Laid over the whole photo.
        names: What may stand there.
    """

    caption: str
    regions: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True)
class ExplainedStep:
    """One step on the way to the label map: a map per class.

    Attributes:
        caption: What it is, in a word or two.
        detail: Its size, equation or unit.
        values: (C, h, w) float32, background first.
        scale: Steps with the same word share one colour scale.
    """

    caption: str
    detail: str
    values: Tensor
    scale: str


@dataclass(frozen=True)
class Explanation:
    """What went into a segmentation, for a person to look at.

    Attributes:
        pictures: Shown beside the photo.
        steps: In the order in which they are computed; steps of one scale stand side by side.
        closeness: (C,) float32: how near each class came to being found. The order in which classes that were not found
            are shown.
    """

    pictures: tuple[ExplainedPicture | ExplainedRegions, ...]
    steps: tuple[ExplainedStep, ...]
    closeness: Tensor
