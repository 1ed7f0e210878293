"""What the paper's Table 1 says of other systems. Nobody has measured it here: every figure is cited."""

from collections.abc import Mapping
from dataclasses import dataclass

from clipdiy.evaluate.variants import PUBLISHED_B16, PUBLISHED_FULL


@dataclass(frozen=True)
class Cited:
    """One row of CLIP-DIY's Table 1.

    Attributes:
        name: The system.
        backbone: Of its image side.
        published: mIoU in percent, by data set.
        from_tcl: Whether the paper has the figures from TCL's paper (its mark for them is a dagger).
    """

    name: str
    backbone: str
    published: Mapping[str, float]
    from_tcl: bool = False

    @property
    def title(self) -> str:
        """What its row is called; the mark comes first, where no narrow terminal cuts it off."""
        return f"cited: {self.name}, {self.backbone}{' †' if self.from_tcl else ''}"


TABLE_1 = (
    Cited("ReCo", "ViT-L/14", {"voc": 25.1, "coco": 15.7}, from_tcl=True),
    Cited("ViL-Seg", "ViT-B/16", {"voc": 37.3}),
    Cited("MaskCLIP+", "ResNet101", {"voc": 38.8, "coco": 20.6}, from_tcl=True),
    Cited("CLIPpy", "ViT-B/16", {"voc": 52.2, "coco": 32.0}),
    Cited("GroupViT", "ViT-S/16", {"voc": 52.3}),
    Cited("ViewCo", "ViT-S/16", {"voc": 52.4, "coco": 23.5}),
    Cited("SegCLIP", "ViT-B/16", {"voc": 52.6, "coco": 26.5}),
    Cited("OVSegmentor", "ViT-B/16", {"voc": 53.8, "coco": 25.1}),
    Cited("TCL + PAMR", "ViT-B/16", {"voc": 55.0, "coco": 31.6}),
    Cited("CLIP-DIY", "ViT-B/16", PUBLISHED_B16),
    Cited("CLIP-DIY", "ViT-B/32", PUBLISHED_FULL),
)


def cited_for(name: str) -> Mapping[str, float]:
    """Return what the paper says of the system that somebody's predictions are named after; empty for all others."""
    wanted = name.casefold().replace(" ", "")
    for cited in TABLE_1:
        # "TCL" alone is not "TCL + PAMR": refined or not makes points of difference.
        if cited.name.casefold().replace(" ", "") == wanted and cited.name != "CLIP-DIY":
            return cited.published
    return {}
