"""What the doctor finds, with a Label Studio that is told what to answer and weights that are none."""

import io
import json

import numpy as np
import pytest
from fakes import CONFIG
from PIL import Image
from web_server import Reply, WebServer

from backend import doctor
from backend.doctor import examine, main
from clipdiy.errors import WeightsError

TOKEN = "0123456789abcdef0123456789abcdef01234567"


class FakeWeights:
    name = "fake"
    device = "cpu"
    keep_long_px = 32
    keep_short_px = 16

    def encode(self, photos):
        return [None for _ in photos]

    def doubts(self, vocabulary):
        return tuple(f"unknown: {name}" for name in vocabulary.names if name == "Dog")


def png():
    file = io.BytesIO()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def label_studio():
    """A Label Studio with one project, 7, in which everything is right."""
    with WebServer() as server:
        server.replies = {
            "/health": Reply(body=b'{"status": "UP"}'),
            "/api/current-user/whoami": Reply(body=b'{"username": "anna"}'),
            "/api/projects/7/": Reply(body=json.dumps({"label_config": CONFIG}).encode()),
            "/api/tasks/": Reply(body=b'{"tasks": [{"id": 3, "data": {"image": "/data/upload/7/x.png"}}]}'),
            "/data/upload/7/x.png": Reply(body=png()),
            "/api/ml/": Reply(body=b'[{"url": "http://backend:9090", "state": "CO"}]'),
        }
        yield server


@pytest.fixture(autouse=True)
def environment(label_studio, tmp_path, monkeypatch):
    for name in ("PRESET", "CLIP", "FOUND", "ALLOW_PRIVATE_ADDRESSES"):
        monkeypatch.delenv(f"CLIPDIY_{name}", raising=False)
    monkeypatch.setenv("CLIPDIY_LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("CLIPDIY_LABEL_STUDIO_TOKEN", TOKEN)
    monkeypatch.setenv("CLIPDIY_DATA_DIR", str(tmp_path / "data"))


def look(project=7, build=lambda settings: FakeWeights()):
    findings = list(examine(project, build=build))
    assert TOKEN not in "\n".join(map(str, findings))
    return findings


def wrong(findings):
    return [finding for finding in findings if finding.verdict == "bad"]


def test_everything_is_right(label_studio):
    findings = look()
    assert not wrong(findings)
    found = {finding.what: finding.found for finding in findings if finding.verdict == "ok"}
    assert found["token"] == "of anna"
    assert "40 x 30" in found["images"]
    assert found["connection"] == "Label Studio reaches http://backend:9090"
    assert [str(finding) for finding in findings if finding.verdict == "note"] == ["note  labels: unknown: Dog"]
    with_token = {seen.path.partition("?")[0] for seen in label_studio.seen if "authorization" in seen.headers}
    assert with_token == set(label_studio.replies) - {"/health"}


@pytest.mark.parametrize(
    ("shown", "verdict", "found"),
    [
        ("clip-diy-new", "ok", "the data manager shows those of clip-diy-new"),
        ("clip-diy-old", "note", "shows those of clip-diy-old; masks are made by clip-diy-new now"),
        ("CLIP-DIY", "note", "shows those of CLIP-DIY; masks"),
        (None, "note", "shows those of no version; masks"),
    ],
)
def test_whose_scores_are_shown(label_studio, shown, verdict, found):
    project = {"label_config": CONFIG, "model_version": shown}
    label_studio.replies["/api/projects/7/"] = Reply(body=json.dumps(project).encode())
    backends = [{"url": "http://backend:9090", "state": "CO", "model_version": "clip-diy-new"}]
    label_studio.replies["/api/ml/"] = Reply(body=json.dumps(backends).encode())
    findings = look()
    assert not wrong(findings)
    [scores] = [finding for finding in findings if finding.what == "scores"]
    assert scores.verdict == verdict
    assert found in scores.found
    assert ("Settings > Annotation" in scores.remedy) == (verdict == "note")


FAULTS = {
    "not a label studio": ("/health", Reply(body=b"<html>"), "Label Studio", "proxy"),
    "unhealthy": ("/health", Reply(503), "Label Studio", "proxy"),
    "token refused": ("/api/current-user/whoami", Reply(401), "token", "Account & Settings"),
    "no project": ("/api/projects/7/", Reply(404), "project", ""),
    "config": ("/api/projects/7/", Reply(body=b'{"label_config": "<View/>"}'), "labeling config", "<BrushLabels"),
    "no image": ("/data/upload/7/x.png", Reply(404), "images", ""),
    "image refused": ("/data/upload/7/x.png", Reply(401), "images", "CLIPDIY_LABEL_STUDIO_TOKEN"),
    "no picture": ("/data/upload/7/x.png", Reply(body=b"<html>"), "images", ""),
    "no backend": ("/api/ml/", Reply(body=b"[]"), "connection", "Connect Model"),
    "backend away": ("/api/ml/", Reply(body=b'[{"url": "u", "state": "DI"}]'), "connection", "container"),
    "setup refused": (
        "/api/ml/",
        Reply(body=b'[{"url": "u", "state": "ER", "error_message": "no labels"}]'),
        "connection",
        "no labels",
    ),
}


@pytest.mark.parametrize(("path", "reply", "what", "remedy"), FAULTS.values(), ids=FAULTS)
def test_one_thing_is_wrong(label_studio, path, reply, what, remedy):
    label_studio.replies[path] = reply
    findings = wrong(look())
    assert findings[0].what == what
    assert remedy in findings[0].remedy
    # What cannot be looked at without a Label Studio or a token is said once more, and that is all.
    assert {finding.what for finding in findings[1:]} <= {"project"}


def test_nobody_is_there(monkeypatch):
    monkeypatch.setenv("CLIPDIY_LABEL_STUDIO_URL", "http://localhost:9")
    first, second = wrong(look())
    assert "does not answer" in first.found
    assert "container" in first.remedy
    assert second.what == "project"


def test_a_project_without_tasks(label_studio):
    label_studio.replies["/api/tasks/"] = Reply(body=b'{"tasks": []}')
    assert not wrong(look())


def test_weights_that_are_missing():
    def build(settings):
        raise WeightsError("weights are missing in here:\n  fetch them")

    (finding,) = wrong(look(build=build))
    assert (finding.what, finding.remedy) == ("weights", "  fetch them")


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLIPDIY_DATA_DIR", str(tmp_path / "file" / "data"))
    (finding,) = wrong(look())
    assert finding.what == "data folder"


def test_a_full_disk_is_noted(monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 10**30)
    assert any(finding.what == "data folder" and finding.verdict == "note" for finding in look())


@pytest.mark.parametrize(("name", "value"), [("CLIPDIY_PRESET", "none"), ("CLIPDIY_DEADLINE_S", "-1")])
def test_settings_that_make_no_sense(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    (finding,) = look()
    assert finding.verdict == "bad"
    assert name in finding.found


def test_without_label_studio_and_project(monkeypatch):
    monkeypatch.delenv("CLIPDIY_LABEL_STUDIO_URL")
    assert not wrong(look(project=None))
    assert wrong(look(project=7))


def test_exit_codes_and_output(label_studio, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--project", "7"], build=lambda settings: FakeWeights())
    assert ended.value.code == 0
    assert capsys.readouterr().out.endswith("nothing is wrong\n")
    label_studio.replies["/api/ml/"] = Reply(body=b"[]")
    with pytest.raises(SystemExit) as ended:
        main(["--project", "7"], build=lambda settings: FakeWeights())
    assert ended.value.code == 1
    out = capsys.readouterr().out
    assert "WRONG connection: the project has no backend\n      -> Settings > Model" in out
    assert out.endswith("1 thing is wrong\n")
