"""Label maps that another program wrote, to be counted as ours are."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipdiy.errors import ConfigError, DatasetError
from clipdiy.evaluate.cited import cited_for
from clipdiy.evaluate.datasets.sample import NAMED_IN_ERROR, Dataset, read_indexed
from clipdiy.evaluate.variants import Variant

ENDINGS = (".png", ".labels.png")  # the second is what `clipdiy segment` writes
EXPECTED = (
    "Expected is for each picture an indexed (or grey 8-bit) PNG of its name and size, NAME.png or NAME.labels.png, "
    "whose values are positions of classes, 0 = background, 1 = the first class also where there is no background"
)


@dataclass(frozen=True)
class Predictions:
    """A folder of label maps.

    Attributes:
        name: What the system is called that wrote them.
        folder: Where they lie.
    """

    name: str
    folder: Path

    @classmethod
    def parse(cls, text: str) -> "Predictions":
        """Read `NAME=FOLDER`.

        Raises:
            ConfigError: If it is something else, or there is no such folder.
        """
        name, equals, place = text.partition("=")
        if not (name.strip() and equals and place):
            raise ConfigError(f"predictions are written NAME=FOLDER, for example TCL=/data/tcl; got {text!r}")
        if not Path(place).is_dir():
            raise ConfigError(f"the predictions of {name.strip()}: there is no folder {place}")
        return cls(name.strip(), Path(place))

    @property
    def variant(self) -> Variant:
        """Its row in a table, with the paper's figures if its name is that of a system there."""
        return Variant(
            f"predictions:{self.name}",
            self.name,
            encoder="predictions",
            predictions=self.folder,
            published=cited_for(self.name),
        )

    def path(self, dataset: Dataset, image_id: str) -> Path:
        """Return the file for a picture; if there is none, the one that is expected."""
        names = dict.fromkeys((dataset.photo_name(image_id), image_id))
        paths = [self.folder / f"{name}{ending}" for name in names for ending in ENDINGS]
        return next((path for path in paths if path.is_file()), paths[0])

    def require(self, dataset: Dataset, image_ids: Sequence[str]) -> None:
        """Make sure that there is a label map for every picture.

        Raises:
            DatasetError: Naming some of those that are missing, and how many they are.
        """
        missing = [path.name for path in (self.path(dataset, i) for i in image_ids) if not path.is_file()]
        if missing:
            names = ", ".join(missing[:NAMED_IN_ERROR]) + (", ..." if len(missing) > NAMED_IN_ERROR else "")
            raise DatasetError(
                f"the predictions of {self.name} are incomplete: {len(missing)} of {len(image_ids)} are missing in "
                f"{self.folder} ({names}). {EXPECTED}"
            )

    def read(self, dataset: Dataset, image_id: str, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
        """Read a picture's label map.

        Args:
            dataset: What it was made of.
            image_id: Which picture.
            size_hw: Its height and width.

        Returns:
            (H, W) uint8, positions of classes.

        Raises:
            DatasetError: If it is missing, no such picture, of another size, or holds values that are no class.
        """
        path = self.path(dataset, image_id)
        labels = read_indexed(path)
        if labels.shape != size_hw:
            raise DatasetError(f"{path} is {labels.shape}, its picture {size_hw} (height, width). {EXPECTED}")
        first, last = int(dataset.background == "none"), len(dataset.classes)
        wrong = np.unique(labels[(labels < first) | (labels > last)])
        if len(wrong):
            ground = "there is no background" if first else "0 the background"
            raise DatasetError(
                f"{path} holds the values {wrong.tolist()}; expected {first}..{last} for {last + 1 - first} classes, "
                f"{ground}. A prediction has no pixels to be ignored"
            )
        return labels

    def digest(self, dataset: Dataset) -> str:
        """Return what changes with a byte of any of the label maps."""
        digest = hashlib.sha256()
        for image_id in dataset.image_ids:
            path = self.path(dataset, image_id)
            if path.is_file():
                with path.open("rb") as file:
                    digest.update(image_id.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]
