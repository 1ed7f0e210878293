"""How a shard is made: every picture a row, in order, with the reason where there is nothing."""

import hashlib
from threading import Event

import pytest
from fakes import FakeCore
from PIL import Image

from backend.bulk.asking import config_for, image_key
from backend.bulk.kept_features import KeptFeatures
from backend.bulk.making import ShardMaker
from backend.bulk.places import Stores
from backend.bulk.reading import BulkLoader
from backend.bulk.running import run_here
from backend.bulk.shard_tasks import ShardTasks
from backend.bulk.shards import Chunk, Shards, chunks_of
from backend.errors import BackendError, TaskError
from backend.images.host import LabelStudioHost
from backend.images.loader import ImageLoader
from backend.images.sources import ImageSources
from backend.labeling.reader import parse_label_config
from backend.metrics import Metrics
from backend.predicting.predictor import Predictor, PredictorOptions

LABELS = config_for("cat, dog")


class Room:
    """One bulk run over a folder, with networks that are none."""

    def __init__(self, folder, *, labels=LABELS, keep_features=False):
        self.core = FakeCore()
        self.config = parse_label_config(labels)
        self.loader = BulkLoader(Stores(), ImageLoader(ImageSources()), max_bytes=100_000, timeout_s=5)
        self.predictor = Predictor(self.core, self.loader, PredictorOptions(), Metrics())
        self.shards = Shards(Stores(), str(folder / "out"), self.predictor.model_version(self.config))
        self.features = KeptFeatures(Stores(), str(folder / "out"), self.core.encoder_identity)
        kept, key = self.features if keep_features else None, image_key(self.config)
        described = {"labeling_config": labels}
        self.maker = ShardMaker(self.predictor, self.loader, self.config, key, self.shards, described, kept)
        self.tasks = ShardTasks(self.shards, self.config, key, labels)


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        Image.new("RGB", (10 + number, 8)).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    (tmp_path / "large.png").write_bytes(bytes(100_001))
    return tmp_path


@pytest.fixture
def make(folder):
    made = []

    def _make(**options):
        made.append(Room(folder, **options))
        return made[-1]

    yield _make
    for room in made:
        room.predictor.close()


@pytest.fixture
def names(folder):
    return [str(folder / name) for name in ("0.png", "bad.png", "1.png", "none.png", "2.png", "large.png", "3.png")]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def test_every_picture_is_a_row_in_its_place(make, names):
    room = make()
    [chunk] = chunks_of(names, 10)
    done = []
    report = room.maker.make(chunk, lambda: done.append(1))
    rows = [*room.shards.rows()]
    assert [row.source for row in rows] == names
    failures = [None, "not-an-image", None, "not-found", None, "too-large", None]
    assert [row.failure for row in rows] == failures
    assert [row.digest for row in rows] == [
        digest(name) if failure in (None, "not-an-image") else None
        for name, failure in zip(names, failures, strict=True)
    ]
    assert len(done) == 7
    assert (report.name, report.pictures) == (chunk.name, 7)
    assert report.failed == {"not-an-image": 1, "not-found": 1, "too-large": 1}
    told = [(names[1], "not-an-image"), (names[3], "not-found"), (names[5], "too-large")]
    assert [failure[:2] for failure in report.failures] == told
    assert all(message for _, _, message in report.failures)
    sizes = [row.segmentation_for("brush").size_hw for row in rows if row.failure is None]
    assert sizes == [(8, 10), (8, 11), (8, 12), (8, 13)]
    assert {row.score for row in rows} == {0.75, None}


def test_the_same_pictures_make_the_same_bytes(make, names):
    room = make()
    [chunk] = chunks_of(names, 10)
    made = []
    for _ in range(2):
        room.maker.make(chunk)
        made.append({path: digest(path) for path in Stores().files(room.shards.folder)})
    assert len(made[0]) == 1
    assert made[0] == made[1]


def test_a_picture_twice_in_a_shard_is_told_twice(make, names):
    report = make().maker.make(Chunk.of([names[0], names[0]]))
    assert (report.pictures, report.failed) == (2, {})


def test_two_questions_two_maps(make, names):
    labels = """<View><Image name="img" value="$image"/>
        <BrushLabels name="brush" toName="img"><Label value="Cat"/></BrushLabels>
        <PolygonLabels name="poly" toName="img"><Label value="Owl"/></PolygonLabels></View>"""
    room = make(labels=labels)
    room.maker.make(Chunk.of(names[:1]))
    [row] = room.shards.rows()
    assert [controls for controls, _ in row.maps] == [("brush",), ("poly",)]


class TestFeatures:
    def test_other_labels_need_neither_files_nor_networks(self, make, names, folder):
        first = make(keep_features=True)
        [chunk] = chunks_of(names, 10)
        first.maker.make(chunk)
        assert sum(first.core.batches) == 4
        for path in folder.glob("*.png"):
            path.unlink()
        other = make(keep_features=True, labels=config_for("tree"))
        assert other.shards.version != first.shards.version
        done = []
        report = other.maker.make(chunk, lambda: done.append(1))
        assert other.core.batches == []
        assert len(done) == 7
        assert report.failed == {"not-an-image": 1, "not-found": 1, "too-large": 1}
        same = [(row.source, row.digest, row.failure, row.message) for row in first.shards.rows()]
        assert [(row.source, row.digest, row.failure, row.message) for row in other.shards.rows()] == same
        sizes = [row.segmentation_for("brush").size_hw for row in other.shards.rows() if not row.failure]
        assert sizes == [(8, 10), (8, 11), (8, 12), (8, 13)]

    def test_which_pictures_are_kept_together(self, make, names):
        room = make(keep_features=True)
        assert room.features.chunks() == []
        chunks = chunks_of(names, 4)
        for chunk in chunks:
            room.maker.make(chunk)
        Stores().write(f"{room.features.folder}/part-damaged.parquet", b"nonsense")
        Stores().write(f"{room.features.folder}/notes.txt", b"")
        assert sorted(room.features.chunks(), key=lambda chunk: chunk.name) == sorted(
            chunks, key=lambda chunk: chunk.name
        )

    def test_they_are_kept_only_if_that_is_wanted(self, make, names):
        room = make()
        [chunk] = chunks_of(names, 10)
        room.maker.make(chunk)
        assert room.features.read(chunk.name) is None

    @pytest.mark.parametrize("fault", ["damaged", "of another encoder", "of other pictures", "all failed"])
    def test_what_does_not_fit_is_made_again(self, make, names, folder, fault):
        room = make(keep_features=True)
        chunk = Chunk.of(names[3:4] if fault == "all failed" else names[:1])
        room.maker.make(chunk)
        file = room.features._file(chunk.name)
        if fault == "damaged":
            Stores().write(file, b"nonsense")
        elif fault == "of another encoder":
            room.features._encoder = "another"
        elif fault == "of other pictures":
            other = Chunk.of(names[2:3])
            room.maker.make(other)
            with open(room.features._file(other.name), "rb") as data:
                Stores().write(file, data.read())
        else:
            Image.new("RGB", (10, 8)).save(names[3])
        before = sum(room.core.batches)
        assert room.maker.make(chunk).failed == {}
        assert sum(room.core.batches) == before + 1


class TestReading:
    def loader(self, **options):
        return BulkLoader(Stores(), ImageLoader(ImageSources()), **{"max_bytes": 1000, "timeout_s": 5, **options})

    def test_what_is_no_folder_and_no_bucket_is_fetched_as_the_service_does(self):
        loader = self.loader()
        with pytest.raises(TaskError) as caught:
            loader.fetch_if_changed("http://127.0.0.1:1/x.png", task_id=1, host=LabelStudioHost())
        assert caught.value.reason == "refused", "nobody allowed private addresses"

    def test_digests_are_told_once(self, folder):
        loader = self.loader()
        name = str(folder / "bad.png")
        assert loader.take_digest(name) is None
        loader.fetch_if_changed(name, task_id=1, host=LabelStudioHost())
        assert loader.take_digest(name) == digest(name)
        assert loader.take_digest(name) is None
        assert loader.fetch(name) == b"nonsense"
        assert loader.take_digest(name) is None


class TestRunning:
    def test_shards_are_made_one_after_the_other(self, make, names):
        room = make()
        chunks, done = chunks_of(names, 3), []
        reports = [*run_here(chunks, room.maker, done=lambda: done.append(1))]
        assert [report.name for report in reports] == [chunk.name for chunk in chunks]
        assert len(done) == 7
        assert room.shards.names() == {chunk.name for chunk in chunks}

    def test_stop_ends_after_the_one_under_way(self, make, names):
        room, stop = make(), Event()
        assert len([*run_here(chunks_of(names, 3), room.maker, done=stop.set, stop=stop)]) == 1
        assert len(room.shards.names()) == 1

    def test_a_place_that_refuses_ends_it(self, make, names, monkeypatch):
        room = make()
        monkeypatch.setattr(Stores, "write", lambda *_: (_ for _ in ()).throw(BackendError("no")))
        with pytest.raises(BackendError):
            [*run_here(chunks_of(names, 3), room.maker)]


class TestTasks:
    """Shards as a project's tasks."""

    def test_predictions_are_what_the_service_would_answer(self, make, names):
        room = make()
        for chunk in chunks_of(names, 3):
            room.maker.make(chunk)
        tasks = [task for page in room.tasks.task_pages(0, page_size=3) for task in page]
        assert sorted(task["data"]["image"] for task in tasks) == sorted([names[0], names[2], names[4], names[6]])
        assert [task["id"] for task in tasks] == [1, 2, 3, 4]
        assert room.tasks.left_out == 3
        assert [len(page) for page in room.tasks.task_pages(0, page_size=3)] == [3, 1]
        asked = [{"id": task["meta"]["sha256"], "data": task["data"]} for task in tasks]
        answered = room.predictor.predict(asked, room.config)
        for task, answer in zip(tasks, answered, strict=True):
            [prediction] = task["predictions"]
            assert {key: prediction[key] for key in ("result", "score", "model_version")} == answer
            assert task["annotations"] == []
        described = {"id": 7, "title": room.shards.version, "label_config": LABELS}
        assert room.tasks.project(7) == described

    def test_addresses_can_be_those_of_label_studio(self, make, names, folder):
        room = make()
        room.maker.make(Chunk.of(names[:1]))
        replaced = [("/nowhere", "x"), (f"{folder}/", "/data/local-files/?d=photos/")]
        tasks = ShardTasks(room.shards, room.config, "image", LABELS, replaced=replaced)
        [[task]] = tasks.task_pages(0)
        assert task["data"] == {"image": "/data/local-files/?d=photos/0.png"}
