"""One evaluation over a data set: processes, records, stopping and going on."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from miniature import plan

from clipdiy.errors import ConfigError, DatasetError
from clipdiy.evaluate.confusion import quality
from clipdiy.evaluate.datasets.voc import open_folder
from clipdiy.evaluate.evaluator import Evaluator
from clipdiy.evaluate.report import make_rows
from clipdiy.evaluate.runner import Job, run, worker_device


def job(folder, tmp_path, **changes):
    return replace(Job(f"folder:{folder}", tmp_path, tmp_path / "records.jsonl"), **changes)


def confusions(finished):
    return {key: tally.confusion.tolist() for key, tally in finished.tallies.items()}


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
