"""Pictures with the truth about every pixel: what an evaluation reads, and how `NAME:PLACE` finds it."""

from clipdiy.evaluate.datasets.opening import open_dataset
from clipdiy.evaluate.datasets.sample import IGNORE, Dataset, Sample, counted_classes

__all__ = ["IGNORE", "Dataset", "Sample", "counted_classes", "open_dataset"]
