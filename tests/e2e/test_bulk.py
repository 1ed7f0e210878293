"""Pictures into shards on a real Ray, from and into a store over HTTP; and out of shards into a real Label Studio."""

import json
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from command_line import clipdiy_ls
from pictures import png, scene, truncated_jpeg
from s3_server import ACCESS_KEY, SECRET_KEY, S3Server
from servers import LabelStudio

from backend.bulk.asking import config_for
from backend.bulk.on_ray import RayOptions, RayRunner
from backend.bulk.places import Stores
from backend.bulk.shards import chunks_of
from backend.errors import BackendError
from backend.ls.bulk_job import BulkJob, look_at_weights, make_maker
from backend.settings import Settings
from benchmarks.bulk import actors_below

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def draw(folder: Path, count: int) -> None:
    """Write scenes, of which every fifth is cut off."""
    folder.mkdir()
    for number in range(count):
        content = truncated_jpeg() if number % 5 == 4 else png(scene(7000 + number, (96, 128)).image)
        (folder / f"{number:02}.png").write_bytes(content)


def test_ray_makes_the_same_bytes_though_a_worker_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
        "CLIPDIY_PRESET": "starter",
        "CLIPDIY_DEVICE": "cpu",
        "CLIPDIY_DATA_DIR": str(tmp_path / "data"),
    }.items():
        monkeypatch.setenv(name, value)
    draw(tmp_path / "in", 30)
    with S3Server() as s3:
        bucket, closed = s3.bucket("b"), s3.bucket("closed")
        closed.refuses = True
        bucket.objects = {f"in/{path.name}": path.read_bytes() for path in (tmp_path / "in").iterdir()}
        stores = Stores.of(f"s3://b?{s3.options}")
        chunks = chunks_of(sorted(stores.files("s3://b/in")), 3)
        labels = "cat, dog, house"
        jobs = {
            name: BulkJob(Settings(), stores, config_for(labels), f"s3://{name}") for name in ("b/ray", "closed/ray")
        }
        # As many threads as an actor of one core has: sums come out alike.
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        places = (f"s3://b/in?{s3.options}", "--out", f"s3://b/here?{s3.options}")
        code, here, messages = clipdiy_ls(
            "bulk", *places, "--labels", labels, "--shard-size", 3, data_dir=tmp_path / "data"
        )
        assert (code, here["failed"]) == (1, {"not-an-image": 6}), messages

        with RayRunner(RayOptions(cores=1, most=2)) as ray:
            found = ray.ask(partial(look_at_weights, jobs["b/ray"]))
            assert found.version == here["version"]
            reports, killed = [], []
            for report in ray.run(chunks, partial(make_maker, jobs["b/ray"].as_elsewhere(found))):
                reports.append(report)
                if not killed:
                    killed.append(actors_below(os.getpid())[0])
                    os.kill(killed[0], signal.SIGKILL)
            with pytest.raises(BackendError, match=r"s3://closed/ray/.* cannot be written: .*ACCESS_DENIED"):
                [*ray.run(chunks[:1], partial(make_maker, jobs["closed/ray"].as_elsewhere(found)))]
            other = replace(jobs["b/ray"], version="clip-diy-other")
            with pytest.raises(BackendError, match="all machines need the same weights"):
                [*ray.run(chunks[:1], partial(make_maker, other))]

        assert sorted(report.name for report in reports) == sorted(chunk.name for chunk in chunks)
        assert sum(report.failed.get("not-an-image", 0) for report in reports) == 6
        made = {
            folder: {
                key.removeprefix(f"{folder}/"): data
                for key, data in bucket.objects.items()
                if key.startswith(f"{folder}/") and key.endswith(".parquet")
            }
            for folder in ("here", "ray")
        }
        assert len(made["here"]) == 10
        assert made["here"] == made["ray"], "the same files, byte for byte"


def test_shards_become_tasks_with_predictions(label_studio: LabelStudio, personal_token: str, tmp_path: Path) -> None:
    """Imported and never computed again: what `clipdiy-ls predict` would write is there already."""
    draw(label_studio.files_dir / "bulk", 6)
    out, exported = tmp_path / "out", tmp_path / "set"
    shards = ("bulk", label_studio.files_dir / "bulk", "--labels", "cat, dog, house", "--out", out)
    code, told, messages = clipdiy_ls(*shards, data_dir=tmp_path / "data")
    assert (code, told["made"], told["failed"]) == (1, 6, {"not-an-image": 1}), messages
    replaced = f"{label_studio.files_dir}/=/data/local-files/?d="
    export = ("export", "--shards", out, "--format", "labelstudio", "--out", exported, "--replace", replaced)
    code, _, messages = clipdiy_ls(*export, data_dir=tmp_path / "data")
    assert code == 1, messages

    api = label_studio.api
    [config] = out.glob("*/labeling.xml")
    project = label_studio.project("Out of shards", config.read_text())
    api.add_local_storage(project, str(label_studio.files_dir / "bulk"))
    content = (exported / "tasks-001.json").read_bytes()
    api.upload(project, [("tasks-001.json", content)])
    stored = api.predictions(project)
    assert len(stored) == len(api.tasks(project)) == len(json.loads(content)) == 5
    assert {one["model_version"] for one in stored} == {told["version"]}
    assert any(one["result"] for one in stored)

    where = ("--project", project, "--url", label_studio.url, "--token", personal_token)
    code, pushed, messages = clipdiy_ls("predict", *where, data_dir=tmp_path / "data")
    assert (code, pushed["version"], pushed["written"], pushed["skipped"]) == (0, told["version"], 0, 5), messages
