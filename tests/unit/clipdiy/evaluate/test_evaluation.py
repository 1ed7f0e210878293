"""The whole way: variants, shared features, records, processes, figures, and the command, with the tiny networks."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from miniature import TINY, blocks, write_voc
from typer.testing import CliRunner

from clipdiy.cli import app
from clipdiy.config import CleanUp, CropGrid, ObjectnessConfig, Pamr, preset
from clipdiy.errors import ConfigError, DatasetError
from clipdiy.evaluate.confusion import confusion_matrix, quality
from clipdiy.evaluate.datasets.voc import open_folder
from clipdiy.evaluate.evaluator import Evaluator, Plan, pin_dtype, union_grids
from clipdiy.evaluate.figures import comparison_panel, confusion_picture
from clipdiy.evaluate.record import Outcome, Record
from clipdiy.evaluate.report import completeness, make_rows
from clipdiy.evaluate.resizing import resize_nearest, short_side_size
from clipdiy.evaluate.runner import Job, run, worker_device
from clipdiy.evaluate.variants import TABLES, VARIANTS, choose

CLASSES = ("cat", "dog", "sofa")
SIZES = [(60, 80), (80, 50), (64, 64), (33, 47), (90, 40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "voc"
    write_voc(root, [blocks(i, *size, 4) for i, size in enumerate(SIZES)], ending="png")
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


def plan(*keys, **changes):
    return replace(Plan(TINY, tuple(VARIANTS[key] for key in keys), short_px=56), **changes)


@pytest.fixture(scope="module")
def evaluator(folder):
    keys = ("clip-diy", "no-multi-scale", "no-objectness", "found-bkg", "maskclip", "stride-full", "pamr", "prune-2")
    return Evaluator(plan(*keys), open_folder(folder))


def job(folder, tmp_path, **changes):
    return replace(Job(f"folder:{folder}", tmp_path, tmp_path / "records.jsonl"), **changes)


def confusions(finished):
    return {key: tally.confusion.tolist() for key, tally in finished.tallies.items()}


@pytest.mark.parametrize(
    "key", ["clip-diy", "no-multi-scale", "no-objectness", "found-bkg", "stride-full", "pamr", "prune-2"]
)
def test_shared_features_give_what_each_variant_encodes_for_itself(evaluator, key):
    # Each variant's own segmenter, from the photo on, against the parts that all variants share.
    segmenter, dataset = evaluator.segmenters[key], evaluator.dataset
    for image_id in dataset.image_ids[:2]:
        sample = dataset.read(image_id)
        size_hw = short_side_size(sample.photo.size_hw, 56)
        features = segmenter.encode([sample.photo])[0]
        label_map = resize_nearest(segmenter.segment(features, evaluator.vocabulary).label_map, size_hw)
        expected = confusion_matrix(resize_nearest(sample.truth, size_hw), label_map, 4)
        counted = evaluator.evaluate(image_id).outcomes[key].confusion
        assert counted.sum() == expected.sum() > 0
        # The batches are others, so single crops may differ in the last bit.
        assert np.abs(counted - expected).sum() <= 0.01 * expected.sum()


def test_the_published_way_and_the_full_one_differ(folder):
    published = Evaluator(plan("clip-diy"), open_folder(folder)).evaluate("a").outcomes["clip-diy"]
    config = replace(TINY, label_map="full")
    full = Evaluator(plan("clip-diy", config=config), open_folder(folder)).evaluate("a").outcomes["clip-diy"]
    assert published.confusion.sum() == full.confusion.sum()
    assert (published.confusion != full.confusion).any()


def test_pooling_over_the_set_is_the_sum_over_its_pictures(evaluator, folder, tmp_path):
    finished = run(evaluator, job(folder, tmp_path))
    assert finished.count == 5
    records = [evaluator.evaluate(image_id) for image_id in evaluator.dataset.image_ids]
    for key, tally in finished.tallies.items():
        total = sum(record.outcomes[key].confusion for record in records)
        np.testing.assert_array_equal(tally.confusion, total)
        assert tally.quality.miou == quality(total).miou
        assert tally.boundary_miou > 0


def test_several_processes_give_the_same_result(evaluator, folder, tmp_path):
    (tmp_path / "two").mkdir()
    one = run(evaluator, job(folder, tmp_path))
    two = run(evaluator, job(folder, tmp_path / "two", workers=2))
    assert confusions(one) == confusions(two)
    rows = [make_rows(evaluator.plan.variants, finished) for finished in (one, two)]
    assert [row.interval for row in rows[0]] == [row.interval for row in rows[1]]


def drop_times(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[1:]:
        for variant in line["variants"].values():
            del variant["ms"]
    return lines


@pytest.mark.parametrize("kept", [0, 2, 5], ids=["nothing done", "two done", "all done"])
@pytest.mark.parametrize("damage", ["", '{"image":"c","varia', '{"image":"z"}\n'], ids=["clean", "cut off", "strange"])
def test_an_evaluation_can_be_stopped_and_continued(evaluator, folder, tmp_path, kept, damage):
    whole = run(evaluator, job(folder, tmp_path, worst=2))
    path = tmp_path / "records.jsonl"
    expected = drop_times(path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[: kept + 1]) + damage)
    seen = []
    finished = run(evaluator, job(folder, tmp_path, resume=True, worst=2), lambda *progress: seen.append(progress))
    assert drop_times(path) == expected
    assert confusions(finished) == confusions(whole)
    assert finished.worst == whole.worst
    assert [(done, total) for done, total, _ in seen] == [(i, 5) for i in range(1, 6)]
    assert seen[-1][2] == whole.tallies["clip-diy"].quality.miou


def test_records_of_another_evaluation_are_not_continued(evaluator, folder, tmp_path):
    run(evaluator, job(folder, tmp_path, limit=1))
    other = Evaluator(plan("clip-diy", short_px=40), open_folder(folder))
    before = (tmp_path / "records.jsonl").read_text()
    with pytest.raises(ConfigError, match="another evaluation"):
        run(other, job(folder, tmp_path, resume=True))
    assert (tmp_path / "records.jsonl").read_text() == before
    assert run(other, job(folder, tmp_path, limit=2)).count == 2  # without --resume it starts anew


def test_what_was_done_before_a_damaged_picture_is_kept(folder, tmp_path, evaluator):
    class Breaks:
        def __init__(self, dataset):
            self.dataset = dataset

        def __getattr__(self, name):
            return getattr(self.dataset, name)

        def read(self, image_id):
            if image_id == "c":
                raise DatasetError("c is damaged")
            return self.dataset.read(image_id)

    broken = Evaluator(plan("clip-diy"), Breaks(open_folder(folder)))
    with pytest.raises(DatasetError):
        run(broken, job(folder, tmp_path))
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 3


def test_records_survive_being_written():
    confusion = np.array([[5, 0], [2, 1]])
    record = Record("ä", {"x": Outcome(confusion, None, 1.5), "y": Outcome(confusion, confusion, 0.0)})
    again = Record.from_line(record.to_line(), 2)
    assert again.image_id == "ä"
    np.testing.assert_array_equal(again.outcomes["x"].confusion, confusion)
    assert again.outcomes["x"].boundary is None
    np.testing.assert_array_equal(again.outcomes["y"].boundary, confusion)


def test_coarser_strides_are_part_of_finer_ones():
    grids = [CropGrid(patch_px=(256, 64)), CropGrid(patch_px=(128,), stride_ratio=1.0), CropGrid(patch_px=(128,))]
    assert union_grids(grids) == [CropGrid(patch_px=(256, 128, 64))]
    odd = [CropGrid(patch_px=(128,), stride_ratio=0.5), CropGrid(patch_px=(128,), stride_ratio=0.75)]
    assert [grid.stride_ratio for grid in union_grids(odd)] == [0.5, 0.75]


@pytest.mark.parametrize(
    ("name", "keys", "published"),
    [
        ("1", ["b32", "b16"], [(59.9, 31.0), (59.0, 30.4)]),
        ("2", ["clip-diy", "no-multi-scale", "no-objectness"], [(59.9, 31.0), (56.0, 25.9), (24.1, 15.5)]),
        ("4", ["found", "found-bkg", "cutler"], [(59.9, None), (48.4, None), (55.4, None)]),
    ],
)
def test_tables_carry_the_papers_figures(name, keys, published):
    _, chosen = choose(name, [], "paper")
    assert [variant.key for variant in chosen] == keys
    assert [(v.published.get("voc"), v.published.get("coco")) for v in chosen] == published


def test_table_3_has_the_papers_scales():
    _, chosen = choose("3", [], "paper")
    sides = {variant.key: variant.configure(preset("paper")).grid.patch_px for variant in chosen}
    assert sides["scales-01234"] == (256, 128, 64, 32, 16)
    assert sides["scales-0"] == (256,)
    assert sides["scales-123"] == (128, 64, 32)
    voc = {"scales-0": 56.0, "scales-01": 58.8, "scales-012": 59.9, "scales-0123": 59.5, "scales-01234": 59.3,
           "scales-123": 53.8}  # fmt: skip
    assert {variant.key: variant.published["voc"] for variant in chosen if variant.published} == voc


def test_backbones_bring_their_own_preset():
    base = preset("paper", device="cpu", label_map="square", clean_up=CleanUp(0))
    b16 = VARIANTS["b16"].configure(base)
    assert b16 == replace(preset("paper-b16"), device="cpu", label_map="square", clean_up=CleanUp(0))
    assert [variant.key for variant in choose("1", [], "starter")[1]] == ["clip-diy"]


def test_variants_change_only_what_they_are_named_for():
    base = preset("starter")
    assert VARIANTS["clip-diy"].configure(base) == base
    assert VARIANTS["stride-full"].configure(base).grid == CropGrid(stride_ratio=1.0)
    assert VARIANTS["pamr"].configure(base) == replace(base, pamr=Pamr(), clean_up=CleanUp(0))
    assert VARIANTS["prune-4"].configure(base) == replace(base, prune_logits=4)
    assert VARIANTS["no-objectness"].configure(base).objectness == ObjectnessConfig(method="none", square_px=256)
    assert all(key in VARIANTS for table in TABLES.values() for key in table.keys)


@pytest.mark.parametrize(("table", "keys"), [("2,9", []), (None, ["best"])], ids=["table", "variant"])
def test_what_is_not_there_is_refused_with_what_is(table, keys):
    with pytest.raises(ConfigError, match="there are: "):
        choose(table, keys, "paper")


def test_cutler_needs_its_masks(folder):
    with pytest.raises(ConfigError, match="--instances FILE"):
        Evaluator(plan("cutler"), open_folder(folder))


def test_cutler_takes_them(folder, tmp_path):
    everything = {"size": [60, 80], "counts": [0, 4800]}
    path = tmp_path / "cutler.json"
    path.write_text(json.dumps([{"image_id": "a", "segmentation": everything, "score": 0.9}]))
    evaluator = Evaluator(plan("cutler", "no-objectness", instances=path), open_folder(folder))
    # Objectness 1 everywhere leaves no background, 0 everywhere nothing else (where similarity is positive).
    assert evaluator.look("a", "cutler").prediction.min() > 0
    assert evaluator.evaluate("b").outcomes["cutler"].confusion.shape == (4, 4)
    assert len(evaluator.doubts) == 1
    assert "nothing of 4 of 5 pictures" in evaluator.doubts[0]


@pytest.mark.parametrize(
    ("name", "number", "gpus", "device"),
    [
        ("auto", 3, 2, "cuda:1"),
        ("cuda", 0, 2, "cuda:0"),
        ("cuda:1", 0, 2, "cuda:1"),
        ("auto", 1, 0, "auto"),
        ("cpu", 1, 2, "cpu"),
    ],
)
def test_processes_take_the_gpus_in_turn(name, number, gpus, device):
    assert worker_device(name, number, gpus) == device


def test_one_process_leaves_the_threads_as_they_were(evaluator, folder, tmp_path):
    before = torch.get_num_threads()
    run(evaluator, job(folder, tmp_path, limit=1))
    assert torch.get_num_threads() == before


def test_memory_does_not_grow_with_the_set(evaluator, folder, tmp_path):
    # What is kept of 5 pictures is as large as what is kept of 1: sums, replicates, and as many names as are drawn.
    def kept(limit):
        finished = run(evaluator, job(folder, tmp_path, limit=limit, worst=1))
        tally = finished.tallies["clip-diy"]
        return [
            np.asarray(value).nbytes for value in (*vars(tally._bootstrap).values(),) if isinstance(value, np.ndarray)
        ] + [tally.confusion.nbytes, len(finished.worst)]

    assert kept(1) == kept(5)


def test_pictures_are_drawn(evaluator):
    seen = evaluator.look("a", "clip-diy")
    np.testing.assert_array_equal(seen.pixels, evaluator.dataset.read("a").photo.pixels)
    panel = comparison_panel(seen, ("background", *CLASSES), "a")
    assert panel.width > 3 * 400
    counts = np.array([[50, 2, 0, 0], [5, 70, 1, 0], [0, 0, 0, 0], [1, 0, 0, 9]])
    picture = np.asarray(confusion_picture(counts, ("background", *CLASSES), "x"))
    assert picture.shape[2] == 3
    large = confusion_picture(np.eye(81, dtype=np.int64), [f"class {i}" for i in range(81)], "x")
    assert large.width < 2000


def test_a_part_of_a_published_set_is_called_one(folder):
    dataset = open_folder(folder)
    assert completeness(dataset, 5) == ""
    assert "1449" in completeness(replace(dataset, published_count=1449), 5)
    assert completeness(replace(dataset, published_count=5), 5) == ""
    # What the protocol leaves out is not missing.
    assert completeness(replace(dataset, published_count=7, left_out=2), 5) == ""
    assert "7" in completeness(replace(dataset, published_count=7, left_out=2), 4)


def command(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], catch_exceptions=False)


def test_the_command_writes_tables_records_and_figures(folder, tmp_path):
    arguments = (
        f"folder:{folder}", "--preset", "starter", "--clip", TINY.clip, "--found", TINY.found, "--table", "2",
        "--out", tmp_path, "--limit", 3, "--figures", 2, "--device", "cpu",
    )  # fmt: skip
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    assert "w/o multi-scale" in result.output
    assert "59.9" in result.output
    assert "cited: " not in result.output
    content = json.loads((tmp_path / "results.json").read_text())
    assert (content["protocol"], content["way"]) == ("clean", "published")
    assert content["dataset"]["pictures"] == 3
    full = content["variants"]["clip-diy"]
    low, high = full["miou_interval_95"]
    assert 0 <= low <= high <= 100
    assert full["published_miou"] == {"voc": 59.9, "coco": 31.0}
    assert set(full["class_iou"]) == {"background", *CLASSES}
    assert content["variants"]["no-objectness"]["difference_to_first"][0] == pytest.approx(
        content["variants"]["no-objectness"]["miou"] - full["miou"], abs=1e-3
    )
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [row["variant"] for row in rows] == ["clip-diy", "no-multi-scale", "no-objectness"]
    assert float(rows[0]["miou"]) == pytest.approx(full["miou"], abs=1e-3)
    classes = csv.DictReader((tmp_path / "classes.csv").read_text().splitlines())
    assert [row["class"] for row in classes] == ["background", *CLASSES]
    figures = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert figures == ["confusion.png", f"worst-01-{content['worst'][0]}.png", f"worst-02-{content['worst'][1]}.png"]
    resumed = command(*arguments, "--resume", "--limit", 4)
    assert resumed.exit_code == 0
    assert json.loads((tmp_path / "results.json").read_text())["dataset"]["pictures"] == 4


def test_the_row_of_cutler_is_left_out_without_masks(folder, tmp_path):
    arguments = (
        f"folder:{folder}", "--preset", "starter", "--clip", TINY.clip, "--found", TINY.found, "--out", tmp_path,
        "--limit", 1, "--no-boundary",
    )  # fmt: skip
    result = command(*arguments, "--table", "4")
    assert "--instances FILE" in result.output
    assert list(json.loads((tmp_path / "results.json").read_text())["variants"]) == ["found", "found-bkg"]
    with pytest.raises(ConfigError, match="--instances FILE"):
        command(*arguments, "--variants", "cutler")


def test_variants_can_be_listed():
    result = command("scenes:0", "--variants", "list")
    assert all(key in result.output for key in VARIANTS)


def test_arithmetic_does_not_depend_on_what_is_faster_here(evaluator):
    assert pin_dtype(preset("paper", device="cpu")).dtype == "float32"
    assert pin_dtype(preset("paper", device="cpu", dtype="bfloat16")).dtype == "bfloat16"
    assert evaluator.plan.config.dtype == "float32"


def test_several_tables_share_their_rows():
    title, chosen = choose("2,peer", ["prune-4"], "starter")
    assert title == "Table 2: ablation; A training-free peer"
    assert [variant.key for variant in chosen] == [
        "clip-diy", "no-multi-scale", "no-objectness", "maskclip", "maskclip-no-objectness", "prune-4",
    ]  # fmt: skip
