"""Tables of figures."""

from dataclasses import replace

import pytest
from rich.console import Console

from clipdiy.evaluate.cited import TABLE_1
from clipdiy.evaluate.datasets.ade20k import ADE20K_CLASSES
from clipdiy.evaluate.datasets.mapped import MappedSet
from clipdiy.evaluate.datasets.voc import open_folder
from clipdiy.evaluate.report import Row, completeness, print_classes, print_rows

ROW = Row("clip-diy", "CLIP-DIY", 40.0, (39.0, 41.0), None, 70.0, None, 5.0, {"voc": 59.9, "coco": 31.0}, (12.3,) * 150)


def printed(table):
    console = Console(width=140)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_a_part_of_a_published_set_is_called_one(folder):
    dataset = open_folder(folder)
    assert completeness(dataset, 5) == ""
    assert "1449" in completeness(replace(dataset, published_count=1449), 5)
    assert completeness(replace(dataset, published_count=5), 5) == ""
    # What the protocol leaves out is not missing.
    assert completeness(replace(dataset, published_count=7, left_out=2), 5) == ""
    assert "7" in completeness(replace(dataset, published_count=7, left_out=2), 4)
    assert "not comparable with published figures" in completeness(replace(dataset, published_count=7), 4)


@pytest.mark.parametrize(
    ("name", "column", "figure"),
    [("voc", "paper, VOC", "59.9"), ("coco", "paper, COCO", "31.0"), ("scenes", "paper, VOC", "59.9")],
)
def test_the_papers_figures_stand_beside_the_sets_that_it_has_and_those_that_nobody_has(folder, name, column, figure):
    text = printed(print_rows([ROW], "x", replace(open_folder(folder), name=name), 5, TABLE_1))
    assert column in text
    assert figure in text
    assert "cited: " in text


@pytest.mark.parametrize("name", ["voc20", "context", "stuff", "ade20k", "cityscapes", "object"])
def test_nothing_stands_beside_public_sets_for_which_the_paper_has_no_figure(name):
    dataset = MappedSet(name, "Public", ADE20K_CLASSES, "none", {}, {})
    text = printed(print_rows([ROW], "x", dataset, 5, TABLE_1))
    assert "40.0" in text
    assert not any(word in text for word in ("paper", "59.9", "31.0", "cited"))


def test_figures_of_many_classes_are_not_cut_off():
    text = printed(print_classes(ROW, MappedSet("ade20k", "ADE20K", ADE20K_CLASSES, "none", {}, {})))
    assert text.count("12.3") == 150
    assert "television receiver" in text
