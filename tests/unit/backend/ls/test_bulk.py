"""`clipdiy-ls bulk`, as somebody runs it, with networks that are none; and what is made of its shards."""

import json
import os
import re
import signal
import threading
from typing import ClassVar

import pytest
import yaml
from command_line import ROOT, in_process
from fakes import FakeCore
from PIL import Image
from pyarrow import parquet
from s3_server import ACCESS_KEY, SECRET_KEY, S3Server

from backend.bulk.asking import config_for
from backend.bulk.on_ray import RayOptions
from backend.bulk.places import Stores
from backend.bulk.shards import SHARD
from backend.errors import BackendError
from backend.ls import bulk_job
from backend.ls.app import Commands, main
from backend.ls.bulk_job import BulkJob
from backend.metrics import Metrics
from backend.predicting.predictor import Predictor, PredictorOptions
from backend.settings import Settings


@pytest.fixture
def cores(monkeypatch):
    """The networks that were made."""
    made, predictors = [], []

    def build(settings, loader_of, cache):
        core = FakeCore()
        core.settings = settings
        made.append(core)
        predictors.append(Predictor(core, loader_of(None), PredictorOptions(), Metrics(), cache))
        return predictors[-1]

    monkeypatch.setattr(bulk_job, "build_predictor", build)
    yield made
    for predictor in predictors:
        predictor.close()


@pytest.fixture
def clipdiy_ls(cores, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("CLIPDIY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("CLIPDIY_PRESET", raising=False)

    return in_process(main, capsys)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (10, 8), (number, 0, 0)).save(folder / f"{number}.png")
    return folder


def shards(out):
    return sorted(out.glob("clip-diy-*/part-*.parquet"))


def test_a_folder_becomes_shards(clipdiy_ls, photos, tmp_path):
    out = tmp_path / "out"
    command = ("bulk", photos, "--labels", "cat, dog", "--out", out, "--shard-size", 2)
    ran = clipdiy_ls(*command)
    assert ran.code == 0, ran.err
    [version] = {path.parent for path in shards(out)}
    assert ran.out == f"5 pictures into shards in {version}\n"
    assert len(shards(out)) == 3
    rows = [row for path in shards(out) for row in parquet.read_table(path).to_pylist()]
    assert sorted(row["source"] for row in rows) == [str(photos / f"{number}.png") for number in range(5)]
    assert {row["version"] for row in rows} == {version.name}
    assert 'value="cat"' in (version / "labeling.xml").read_text()
    again = clipdiy_ls(*command)
    assert again.out == f"0 pictures into shards in {version}; 5 were done before\n"
    assert again.code == 0


def test_what_failed_is_listed_and_can_be_tried_again(clipdiy_ls, photos, tmp_path):
    (photos / "x.png").write_bytes(b"nonsense")
    command = ("bulk", photos, "--labels", "cat", "--out", tmp_path / "out")
    ran = clipdiy_ls(*command)
    assert ran.code == 1
    assert ran.err.startswith(f"{photos}/x.png: not-an-image: ")
    assert ran.out.endswith("; 1 failed (1 not-an-image)\n")
    assert clipdiy_ls(*command).out.endswith("; 6 were done before; 1 failed (1 not-an-image)\n")
    Image.new("RGB", (10, 8)).save(photos / "x.png")
    ran = clipdiy_ls(*command, "--retry-failed")
    assert (ran.code, ran.out.partition(" pictures")[0]) == (0, "1")
    assert clipdiy_ls(*command).code == 0


def test_for_scripts(clipdiy_ls, photos, tmp_path):
    (photos / "x.png").write_bytes(b"nonsense")
    ran = clipdiy_ls("bulk", photos, "--labels", "cat", "--out", tmp_path / "out", "--json")
    told = json.loads(ran.out)
    assert ran.code == 1
    assert (told["pictures"], told["made"], told["done_before"], told["is_complete"]) == (6, 6, 0, True)
    assert told["failed"] == {"not-an-image": 1}
    assert told["failures"][0]["source"] == str(photos / "x.png")
    assert told["folder"] == str(tmp_path / "out" / told["version"])


def test_a_config_instead_of_labels(clipdiy_ls, photos, tmp_path):
    config = tmp_path / "config.xml"
    config.write_text(
        '<View><Image name="i" value="$photo"/><PolygonLabels name="p" toName="i"><Label value="Owl"/></PolygonLabels>'
        "</View>"
    )
    assert clipdiy_ls("bulk", photos, "--config", config, "--out", tmp_path / "out").code == 0
    [path] = shards(tmp_path / "out")
    assert parquet.read_table(path).to_pylist()[0]["maps"][0]["controls"] == ["p"]
    assert (path.parent / "labeling.xml").read_text() == config.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "what is asked for is missing"),
        (("--labels", "cat", "--config", "x.xml"), "--labels and --config say the same thing twice"),
        (("--stuff", "sky", "--config", "x.xml"), "--stuff and --config say the same thing twice"),
        (("--labels", "cat", "--stuff", "sky"), "what is stuff must be a label too, and 'sky' is none"),
        (("--config", "none.xml"), "none.xml cannot be read: No such file or directory"),
        (("--labels", " "), "there is no label"),
        (("--labels", "cat", "--preset", "none"), "CLIPDIY_PRESET: there is no preset 'none'"),
    ],
)
def test_what_stops_it(clipdiy_ls, photos, tmp_path, arguments, message):
    ran = clipdiy_ls("bulk", photos, "--out", tmp_path / "out", *arguments)
    assert ran.code == 2
    assert message in ran.err


def test_weights_that_compute_otherwise_are_not_used(cores, tmp_path):
    job = BulkJob(Settings(), Stores(), config_for("cat"), str(tmp_path), version="clip-diy-x")
    with pytest.raises(BackendError, match="the others make clip-diy-x: all machines need the same weights"):
        bulk_job.build_bulk(job)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("networks")], "they are closed"


def test_a_config_is_read_before_weights_are_loaded(cores, tmp_path):
    with pytest.raises(BackendError, match="expected a BrushLabels control"):
        bulk_job.build_bulk(BulkJob(Settings(), Stores(), "<View/>", str(tmp_path)))
    assert not cores


def test_nothing_to_do_is_said(clipdiy_ls, tmp_path, cores):
    ran = clipdiy_ls("bulk", tmp_path / "none", "--labels", "cat", "--out", tmp_path / "out")
    assert (ran.code, ran.err) == (2, f"clipdiy-ls: {tmp_path}/none: no such file or folder\n")
    assert not cores, "no weights are loaded for nothing"


def test_options_of_the_weights(clipdiy_ls, photos, tmp_path, cores):
    options = ("--preset", "starter", "--device", "cpu")
    clipdiy_ls("bulk", photos, "--labels", "cat", "--out", tmp_path / "out", *options)
    assert (cores[0].settings.preset, cores[0].settings.device) == ("starter", "cpu")


def test_other_labels_over_kept_features(clipdiy_ls, photos, tmp_path, cores):
    for labels in ("cat", "dog, owl"):
        ran = clipdiy_ls("bulk", photos, "--labels", labels, "--out", tmp_path / "out", "--keep-features")
        assert ran.code == 0
    assert [sum(core.batches) for core in cores] == [5, 0]
    assert len(shards(tmp_path / "out")) == 2


def test_other_labels_when_pictures_have_come_and_gone(clipdiy_ls, photos, tmp_path, cores):
    """Only what is new is computed, though every picture's place in the list is another one."""
    command = ("bulk", photos, "--out", tmp_path / "out", "--shard-size", 2, "--keep-features")
    assert clipdiy_ls(*command, "--labels", "cat").code == 0
    Image.new("RGB", (10, 8)).save(photos / "00.png")
    (photos / "4.png").unlink()
    assert clipdiy_ls(*command, "--labels", "dog").out.startswith("5 pictures into shards")
    assert [sum(core.batches) for core in cores] == [5, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--ray", "local", "--device", "cuda:1"),
            "on Ray every actor has one GPU, its first: --device cuda, not cuda:1",
        ),
        (("--ray", ""), "--ray takes an address: local, auto"),
    ],
)
def test_what_stops_it_on_ray(clipdiy_ls, photos, tmp_path, options, message):
    ran = clipdiy_ls("bulk", photos, "--labels", "cat", "--out", tmp_path / "out", *options)
    assert ran.code == 2
    assert message in ran.err


@pytest.mark.parametrize(("device", "gpus"), [("auto", None), ("cpu", False), ("cuda", True)])
def test_on_ray_with_the_device_that_was_named(clipdiy_ls, photos, tmp_path, monkeypatch, device, gpus):
    """The runner is asked for what the options say, and does the rest as here."""
    asked = []

    class Runner:
        def __init__(self, options):
            asked.append(options)

        def __enter__(self):
            return self

        def __exit__(self, *_error):
            asked.append("closed")

        def ask(self, look):
            return look()

        def run(self, chunks, make_maker, stop):
            print("(raylet) A worker died")
            maker = make_maker()
            yield from (maker.make(chunk) for chunk in chunks)

    monkeypatch.setattr("backend.bulk.on_ray.RayRunner", Runner)
    options = ("--ray", "auto", "--ray-cores", 4, "--ray-actors", 3, "--device", device, "--shard-size", 2, "--json")
    ran = clipdiy_ls("bulk", photos, "--labels", "cat", "--out", tmp_path / "out", *options)
    assert ran.code == 0, ran.err
    assert asked == [RayOptions("auto", 4, 3, gpus), "closed"]
    assert json.loads(ran.out)["made"] == 5, "what Ray says is not among it"
    assert "A worker died" in ran.err
    assert len(shards(tmp_path / "out")) == 3


def test_ctrl_c_finishes_the_shard_under_way(clipdiy_ls, photos, tmp_path, monkeypatch):
    encode = FakeCore.encode

    def interrupt(self, photos):
        if sum(self.batches) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return encode(self, photos)

    monkeypatch.setattr(FakeCore, "encode", interrupt)
    command = ("bulk", photos, "--labels", "cat", "--out", tmp_path / "out", "--shard-size", 2)
    ran = clipdiy_ls(*command)
    assert ran.code == 130
    assert ran.out.endswith("; stopped; the same command goes on\n")
    assert len(shards(tmp_path / "out")) == 2
    monkeypatch.setattr(FakeCore, "encode", encode)
    assert clipdiy_ls(*command).code == 0
    assert len(shards(tmp_path / "out")) == 3


def test_from_a_bucket_into_a_bucket(clipdiy_ls, photos, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with S3Server() as s3:
        bucket = s3.bucket("b")
        bucket.objects = {f"in/{path.name}": path.read_bytes() for path in photos.iterdir()}
        bucket.objects["in/cut.png"] = bucket.objects["in/0.png"][:40]
        bucket.fails["in/1.png"] = [503]
        ran = clipdiy_ls("bulk", f"s3://b/in?{s3.options}", "--labels", "cat", "--out", f"s3://b/out?{s3.options}")
        assert ran.code == 1
        assert ran.err.startswith("s3://b/in/cut.png: not-an-image: ")
        assert "6 pictures into shards in s3://b/out/clip-diy-" in ran.out
        assert "endpoint_override" not in ran.out + ran.err
        written = [key for key in bucket.objects if key.startswith("out/")]
        assert sorted(key.rpartition(".")[2] for key in written) == ["parquet", "xml"]
        assert not any(b"endpoint_override" in bucket.objects[key] for key in written)


def test_a_bucket_that_refuses(clipdiy_ls, photos, monkeypatch, cores):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with S3Server() as s3:
        s3.bucket("closed").refuses = True
        ran = clipdiy_ls("bulk", photos, "--labels", "cat", "--out", f"s3://closed/out?{s3.options}")
        assert ran.code == 2
        assert ran.err.startswith("clipdiy-ls: s3://closed/out/clip-diy-")
        assert "ACCESS_DENIED" in ran.err
        assert SECRET_KEY not in ran.err
        assert [sum(core.batches) for core in cores] == [0], "nothing is computed for a place that takes nothing"


class TestDocs:
    """docs/scale.md says what there is, and its examples can be typed."""

    TEXT = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    OPTIONS: ClassVar = {
        name: {option for parameter in Commands().get_command(None, name).params for option in parameter.opts}
        for name in ("bulk", "export")
    }

    def test_every_option_has_a_row(self):
        rows = set(re.findall(r"--[a-z-]+", "".join(re.findall(r"^\| `--.*?\|", self.TEXT, re.MULTILINE))))
        preset = set(re.findall(r"`(--[a-z-]+)`", self.TEXT.partition("| `--preset`")[2].partition("|")[0]))
        assert rows | preset == {name for name in self.OPTIONS["bulk"] if name.startswith("--")}

    def test_the_size_of_a_shard_is_the_one_that_is_said(self):
        [parameter] = [one for one in Commands().get_command(None, "bulk").params if one.name == "shard_size"]
        assert parameter.default == SHARD
        assert re.search(r"^\| `--shard-size.*\| (\d+) \|$", self.TEXT, re.MULTILINE)[1] == str(SHARD)

    @pytest.mark.parametrize("name", ["bulk", "export"])
    def test_commands_have_the_options_that_they_are_given(self, name):
        commands = re.findall(rf"clipdiy-ls {name} (?:[^`'\n]|\n    --|\n/)+", self.TEXT)
        assert len(commands) > 1
        used = {option for command in commands for option in re.findall(r"(?<= )--[a-z-]+", command)}
        assert used
        assert used <= self.OPTIONS[name]

    def test_examples_are_yaml(self):
        job, cluster = (yaml.safe_load(found) for found in re.findall(r"```yaml\n(.*?)```", self.TEXT, re.DOTALL))
        assert job["spec"]["entrypoint"].startswith("clipdiy-ls bulk s3://")
        assert cluster["head_node_type"] in cluster["available_node_types"]

    def test_the_version_of_ray_is_the_one_that_was_tried(self):
        locked = re.search(r"^ray==(\S+)", (ROOT / "requirements-dev.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]
        assert {*re.findall(r"ray\[data,default\]==([\d.]+)", self.TEXT)} == {locked}
        assert {*re.findall(r'rayVersion: "([\d.]+)"', self.TEXT)} == {locked}


class TestExport:
    """What `clipdiy-ls export --shards` makes of them."""

    @pytest.fixture
    def out(self, clipdiy_ls, photos, tmp_path):
        (photos / "x.png").write_bytes(b"nonsense")
        assert clipdiy_ls("bulk", photos, "--labels", "cat, dog", "--out", tmp_path / "out").code == 1
        return tmp_path / "out"

    def test_a_file_that_label_studio_imports(self, clipdiy_ls, out, photos, tmp_path):
        command = ("export", "--shards", out, "--format", "labelstudio", "--out", tmp_path / "set")
        ran = clipdiy_ls(*command, "--replace", f"{photos}/=/data/local-files/?d=photos/")
        assert ran.code == 1
        assert ran.err.splitlines() == ["1 pictures are left out: they have failed, see the shards"]
        tasks = json.loads((tmp_path / "set" / "tasks-001.json").read_text())
        assert sorted(task["data"]["image"] for task in tasks) == [
            f"/data/local-files/?d=photos/{number}.png" for number in range(5)
        ]
        for task in tasks:
            [prediction] = task["predictions"]
            assert prediction["score"] == 0.75
            assert [region["value"]["brushlabels"] for region in prediction["result"]] == [["cat"]]

    def test_a_data_set(self, clipdiy_ls, out, tmp_path):
        ran = clipdiy_ls("export", "--shards", out, "--format", "masks", "--out", tmp_path / "set", "--val", 0)
        assert ran.code == 1
        masks = sorted((tmp_path / "set" / "masks" / "train").rglob("*.png"))
        assert len(masks) == 5
        with Image.open(masks[0]) as mask:
            assert mask.getpixel((0, 0)) == 255
            assert mask.getpixel((9, 0)) == 0

    @pytest.mark.parametrize(
        ("form", "file"),
        [
            ("voc", "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"),
            ("coco", "annotations/instances_train.json"),
            ("yolo", "data.yaml"),
            ("hf", "data/train-00000-of-00001.parquet"),
        ],
    )
    def test_every_other_format(self, clipdiy_ls, out, tmp_path, form, file):
        """Other people's readers look at them in tests/unit/backend/export; here, that shards come that far."""
        ran = clipdiy_ls("export", "--shards", out, "--format", form, "--out", tmp_path / "set", "--val", 0, "--json")
        assert json.loads(ran.out)["splits"]["train"] == 5
        assert (tmp_path / "set" / file).is_file(), sorted((tmp_path / "set").rglob("*"))

    def test_one_or_the_other(self, clipdiy_ls, out, tmp_path):
        for arguments in ((), ("--shards", out, "--project", 1)):
            ran = clipdiy_ls("export", "--format", "masks", "--out", tmp_path / "set", *arguments)
            assert ran.code == 2
            assert "name one that is to be exported" in ran.err

    def test_which_version(self, clipdiy_ls, out, photos, tmp_path):
        [first] = {path.parent.name for path in shards(out)}
        assert clipdiy_ls("bulk", photos, "--labels", "owl", "--out", out).code == 1
        command = ("export", "--shards", out, "--format", "labelstudio", "--out", tmp_path / "set")
        ran = clipdiy_ls(*command)
        assert ran.code == 2
        assert "which version? (--model-version); shards there: clip-diy-" in ran.err
        assert "there is no version x" in clipdiy_ls(*command, "--model-version", "x").err
        assert clipdiy_ls(*command, "--model-version", first).code == 1

    @pytest.mark.parametrize(
        ("form", "pair", "message"),
        [
            ("labelstudio", "x", "--replace takes OLD=NEW, got 'x'"),
            ("voc", "a=b", "--replace is for --format labelstudio"),
        ],
    )
    def test_what_replace_takes(self, clipdiy_ls, out, tmp_path, form, pair, message):
        ran = clipdiy_ls("export", "--shards", out, "--format", form, "--out", tmp_path / "set", "--replace", pair)
        assert ran.code == 2
        assert message in ran.err

    def test_a_place_without_shards(self, clipdiy_ls, tmp_path):
        ran = clipdiy_ls("export", "--shards", tmp_path, "--format", "labelstudio", "--out", tmp_path / "set")
        assert ran.code == 2
        assert "shards there: none" in ran.err
