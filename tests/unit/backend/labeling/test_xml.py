"""A config as a tree: what is refused before it is one, and how it is asked and shown."""

import pytest

from backend.errors import LabelConfigError
from backend.labeling.xml import (
    MAX_CONFIG_CHARS,
    attribute,
    attributes,
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
)

BOMB = """<?xml version="1.0"?><!DOCTYPE View [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><View>&c;</View>"""
HOSTILE = {
    "entity bomb": (BOMB, "document type"),
    "external entity": ('<!DOCTYPE v [<!ENTITY x SYSTEM "file:///etc/passwd">]><v>&x;</v>', "document type"),
    "external DTD": ('<!DOCTYPE v SYSTEM "http://127.0.0.1:9/x.dtd"><v/>', "document type"),
    "empty doctype": ("<!DOCTYPE v><v/>", "document type"),
    "too long": ("<View>" + " " * MAX_CONFIG_CHARS + "</View>", "2,000,000 characters"),
}


@pytest.mark.parametrize(("xml", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_configs_are_refused(xml: str, message: str) -> None:
    with pytest.raises(LabelConfigError, match=message):
        parse_xml(xml)


def test_deep_and_wide_configs_are_refused_while_they_are_read() -> None:
    assert parse_xml("<a>" * 100 + "</a>" * 100).tag == "a"
    with pytest.raises(LabelConfigError, match="100 deep"):
        parse_xml("<a>" * 101)  # it does not even end
    assert len(list(parse_xml("<a>" + "<b/>" * 49_999 + "</a>").iter())) == 50_000
    with pytest.raises(LabelConfigError, match="50,000 tags"):
        parse_xml("<a>" + "<b/>" * 50_000)


def test_tags_beside_each_other_are_not_deep() -> None:
    assert len(parse_xml("<a>" + "<b></b>" * 200 + "</a>")) == 200


def test_tags_and_attributes_count_in_any_case_and_without_a_namespace() -> None:
    element = parse_xml('<x:BrushLabels xmlns:x="urn:x" toName="img" SMART=" True "/>')
    assert (local_name(element), tag(element)) == ("BrushLabels", "brushlabels")
    assert attribute(element, "toname") == attribute(element, "toName") == "img"
    assert attribute(element, "name") is None
    assert attributes(element) == {"toname": "img", "smart": " True "}
    assert is_true(element, "smart")
    assert not is_true(element, "toName")
    assert not is_true(element, "perRegion")


def test_a_tag_is_shown_as_it_is_and_as_it_could_be() -> None:
    element = parse_xml('<Label value="6&quot;" Threshold="60"/>')
    assert opening(element) == """<Label value='6"' Threshold="60">"""
    error = str(contradiction(element, "too high", threshold="0.6"))
    assert error.splitlines() == [
        "too high.",
        """Found:   <Label value='6"' Threshold="60">""",
        """Instead: <Label value='6"' threshold="0.6">""",
    ]
    assert str(too_much(element, "too much")).splitlines()[1].startswith("Found:   <Label")
    long = parse_xml(f'<Label value="{"x" * 1000}"/>')
    assert len(opening(long)) == 200
    assert opening(long).endswith("...")


def test_names_are_listed_and_long_ones_cut() -> None:
    assert quoted(["a", "b"]) == "'a', 'b'"
    assert quoted(str(i) for i in range(12)).endswith("'9' and 2 more")
    assert shown("x" * 100) == repr("x" * 100)
    assert shown("x" * 101) == repr("x" * 97 + "...")


def test_what_is_there() -> None:
    root = parse_xml('<View><Image name="img"/><Header value="x"/><Choices name="c"/></View>')
    assert summary(root) == "Image 'img', Choices 'c'"
    assert summary(parse_xml("<View/>")) == "<View> with no named tag in it"
    many = parse_xml("<View>" + "".join(f'<Image name="{i}"/>' for i in range(12)) + "</View>")
    assert summary(many).endswith("Image '9' and 2 more")
