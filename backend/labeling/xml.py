"""A labeling config as a tree: read without danger, asked for tags and attributes as the browser reads them.

Tag and attribute names count in any case. Also how a tag is shown to a person: as it stands, and as it should stand.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from xml.sax.saxutils import quoteattr

from backend.errors import LabelConfigError

MAX_CONFIG_CHARS = 2_000_000
MAX_TAGS = 50_000
MAX_DEPTH = 100
"""Tags within tags. People come to ten."""
_SHOWN_CHARS = 100

WORKING_CONFIG = """\
<View>
  <Image name="img" value="$image"/>
  <BrushLabels name="brush" toName="img">
    <Label value="Cat"/>
    <Label value="Sofa" predicted_values="sofa, couch"/>
  </BrushLabels>
</View>"""


class _CarefulBuilder(ET.TreeBuilder):
    """Builds the tree, and stops at too many tags, and at a document type: entities can be declared nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self._tags = 0
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> ET.Element:
        """Called by the parser where a tag opens."""
        self._tags += 1
        self._depth += 1
        if self._tags > MAX_TAGS:
            raise LabelConfigError(f"a labeling config may have {MAX_TAGS:,} tags, this one has more")
        if self._depth > MAX_DEPTH:
            raise LabelConfigError(
                f"the tags of a labeling config may be nested {MAX_DEPTH} deep, <{tag[:50]}> is deeper"
            )
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ET.Element:
        """Called by the parser where a tag closes."""
        self._depth -= 1
        return super().end(tag)

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called by the parser before anything inside the declaration is read."""
        raise LabelConfigError("a labeling config has no document type declaration (<!DOCTYPE ...>); take it out")


def parse_xml(xml: str) -> ET.Element:
    """Read the text of a config.

    Raises:
        LabelConfigError: If it is no XML, empty, too long, too deep, or declares a document type.
    """
    if len(xml) > MAX_CONFIG_CHARS:
        raise LabelConfigError(f"a labeling config may have {MAX_CONFIG_CHARS:,} characters, got {len(xml):,}")
    if not xml.strip():
        raise unusable("the labeling config is empty")
    # The builder stops at declarations, so nothing can be expanded or fetched.
    parser = ET.XMLParser(target=_CarefulBuilder())
    try:
        parser.feed(xml)
        root: ET.Element = parser.close()
    except (ET.ParseError, ValueError) as err:
        if isinstance(err, LabelConfigError):
            raise
        raise unusable(f"the labeling config is no XML: {err}") from err
    return root


def local_name(element: ET.Element) -> str:
    """Return the tag as it is written, without a namespace."""
    return str(element.tag).rpartition("}")[2]


def tag(element: ET.Element) -> str:
    """Return the tag in small letters."""
    return local_name(element).lower()


def attributes(element: ET.Element) -> dict[str, str]:
    """Return the attributes by their names in small letters."""
    return {key.lower(): value for key, value in element.attrib.items()}


def attribute(element: ET.Element, name: str) -> str | None:
    """Return an attribute by its name in any case."""
    if name in element.attrib:
        return element.attrib[name]
    return next((value for key, value in element.attrib.items() if key.lower() == name.lower()), None)


def is_true(element: ET.Element, name: str) -> bool:
    """Say whether an attribute is there and says true."""
    return (attribute(element, name) or "").strip().lower() == "true"


def opening(element: ET.Element, **corrected: str) -> str:
    """Write the element's opening tag for a message, with some attributes put right."""
    shown = {key: value for key, value in element.attrib.items() if key.lower() not in corrected} | corrected
    written = "".join(f" {key}={quoteattr(value)}" for key, value in shown.items())
    text = f"<{local_name(element)}{written}>"
    return text if len(text) <= 200 else text[:197] + "..."


def quoted(names: Iterable[str], most: int = 10) -> str:
    """List some names for a message."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(shown(name) for name in listed[:most]) + more


def shown(text: str) -> str:
    """Quote a text for a message, no longer than a message may be."""
    return repr(text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "...")


def summary(root: ET.Element) -> str:
    """Say which controls and objects are there, by tag and name."""
    named = [
        f"{local_name(element)[:50]} {shown(name)}" for element in root.iter() if (name := attribute(element, "name"))
    ]
    if not named:
        return f"<{local_name(root)[:50]}> with no named tag in it"
    return ", ".join(named[:10]) + (f" and {len(named) - 10} more" if len(named) > 10 else "")


def unusable(problem: str) -> LabelConfigError:
    """Make the error for a config that gives us nothing to work with: shows one that does."""
    return LabelConfigError(f"{problem}.\nA config that works:\n{WORKING_CONFIG}")


def contradiction(element: ET.Element, problem: str, **corrected: str) -> LabelConfigError:
    """Make the error for an attribute that cannot be meant: shows the tag as it is and as it could be."""
    return LabelConfigError(f"{problem}.\nFound:   {opening(element)}\nInstead: {opening(element, **corrected)}")


def too_much(element: ET.Element, problem: str) -> LabelConfigError:
    """Make the error for a tag that asks for more than is allowed: shows it."""
    return LabelConfigError(f"{problem}.\nFound:   {opening(element)}")
