"""What is asked of every picture: words after `--labels` become a labeling config, so that there is one way of asking.

The same config then goes into the project that the masks are imported into.
"""

from collections.abc import Hashable
from xml.sax.saxutils import quoteattr

from backend.errors import LabelConfigError
from backend.labeling.controls import LabelConfig, MaskControl
from clipdiy.errors import VocabularyError
from clipdiy.labels import NONE, parse_labels, parse_vocabulary

IMAGE_KEY = "image"


def config_for(labels: str, stuff: str | None = None) -> str:
    """Return a labeling config that asks for masks of these labels.

    Args:
        labels: As for `clipdiy segment --labels`: `cat, "bread, sliced", pet=dog|hamster`.
        stuff: As for `clipdiy segment --stuff`: which of them are stuff, `usual` or `none`; left out, it is for who
            reads the config.

    Raises:
        VocabularyError: If they cannot be read, a phrase holds a comma, which a labeling config cannot say, or what is
            stuff is no label.
    """
    lines = []
    written = parse_vocabulary(labels, stuff=stuff).labels if stuff is not None else ()
    lying = {label.name for label in written if label.stuff}
    # What is said here is all of it.
    only = "" if stuff is None else f' stuff="{NONE}"'
    for name, phrases in parse_labels(labels):
        attributes = f"value={quoteattr(name)}"
        if phrases != (name,):
            if any("," in phrase for phrase in phrases):
                raise VocabularyError(f"label {name!r}: phrases behind a = hold no commas here; use --config")
            attributes += f" predicted_values={quoteattr(','.join(phrases))}"
        if name in lying:
            attributes += ' stuff="true"'
        lines.append(f"    <Label {attributes}/>")
    return "\n".join(
        [
            "<View>",
            f'  <Image name="img" value="${IMAGE_KEY}"/>',
            f'  <BrushLabels name="brush" toName="img"{only}>',
            *lines,
            "  </BrushLabels>",
            "</View>",
            "",
        ]
    )


def image_key(config: LabelConfig) -> str:
    """Return the field of a task's data that the picture stands in.

    Raises:
        LabelConfigError: If the config asks for something else than one picture a task with labels of its own.
    """
    keys = {control.data_key for control in config.controls}
    if any(control.labels_key is not None for control in config.controls):
        raise LabelConfigError("the labels stand in tasks, and here are none: name them in the config")
    if any(control.is_list for control in config.controls):
        raise LabelConfigError("the config shows lists of pages (valueList): here every picture is a task of its own")
    if len(keys) != 1:
        raise LabelConfigError(f"expected a config with one picture a task, got {len(keys)}: {', '.join(sorted(keys))}")
    return keys.pop()


def questions(config: LabelConfig) -> list[tuple[tuple[str, ...], MaskControl]]:
    """Return what has to be segmented: names of the controls that ask for the same, and the first of them."""
    found: dict[Hashable, list[MaskControl]] = {}
    for control in config.controls:
        if control.drawn:
            found.setdefault(control.question, []).append(control)
    return [(tuple(control.from_name for control in controls), controls[0]) for controls in found.values()]
