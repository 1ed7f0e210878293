"""Tables of figures."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from clipdiy.evaluate.cited import TABLE_1, Cited
from clipdiy.evaluate.datasets.ade20k import ADE20K_CLASSES
from clipdiy.evaluate.datasets.mapped import MappedSet
from clipdiy.evaluate.datasets.voc import open_folder
from clipdiy.evaluate.record import Outcome
from clipdiy.evaluate.report import (
    Row,
    completeness,
    make_rows,
    print_classes,
    print_rows,
    write_class_csv,
    write_csv,
    write_json,
)
from clipdiy.evaluate.runner import Finished
from clipdiy.evaluate.tally import Tally
from clipdiy.evaluate.variants import Variant

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


PETS = MappedSet("pets", "Pets", ("cat", "dog"), "none", {}, {})
NAN = float("nan")
FIRST = Row("a", "The first", 12.34567, (10.0, 15.5), None, 80.25, NAN, 1.5, {"coco": 30.0}, (12.34567, NAN))
SECOND = Row("b", "Another, ü", 22.0, (20.0, 24.0), (9.65433, 5.0, 14.0), 81.0, 33.3333, 0.0, {}, (20.0, 24.0))


def test_rows_are_percent_of_what_was_counted() -> None:
    tallies = {}
    for key, hits, boundary in (("a", 3, None), ("b", 1, [[1, 4], [0, 0]])):
        tallies[key] = Tally(2, 2)
        for ms in (1.0, 4.0):
            confusion = np.array([[hits, 4 - hits], [0, 4]])
            tallies[key].add(Outcome(confusion, None if boundary is None else np.array(boundary), ms))
    variants = [Variant("b", "Row of b", published={"voc": 50.0}), Variant("a", "Row of a")]
    first, second = make_rows(variants, Finished(tallies, (), 2))
    assert (first.key, first.title, first.published) == ("b", "Row of b", {"voc": 50.0})
    assert first.iou == pytest.approx((25.0, 100 * 4 / 7))
    assert first.miou == pytest.approx(np.mean(first.iou))
    # Both pictures are alike, and so is whatever is drawn of them.
    assert first.interval == pytest.approx((first.miou, first.miou))
    assert first.difference is None
    assert (first.accuracy, first.boundary_miou, first.segment_ms) == (62.5, 25.0, 2.5)
    gap = second.miou - first.miou
    assert second.difference == pytest.approx((gap, gap, gap))
    assert (second.accuracy, second.boundary_miou) == (87.5, None)


def test_everything_is_written_as_json(tmp_path) -> None:
    cited = [Cited("Other", "ViT", {"voc": 41.5}, from_tcl=True)]
    write_json(tmp_path / "x.json", [FIRST, SECOND], PETS, {"seed": 3, "about": ("ä", 0.123456)}, cited)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "seed": 3')
    assert text.endswith("}\n")
    assert "Another, ü" in text
    first, second = (
        {"title": "The first", "miou": 12.3457, "miou_interval_95": [10.0, 15.5], "difference_to_first": None},
        {"title": "Another, ü", "miou": 22.0, "miou_interval_95": [20.0, 24.0], "difference_to_first": [9.6543, 5, 14]},
    )
    first |= {"pixel_accuracy": 80.25, "boundary_miou": None, "segment_ms": 1.5, "published_miou": {"coco": 30.0}}
    second |= {"pixel_accuracy": 81.0, "boundary_miou": 33.3333, "segment_ms": 0.0, "published_miou": {}}
    assert json.loads(text) == {
        "seed": 3,
        "about": ["ä", 0.1235],
        "variants": {
            "a": first | {"class_iou": {"cat": 12.3457, "dog": None}},
            "b": second | {"class_iou": {"cat": 20.0, "dog": 24.0}},
        },
        "cited": [{"name": "Other", "backbone": "ViT", "published_miou": {"voc": 41.5}, "from_tcl": True}],
    }


def read_csv(path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_figures_are_written_as_csv(tmp_path) -> None:
    write_csv(tmp_path / "x.csv", [FIRST, SECOND])
    header, first, second = read_csv(tmp_path / "x.csv")
    assert " ".join(header) == (
        "variant title miou miou_low miou_high difference difference_low difference_high pixel_accuracy boundary_miou "
        "segment_ms published_voc published_coco"
    )
    assert first == ["a", "The first", "12.346", "10.000", "15.500", "", "", "", "80.250", "", "1.500", "", "30.000"]
    figures = ["22.000", "20.000", "24.000", "9.654", "5.000", "14.000", "81.000", "33.333", "0.000", "", ""]
    assert second == ["b", "Another, ü", *figures]


def test_classes_are_written_as_csv(tmp_path) -> None:
    write_class_csv(tmp_path / "x.csv", [FIRST, SECOND], PETS)
    assert read_csv(tmp_path / "x.csv") == [["class", "a", "b"], ["cat", "12.346", "20.000"], ["dog", "", "24.000"]]


def test_a_row_for_a_person() -> None:
    text = printed(
        print_rows([replace(FIRST, boundary_miou=61.04), replace(SECOND, boundary_miou=None)], "Title", PETS, 7)
    )
    assert "Title · Pets, 7 pictures" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "The first 12.3 (10.0 to 15.5) 80.2 61.0 1.5" in lines
    assert "Another, ü 22.0 (20.0 to 24.0) +9.7 (+5.0 to +14.0) 81.0" in lines, "no time was taken"


@pytest.mark.parametrize(
    ("classes", "columns", "height"), [(1, 1, 1), (21, 1, 21), (22, 2, 11), (43, 3, 15), (150, 4, 38)]
)
def test_classes_go_down_the_columns(classes: int, columns: int, height: int) -> None:
    dataset = replace(PETS, classes=tuple(f"class{i}" for i in range(classes)))
    table = print_classes(replace(FIRST, iou=(NAN, *(float(i) for i in range(1, classes)))), dataset)
    assert len(table.columns) == 2 * columns
    assert table.row_count == height
    names = [cell for column in table.columns[::2] for cell in column.cells]
    figures = [cell for column in table.columns[1::2] for cell in column.cells]
    assert names == [*dataset.classes, *[""] * (columns * height - classes)]
    assert figures[:classes] == ["-", *(f"{i}.0" for i in range(1, classes))]
