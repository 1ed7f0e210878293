"""README followed to the letter on one machine: its own command, no setting that it does not name, and masks."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from on_screen import iou, stored_mask
from pictures import LABEL_COLOURS, label_config, png, scene
from servers import ROOT, LabelStudio

from backend.demo.server_process import LOOPBACK, ServerProcess, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def readme_command() -> list[str]:
    """Return the line that starts the service without Docker."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [line] = re.findall(r"^    (\.venv/bin/gunicorn .*?)\s*(?:#.*)?$", text, re.MULTILINE)
    program, *arguments = shlex.split(line)
    return [str(Path(sys.executable).parent / Path(program).name), *arguments]


def test_uploads_get_masks(label_studio: LabelStudio, tmp_path: Path, artifacts: Path) -> None:
    port = free_port()
    # The weights that are here, and a port that is free; nothing else.
    own = {"CLIPDIY_PRESET": "starter", "CLIPDIY_DATA_DIR": str(tmp_path)}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLIPDIY_")}
    command = [*readme_command(), "--bind", f"{LOOPBACK}:{port}"]
    url, environment = f"http://{LOOPBACK}:{port}", {**inherited, **own}
    log = artifacts / "backend-readme.log"
    backend = ServerProcess("backend", command, url=url, log_path=log, environment=environment, ready_timeout_s=120)
    with backend as server:
        project_id = label_studio.project("By the README", label_config(*LABEL_COLOURS))
        label_studio.api.connect_backend(project_id, server.url, "CLIP-DIY")
        scenes = [scene(7300 + i) for i in range(6)]
        files = [(f"{i}.png", png(each.image)) for i, each in enumerate(scenes)]
        task_ids = label_studio.api.upload(project_id, files)
        label_studio.api.retrieve_predictions(project_id)
        found = {prediction["task"]: prediction["result"] for prediction in label_studio.api.predictions(project_id)}
    assert sorted(found) == sorted(task_ids)
    regions = [max(found[task_id], key=lambda region: region["score"], default=None) for task_id in task_ids]
    pairs = zip(regions, scenes, strict=True)
    assert sum(region is not None and iou(stored_mask(region), each.objects) > 0.5 for region, each in pairs) >= 4
