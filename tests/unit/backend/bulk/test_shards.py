"""Which shards there are to be made, and which pictures are in those that are finished."""

import numpy as np
import pytest
from pyarrow import parquet

from backend.bulk.places import Stores
from backend.bulk.rows import PackedMap, Row
from backend.bulk.shards import Chunk, Plan, Shards, chunks_of, versions_in
from backend.errors import BackendError
from clipdiy.segmentation import Segmentation

META = {"labeling_config": "<View/>"}


def good(source, value=1):
    label_map = np.full((2, 3), value, np.uint16)
    segmentation = Segmentation(label_map, np.array([0, 1.0]), np.array([0, 0.5], np.float32), 0.5)
    return Row(source, f"digest of {source}", 0.5, maps=((("brush",), PackedMap.of(segmentation)),))


def bad(source, reason="not-found"):
    return Row(source, failure=reason, message="no")


@pytest.fixture(params=["folder", "bucket"])
def shards(request, tmp_path):
    if request.param == "folder":
        return Shards(Stores(), str(tmp_path / "out"), "clip-diy-a")
    s3 = request.getfixturevalue("s3")
    s3.bucket("b")
    return Shards(Stores.of(f"s3://b/out?{s3.options}"), "s3://b/out", "clip-diy-a")


@pytest.fixture
def local(tmp_path):
    return Shards(Stores(), str(tmp_path / "out"), "clip-diy-a")


def names(count):
    return [f"{number:02}.jpg" for number in range(count)]


def sources(plan):
    return [list(chunk.sources) for chunk in plan.chunks]


def finish(shards, *chunks):
    for chunk in chunks:
        shards.write(chunk.name, [good(source) for source in chunk.sources], META)


def test_a_chunk_is_named_by_its_pictures():
    first, again = Chunk.of(["a", "b"]), Chunk.of(["a", "b"])
    assert first == again
    others = [Chunk.of(["b", "a"]), Chunk.of(["a"]), Chunk.of(["ab"]), Chunk.of(["a", "b"], "salt")]
    assert len({chunk.name for chunk in (first, *others)}) == 5
    cut = [chunk.sources for chunk in chunks_of(names(5), 2)]
    assert cut == [("00.jpg", "01.jpg"), ("02.jpg", "03.jpg"), ("04.jpg",)]


def test_what_is_finished_is_left_out(shards):
    plan = shards.plan(names(7), 3)
    assert (sources(plan), plan.done) == ([names(7)[:3], names(7)[3:6], names(7)[6:]], 0)
    middle = plan.chunks[1]
    shards.write(middle.name, [good(middle.sources[0]), bad(middle.sources[1]), good(middle.sources[2])], META)
    again = shards.plan(names(7), 3)
    assert again.chunks == (plan.chunks[0], plan.chunks[2])
    assert (again.done, again.failed) == (3, {"not-found": 1})
    finish(shards, *again.chunks)
    assert shards.plan(names(7), 3) == Plan((), 7, {"not-found": 1})


def test_every_picture_comes_out_once_and_as_it_went_in(shards):
    for chunk in chunks_of(names(5), 2):
        shards.write(chunk.name, [good(source, 1 + int(source[1])) for source in chunk.sources], META)
    rows = sorted(shards.rows(), key=lambda row: row.source)
    assert [row.source for row in rows] == names(5)
    assert [int(row.segmentation_for("brush").label_map[0, 0]) for row in rows] == [1, 2, 3, 4, 5]
    assert shards.metadata() == META


def test_new_pictures_need_new_shards_only(local):
    before = [name for name in names(9) if name not in ("02.jpg", "05.jpg")]
    finish(local, *local.plan(before, 3).chunks)
    plan = local.plan(names(9), 3)
    assert (sources(plan), plan.done) == ([["02.jpg", "05.jpg"]], 7)
    finish(local, *plan.chunks)
    assert local.plan(names(9), 3).chunks == ()
    assert local.plan(names(9), 2).chunks == (), "whatever the size of a shard is now"


def test_a_run_over_new_pictures_that_was_cut_off_goes_on(local):
    finish(local, *local.plan(names(20)[::2], 3).chunks)
    plan = local.plan(names(20), 3)
    assert len(plan.chunks) == 4
    finish(local, plan.chunks[1])
    assert local.plan(names(20), 3).chunks == (plan.chunks[0], *plan.chunks[2:])


def test_pictures_whose_features_lie_together_are_made_together(local):
    """Otherwise new pictures would move every shard of other labels, and no kept feature would fit."""
    kept = chunks_of(names(9)[:3], 3) + chunks_of(names(9)[5:8], 3)
    plan = local.plan(names(9), 3, together=kept)
    assert plan.chunks[:2] == tuple(kept)
    assert sources(plan)[2:] == [["03.jpg", "04.jpg", "08.jpg"]]
    finish(local, plan.chunks[0])
    again = local.plan(names(9), 3, together=kept)
    assert again.chunks == plan.chunks[1:]
    assert again.done == 3


@pytest.mark.parametrize("reason", ["a picture is gone", "a picture is finished", "another one has it"])
def test_what_cannot_be_made_together_is_made_otherwise(local, reason):
    kept = chunks_of(names(4)[:2], 2)
    wanted = names(4)
    if reason == "a picture is gone":
        wanted = wanted[1:]
    elif reason == "a picture is finished":
        finish(local, Chunk.of(["01.jpg"]))
    else:
        kept = [Chunk.of(["01.jpg", "02.jpg"]), *kept]
    plan = local.plan(wanted, 2, together=kept)
    made = [source for chunk in plan.chunks for source in chunk.sources]
    assert sorted(made) == [name for name in wanted if (name, reason) != ("01.jpg", "a picture is finished")]
    assert kept[-1] not in plan.chunks


class TestRetry:
    @pytest.fixture
    def once(self, local):
        [first, second] = local.plan(names(4), 2).chunks
        local.write(first.name, [good("00.jpg"), bad("01.jpg", "timeout")], META)
        local.write(second.name, [bad("02.jpg"), bad("03.jpg")], META)
        return local

    def test_what_failed_is_finished_unless_it_is_to_be_tried_again(self, once):
        assert once.plan(names(4), 2) == Plan((), 4, {"timeout": 1, "not-found": 2})
        plan = once.plan(names(4), 2, retry_failed=True)
        assert (sources(plan), plan.done, plan.failed) == ([["01.jpg", "02.jpg"], ["03.jpg"]], 1, {})
        assert not {chunk.name for chunk in plan.chunks} & once.names(), "nothing that is there is written over"

    def test_what_failed_counts_no_more_when_it_succeeded(self, once):
        [first, second] = once.plan(names(4), 2, retry_failed=True).chunks
        once.write(first.name, [good("01.jpg"), bad("02.jpg")], META)
        once.write(second.name, [bad("03.jpg")], META)
        assert once.plan(names(4), 2).failed == {"not-found": 2}
        rows = [(row.source, row.failure) for row in once.rows()]
        assert sorted(rows) == [("00.jpg", None), ("01.jpg", None), ("02.jpg", "not-found"), ("03.jpg", "not-found")]

    def test_a_whole_shard_that_failed_is_not_taken_for_its_second_try(self, local):
        [chunk] = local.plan(names(2), 2).chunks
        local.write(chunk.name, [bad("00.jpg"), bad("01.jpg")], META)
        [again] = local.plan(names(2), 2, retry_failed=True).chunks
        assert again.sources == chunk.sources
        assert again.name != chunk.name


def test_pictures_that_nobody_asks_for_any_more_are_no_failures(local):
    [chunk] = local.plan(names(2), 2).chunks
    local.write(chunk.name, [good("00.jpg"), bad("01.jpg")], META)
    assert local.plan(["00.jpg", "new.jpg"], 2).failed == {}


def test_other_files_are_no_shards(local):
    local.write_config("<View/>")
    Stores().write(f"{local.folder}/.part-x.parquet.y.tmp", b"")
    Stores().write(f"{local.folder}/notes.parquet", b"")
    assert local.names() == set()
    with pytest.raises(BackendError, match="holds no shards"):
        local.metadata()


def test_a_damaged_shard_is_named(local):
    Stores().write(f"{local.folder}/part-x.parquet", b"nonsense")
    with pytest.raises(BackendError, match=r"part-x\.parquet cannot be read"):
        local.plan(names(1))


def test_the_same_rows_are_the_same_bytes(local, tmp_path):
    [chunk] = chunks_of(names(1), 1)
    finish(local, chunk)
    [path] = (tmp_path / "out" / "clip-diy-a").iterdir()
    first = path.read_bytes()
    finish(local, chunk)
    assert path.read_bytes() == first
    assert parquet.read_table(path).num_rows == 1


def test_versions_in_a_place(tmp_path):
    stores = Stores()
    for version in ("clip-diy-b", "clip-diy-a"):
        Shards(stores, str(tmp_path), version).write("x", [good("00.jpg")], META)
    stores.write(str(tmp_path / "features-abc" / "part-x.parquet"), b"")
    stores.write(str(tmp_path / "other.parquet"), b"")
    assert versions_in(stores, str(tmp_path)) == ["clip-diy-a", "clip-diy-b"]
    assert versions_in(stores, str(tmp_path / "nothing")) == []
