"""What is known of a picture when it is written: the one type between where it comes from and every format."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from backend.export.chosen import Origin
from backend.export.classes import BACKGROUND, IGNORED
from backend.export.image_files import ImageFile
from backend.export.painting import Instance
from backend.export.split import Split


@dataclass(frozen=True)
class ExportedPicture:
    """A picture with its masks.

    Attributes:
        name: Of its files, without ending; unique in the data set.
        image_id: A number of its own, the same in every export of the project.
        task: Id of its task.
        split: `unlabelled` if nobody has said anything of it.
        file: The picture.
        size_hw: Height and width of it in pixels.
        label_map: (H, W) uint16: 0 background, from 1 the classes, `IGNORED`. `None` if nobody has said anything; all
            0 if somebody said that nothing is there.
        instances: Connected parts of its regions.
        origin: Who says it.
        score: Of a prediction.
        address: What the task's data hold for the picture.
        page: `item_index`, where the task has several pages.
    """

    name: str
    image_id: int
    task: int
    split: Split
    file: ImageFile = field(repr=False)
    size_hw: tuple[int, int]
    label_map: NDArray[np.uint16] | None = field(repr=False)
    instances: tuple[Instance, ...] = field(repr=False, default=())
    origin: Origin | None = None
    score: float | None = None
    address: str = field(repr=False, default="")
    page: int | None = None

    @property
    def file_name(self) -> str:
        """Name of its file, with ending."""
        return f"{self.name}.{self.file.ending}"

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The classes that are in it, ascending."""
        if self.label_map is None:
            return ()
        # Counting is several times as fast as sorting, which np.unique does.
        there = np.flatnonzero(np.bincount(self.label_map.ravel()))
        return tuple(int(number) for number in there if number not in (BACKGROUND, IGNORED))
