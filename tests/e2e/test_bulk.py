"""Pictures into shards on a real Ray, from and into a store over HTTP; and out of shards into a real Label Studio."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from command_line import ROOT, clipdiy_ls
from pictures import png, scene, truncated_jpeg
from s3_server import ACCESS_KEY, SECRET_KEY, S3Server
from servers import LabelStudio

from backend.deadline import Deadline
from backend.ls.app import main
from benchmarks.bulk import actors_below

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

Found = TypeVar("Found")


def draw(folder: Path, count: int) -> None:
    """Write scenes, of which every fifth is cut off."""
    folder.mkdir()
    for number in range(count):
        content = truncated_jpeg() if number % 5 == 4 else png(scene(7000 + number, (96, 128)).image)
        (folder / f"{number:02}.png").write_bytes(content)


def until(look: Callable[[], Found | None]) -> Found:
    """Wait for something that comes, and return it."""
    deadline = Deadline.after(200)
    while (found := look()) is None:
        deadline.remaining_s()
        time.sleep(0.1)
    return found


def test_a_worker_and_then_the_driver_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is there, nothing is computed twice, and byte for byte what one process makes."""
    data_dir = tmp_path / "data"
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
        "CLIPDIY_PRESET": "starter",
        "CLIPDIY_DEVICE": "cpu",
        "CLIPDIY_DATA_DIR": str(data_dir),
        "CLIPDIY_DOWNLOAD_TIMEOUT_S": "300",
        # As many threads as an actor of one core has: sums come out alike.
        "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    draw(tmp_path / "in", 30)
    with S3Server() as s3:
        bucket = s3.bucket("b")
        bucket.objects = {f"in/{path.name}": path.read_bytes() for path in (tmp_path / "in").iterdir()}

        def arguments(out: str) -> list[str]:
            places = ["bulk", f"s3://b/in?{s3.options}", "--out", f"s3://b/{out}?{s3.options}"]
            return [*places, "--labels", "cat, dog, house", "--shard-size", "3"]

        def made(out: str) -> dict[str, bytes]:
            keys = [key for key in [*bucket.objects] if key.startswith(f"{out}/") and key.endswith(".parquet")]
            return {key.removeprefix(f"{out}/"): bucket.objects[key] for key in keys}

        on_ray = [*arguments("ray"), "--ray", "local", "--ray-cores", "1"]
        bucket.held["in/28.png"] = threading.Event()  # so the last shard is never finished by the first run
        with subprocess.Popen(
            [sys.executable, "-m", "backend.ls", *on_ray], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as driver:
            try:
                until(lambda: made("ray") or driver.poll())
                workers = actors_below(driver.pid)
                os.kill(workers[0], signal.SIGKILL)
                # What the killed one had under way is among them.
                until(lambda: len(made("ray")) == 9 or driver.poll())
                workers += actors_below(driver.pid)
            finally:
                driver.kill()
        assert driver.returncode == -signal.SIGKILL, "it was still at work"
        until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers) or None)
        bucket.held.pop("in/28.png").set()
        finished = made("ray")
        assert len(finished) == 9
        before = len(s3.requests)

        with ThreadPoolExecutor() as beside:
            alone = beside.submit(clipdiy_ls, *arguments("here"), data_dir=data_dir)
            code, again, messages = clipdiy_ls(*on_ray, data_dir=data_dir)
            assert (code, again["failed"]) == (1, {"not-an-image": 6}), messages
            assert (again["done_before"], again["made"]) == (27, 3)
            code, here, messages = alone.result()
            assert (code, here["made"], here["failed"]) == (1, 30, {"not-an-image": 6}), messages
        assert sorted(one["source"] for one in here["failures"]) == [f"s3://b/in/{n:02}.png" for n in range(4, 30, 5)]
        assert {one["reason"] for one in here["failures"]} == {"not-an-image"}
        targets = [target for method, target in s3.requests[before:] if method == "PUT" and "/ray/" in target]
        [written] = [target for target in targets if "part-" in target]
        assert not any(name in written for name in finished), "nothing is done twice"
        assert made("ray") == made("here"), "the same files, byte for byte"


def test_shards_become_tasks_with_predictions(
    label_studio: LabelStudio,
    personal_token: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Imported and never computed again: what `clipdiy-ls predict` would write is there already."""
    for name, value in {"PRESET": "starter", "DEVICE": "cpu", "DATA_DIR": str(tmp_path / "data")}.items():
        monkeypatch.setenv(f"CLIPDIY_{name}", value)

    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        """Run a command in this process, which has loaded torch already."""
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments), "--json"])
        return int(ended.value.code or 0), json.loads(capsys.readouterr().out)

    draw(label_studio.files_dir / "bulk", 6)
    out, exported = tmp_path / "out", tmp_path / "set"
    code, told = run("bulk", label_studio.files_dir / "bulk", "--labels", "cat, dog, house", "--out", out)
    assert (code, told["made"], told["failed"]) == (1, 6, {"not-an-image": 1})
    replaced = f"{label_studio.files_dir}/=/data/local-files/?d="
    code, _ = run("export", "--shards", out, "--format", "labelstudio", "--out", exported, "--replace", replaced)
    assert code == 1, "one picture is left out"

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
    code, pushed = run("predict", *where)
    assert (code, pushed["version"], pushed["written"], pushed["skipped"]) == (0, told["version"], 0, 5)
