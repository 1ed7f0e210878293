"""In which form is a control answered? A new one is a file with a writer (`backend.outputs.shape.Writer`), and a line.

The kinds are Label Studio's types of results (`backend.labeling.controls.ControlKind`), without what only says where
their labels stand. `Choices` are no form of a mask: they are answered for a whole task (`backend.outputs.choices`).
"""

from backend.labeling.controls import ControlKind
from backend.outputs.bitmask import write_bitmasks
from backend.outputs.boxes import write_boxes
from backend.outputs.brush import write_brushes
from backend.outputs.polygons import write_polygons
from backend.outputs.shape import Writer

WRITERS: dict[str, Writer] = {
    "brush": write_brushes,
    "bitmask": write_bitmasks,
    "polygon": write_polygons,
    "rectangle": write_boxes,
}


def writer_of(kind: ControlKind) -> Writer:
    """Return what writes the shapes of a control of this kind."""
    return WRITERS[kind.removesuffix("labels")]
