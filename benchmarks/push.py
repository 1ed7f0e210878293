"""A whole project's predictions into a real Label Studio: which batch is best, and does everything arrive once?

    python -m benchmarks.push [--tasks N] [--written N] [--sizes 1,10,...]

Starts a Label Studio of its own (SQLite) with a project of `--tasks` tasks, each a scene of its own in a local file.

First, predictions are written in batches of several sizes, the median of three, without anything being predicted: what
Label Studio needs for each. Then `clipdiy-ls predict` runs over the whole project with the starter weights, as a
process of its own. A quarter on the way it is killed with -9 and started again; half way, Label Studio is restarted
under it. At the end every task is looked at, and the memory of the process over time is printed (features of pictures
may take 20 MB of it).
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from backend.demo.label_studio_process import Login, find_executable, label_studio_process
from backend.demo.server_process import ServerProcess, free_port
from backend.label_studio_api import LabelStudioApi, TaskFilter
from benchmarks.timing import machine
from clipdiy.starter.scenes import compose_scene

LOGIN = Login("annotator@example.com", "a-long-password", "0123456789abcdef0123456789abcdef01234567")
LABELS = ("cat", "dog", "house", "tree", "car", "cup")
CONFIG = (
    '<View><Image name="img" value="$image"/><BrushLabels name="brush" toName="img">'
    + "".join(f'<Label value="{label}"/>' for label in LABELS)
    + "</BrushLabels></View>"
)
SIZE_HW = (240, 320)


class Watched:
    """`clipdiy-ls predict` as a process of its own, whose memory is looked at every second."""

    def __init__(self, project: int, url: str, data_dir: Path) -> None:
        environment = {
            **os.environ,
            "CLIPDIY_PRESET": "starter",
            "CLIPDIY_DEVICE": "cpu",
            "CLIPDIY_DATA_DIR": str(data_dir),
            "CLIPDIY_CACHE_MEMORY_BYTES": "20000000",
            "CLIPDIY_LABEL_STUDIO_URL": url,
            "CLIPDIY_LABEL_STUDIO_TOKEN": LOGIN.token,
        }
        command = [sys.executable, "-m", "backend.ls", "predict", "--project", str(project), "--json"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        self.megabytes: list[float] = []
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while self.process.poll() is None:
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    self.megabytes.append(int(line.split()[1]) / 1000)
            time.sleep(1)

    def result(self) -> dict[str, Any]:
        """Wait for its end and return what it said."""
        out = self.process.communicate()[0]
        assert self.process.returncode == 0, self.process.returncode
        return dict(json.loads(out))


def draw_scenes(folder: Path, count: int) -> None:
    """Write as many scenes into a folder."""
    folder.mkdir()
    for seed in range(count):
        Image.fromarray(compose_scene(seed, size_hw=SIZE_HW).image).save(folder / f"{seed}.jpg", quality=90)


def make_project(api: LabelStudioApi, folder: Path, tasks: int) -> int:
    """Make a project with the scenes of a folder."""
    project = api.create_project(f"{tasks} scenes", CONFIG)
    api.add_local_storage(project, str(folder))
    api.import_tasks(project, [{"image": f"/data/local-files/?d={folder.name}/{i}.jpg"} for i in range(tasks)])
    return project


def time_batches(api: LabelStudioApi, project: int, sizes: list[int], written: int) -> None:
    """Write the same predictions in batches of several sizes; print milliseconds for each prediction."""
    ids = [task["id"] for task in api.tasks(project)][:written]
    rle = [int(value) for value in (b"\x01\x02\xf8" * 5000)]  # 15,000 numbers: a mask of a photo
    value = {"format": "rle", "rle": rle, "brushlabels": ["cat"]}
    region = {"id": "1", "from_name": "brush", "to_name": "img", "type": "brushlabels", "value": value}
    region |= {"original_width": 640, "original_height": 480, "image_rotation": 0}
    print(f"batch    ms a prediction, of {written}    requests")
    for size in sizes:
        taken = []
        for attempt in range(3):
            version = f"batch-{size}-{attempt}"
            made = [{"task": i, "result": [region], "score": 0.5, "model_version": version} for i in ids]
            begun = time.monotonic()
            for start in range(0, len(made), size):
                api.import_predictions(project, made[start : start + size])
            taken.append(1e3 * (time.monotonic() - begun) / len(made))
        print(f"{size:>5}    {median(taken):24.1f}    {-(-len(ids) // size):8}", flush=True)


def push(api: LabelStudioApi, project: int, server: list[ServerProcess], restart: Any, data_dir: Path) -> None:
    """Predict the whole project through a kill and a restart; print what came of it."""
    tasks = api.count_tasks(project)

    def done() -> int:
        found = [task for task in api.tasks(project) if task["total_predictions"]]
        return len(found)

    begun = time.monotonic()
    first = Watched(project, server[0].url, data_dir)
    while done() < tasks / 4:
        time.sleep(2)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    there = done()
    print(f"killed with -9 after {time.monotonic() - begun:.0f} s: {there} of {tasks} were there", flush=True)
    second = Watched(project, server[0].url, data_dir)
    while done() < tasks / 2:
        time.sleep(2)
    away = restart()
    print(f"Label Studio restarted with {done()} there; it was away for {away:.0f} s", flush=True)
    result = second.result()
    seconds = time.monotonic() - begun
    version = TaskFilter.with_version(result["version"])
    ids = [task["id"] for page in api.task_pages(project, page_size=1000, filters=[version]) for task in page]
    stored = sum(task["total_predictions"] for task in api.tasks(project))
    print(f"at the end: {len(set(ids))} of {tasks} tasks have a prediction of this version, {stored} stored in all")
    print(f"the second run wrote {result['written']}, skipped {result['skipped']}, failed {result['failed']}")
    print(f"{seconds:.0f} s in all, {tasks / seconds:.1f} tasks/s with kill, restart and both loadings of weights")
    memory = second.megabytes
    step = max(1, len(memory) // 10)
    print("memory of the second run, MB: " + ", ".join(f"{megabytes:.0f}" for megabytes in memory[::step]))


def main() -> None:
    """Run the benchmark and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--written", type=int, default=200, help="predictions that are written for each size of batch")
    parser.add_argument("--sizes", default="1,5,20,50,100,200", help="of batches")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        studio, port = Path(folder) / "label-studio", free_port()

        def start() -> ServerProcess:
            described = label_studio_process(
                find_executable(), studio, LOGIN, log_path=Path(folder) / "label-studio.log", port=port
            )
            return running.enter_context(described)

        server = [start()]
        api = LabelStudioApi.with_token(server[0].url, LOGIN.token)

        def restart() -> float:
            begun = time.monotonic()
            server[0].stop()
            server[0] = start()
            return time.monotonic() - begun

        print(machine(), flush=True)
        scenes = studio / "files" / "scenes"
        draw_scenes(scenes, options.tasks)
        sizes = [int(size) for size in options.sizes.split(",")]
        time_batches(api, make_project(api, scenes, options.tasks), sizes, options.written)
        push(api, make_project(api, scenes, options.tasks), server, restart, Path(folder) / "data")


if __name__ == "__main__":
    main()
