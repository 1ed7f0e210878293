"""How long does an export take, and does its memory grow with the project?

    python -m benchmarks.export                     5,000 tasks of 640x480 in every format, in a process each

Tasks are made as they are asked for, page by page, and pictures are read from memory: what is measured is reading
annotations, painting, decoding and writing, not a network. Brushes of scenes with up to four objects, and a prediction
or nothing for every tenth task.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from backend.export.exporting import export_project
from backend.export.formats import FORMATS
from backend.export.source import ProjectSource
from backend.images.host import LabelStudioHost
from backend.images.loader import ImageLoader
from backend.images.sources import ImageSources
from backend.outputs.brush import encode_label_map
from benchmarks.timing import extra_memory_mb, machine
from clipdiy.photo import Photo
from clipdiy.starter.scenes import NOUNS, compose_scene

SIZE_HW = (480, 640)
DIFFERENT = 25  # scenes; tasks take them in turns


class Made:
    """A project of so many tasks that are nowhere all at once; an API and a loader in one."""

    def __init__(self, tasks: int) -> None:
        """Compose the scenes.

        Args:
            tasks: How many tasks.
        """
        self._tasks = tasks
        self._files: list[bytes] = []
        self._results: list[list[dict[str, Any]]] = []
        for seed in range(DIFFERENT):
            scene = compose_scene(seed, size_hw=SIZE_HW, n_objects=(1, 4))
            with tempfile.SpooledTemporaryFile() as file:
                Image.fromarray(scene.image).save(file, "JPEG", quality=90)
                file.seek(0)
                self._files.append(file.read())
            present = [int(number) for number in np.unique(scene.labels) if number]
            codes = encode_label_map(scene.labels.astype(np.uint16), present)
            self._results.append([_region(NOUNS[number - 1], code) for number, code in codes.items()])
        self._decode = ImageLoader(ImageSources()).decode

    def project(self, project_id: int) -> Mapping[str, Any]:
        """Describe it."""
        labels = "".join(f'<Label value="{noun}"/>' for noun in NOUNS)
        brush = f'<BrushLabels name="brush" toName="img">{labels}</BrushLabels>'
        config = f'<View><Image name="img" value="$image"/>{brush}</View>'
        return {"id": project_id, "title": "Made", "label_config": config}

    def task_pages(self, project_id: int, *, fields: str, page_size: int) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Make the tasks."""
        for first in range(0, self._tasks, page_size):
            yield [self._task(number) for number in range(first, min(first + page_size, self._tasks))]

    def fetch(self, value: str, *, task_id: object = None, host: LabelStudioHost | None = None) -> bytes:
        """Return a picture; a byte behind its end makes it another file in every task."""
        return self._files[int(value) % DIFFERENT] + int(value).to_bytes(4, "big")

    def decode(self, data: bytes, value: str) -> Photo:
        """Decode it as the service does."""
        return self._decode(data, value)

    def _task(self, number: int) -> Mapping[str, Any]:
        # A copy of its own, as JSON that was just read would be.
        result = [
            {**region, "value": {**region["value"], "rle": list(region["value"]["rle"])}}
            for region in self._results[number % DIFFERENT]
        ]
        said = {"id": number + 1, "result": result, "updated_at": "2026-01-01T00:00:00Z", "score": 0.9}
        kind = {0: "predictions", 5: "drafts"}.get(number % 10, "annotations")
        return {"id": number + 1, "data": {"image": str(number)}, kind: [said]}


def _region(label: str, code: list[int]) -> dict[str, Any]:
    return {
        "id": label,
        "from_name": "brush",
        "to_name": "img",
        "type": "brushlabels",
        "original_height": SIZE_HW[0],
        "original_width": SIZE_HW[1],
        "image_rotation": 0,
        "value": {"format": "rle", "rle": code, "brushlabels": [label]},
    }


def measure(format_name: str, tasks: int) -> str:
    """Export once with few tasks and once with all, and return a row of the table."""
    memory = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (max(tasks // 10, 1), tasks):
            made = Made(count)
            start = time.perf_counter(), time.process_time()

            def export(made: Made = made, count: int = count) -> None:
                export_project(ProjectSource(made, made, 1), format_name, Path(folder, str(count)))

            memory.append(extra_memory_mb(export))
            wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
        size = sum(path.stat().st_size for path in Path(folder, str(tasks)).rglob("*") if path.is_file())
    return (
        f"| {format_name} | {wall:.0f} s | {cpu:.0f} s | {1000 * cpu / tasks:.1f} ms | {size / 1e6:,.0f} MB "
        f"| {memory[0]:.0f} MB | {memory[1]:.0f} MB more |"
    )


def main() -> None:
    """Measure every format in a process of its own and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--here", action="store_true", help="in this process; one format at a time then")
    chosen = parser.parse_args()
    if chosen.here:
        print(measure(chosen.formats, chosen.tasks), flush=True)
        return
    print(f"{machine()}; {chosen.tasks:,} tasks", flush=True)
    few = max(chosen.tasks // 10, 1)
    print(f"| format | wall | processor | a task | on disk | memory, {few:,} tasks | and for all of them |")
    print("|---" * 7 + "|", flush=True)
    for name in chosen.formats.split(","):
        command = [sys.executable, "-m", "benchmarks.export", "--here", "--formats", name, "--tasks", str(chosen.tasks)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
