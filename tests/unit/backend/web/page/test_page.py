"""The page over HTTP: who gets it, what stands on it, what it lets nobody do."""

import base64
import io
import logging
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fakes import CONFIG, FakeCore, tasks
from learned import made_up
from PIL import Image
from reports import AT, SCENES, SHELF, FakeReports, scenes_report, shelf_report
from services import make_service

from backend.errors import LabelConfigError
from backend.images.loader import ImageLoader
from backend.images.sources import ImageLimits, ImageSources
from backend.labeling.reader import parse_label_config
from backend.labeling.taught import Taught
from backend.learning.report import MeanIou
from backend.metrics import Metrics
from backend.predicting.failures import Failures
from backend.predicting.fair_pool import FairPool, Lane
from backend.predicting.feature_cache import FeatureCache
from backend.predicting.predictor import Predictor, PredictorOptions
from backend.settings import Settings
from backend.web.app import create_app
from backend.web.page.routes import duration
from clipdiy.config import AS_CONFIGURED

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\ud800 {{ 7 * 7 }}'
AUTH = {"Authorization": "Basic " + base64.b64encode(b"anna:geheim").decode()}
BLOCKS = {"dt", "dd", "div", "li", "p", "td", "th", "tr", "h1", "h2", "h3", "h4", "figcaption"}
WITHOUT_END = {"meta", "link", "img", "input", "br"}


@pytest.fixture
def make(tmp_path, monkeypatch):
    for name in ("CLIPDIY_BASIC_AUTH_USER", "CLIPDIY_BASIC_AUTH_PASSWORD", "CLIPDIY_SHOW_PICTURES"):
        monkeypatch.delenv(name, raising=False)
    made = []

    def _make(learning=None, core=None, sources=None, **settings):
        chosen = Settings(data_dir=tmp_path, preset="starter", **settings)
        metrics = Metrics()
        limits = ImageLimits(max_bytes=chosen.max_image_bytes, max_px=chosen.max_image_px)
        loader = ImageLoader(sources or ImageSources(), limits)
        options = PredictorOptions(deadline_s=chosen.deadline_s)
        cache = FeatureCache(None, memory_bytes=10**6, disk_bytes=0)
        predictor = Predictor(core or FakeCore(), loader, options, metrics, cache, failures=Failures(tmp_path))
        service = make_service(chosen, predictor, metrics)
        made.append(service)
        client = create_app(service, reports=learning).test_client()
        client.metrics = metrics
        return client

    yield _make
    for service in made:
        service.close()


class Checked(HTMLParser):
    """Reads a page, and finds what must be on none: code or style in it, tags that do not close, an id twice."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.text, self.addresses = [], [], set(), "", []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        assert len(given) == len(attributes)
        assert "style" not in given
        assert not [name for name in given if name.startswith("on")]
        assert tag != "style"
        if tag == "script":
            assert given["src"].endswith("page/static/page.js")
        if identity := given.get("id"):
            assert identity not in self.ids
            self.ids.add(identity)
        self.tags.append((tag, given))
        self.text += " " * (tag in BLOCKS)
        self.addresses += [given[name] for name in ("href", "src", "action") if name in given]
        if tag not in WITHOUT_END:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in WITHOUT_END:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        assert self.open[-1:] != ["script"] or not data.strip()
        self.text += data

    @property
    def words(self):
        return " ".join(self.text.split())


def page(client, address="/", status=200, **headers):
    answer = client.get(address, headers=HTML | headers)
    assert answer.status_code == status
    assert answer.content_type == "text/html; charset=utf-8"
    return Checked(answer.text)


def png(height=30, width=40, mode="RGB"):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def uri(content):
    return "data:image/png;base64," + base64.b64encode(content).decode()


def try_it(client, content=None, labels="cat, dog", stuff="", **headers):
    body = {"picture": uri(png() if content is None else content), "labels": labels, "stuff": stuff}
    return client.post("/page/try", json=body, headers=headers)


# Who gets what


def test_label_studio_and_curl_get_json_as_ever(make):
    client = make(FakeReports())
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}, {"Accept": "*/*", "Host": "backend:9090"}):
        answer = client.get("/", headers=headers)
        assert answer.data == client.get("/health").data == b'{"status":"UP","model_class":"ClipDiy"}\n'
        assert dict(answer.headers) == dict(client.get("/health").headers)


def test_a_browser_gets_the_page_and_nothing_keeps_it(make):
    answer = make().get("/", headers=HTML)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Vary"] == "Accept"
    assert make().get("/health", headers=HTML).json["status"] == "UP"


@pytest.mark.parametrize(
    "address",
    ["/", "/page/now", "/page/class", "/page/static/page.css", "/page/static/page.js", "/page/static/icon.svg"],
)
def test_no_script_but_our_own_and_no_frame_around_it(make, address):
    with make(show_pictures=True).get(address, headers=HTML) as answer:
        assert answer.status_code == 200
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data: blob:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Referrer-Policy"] == "same-origin"


def test_nothing_comes_from_elsewhere(make):
    client = make(FakeReports(), show_pictures=True)
    for address in ("/", f"/page/class?project={SCENES}&control=brush&label=car", "/page/now"):
        found = page(client, address)
        for linked in found.addresses:
            assert linked.startswith(("./", "../", "#", "data:image/", "http://localhost:8080/projects/"))
        loaded = [given.get("src", "") for tag, given in found.tags if tag in ("img", "script")]
        assert not [address for address in loaded if address.startswith("http")]


@pytest.mark.parametrize("address", ["/", "/page/now", "/page/class", "/page/static/page.js"])
def test_all_of_it_is_behind_the_password(make, address):
    client = make(FakeReports(), basic_auth_user="anna", basic_auth_password="geheim")
    with client.get(address, headers=HTML) as refused, client.get(address, headers=HTML | AUTH) as given:
        assert (refused.status_code, given.status_code) == (401, 200)


@pytest.mark.parametrize("address", ["/page/pin", "/page/try"])
def test_what_it_sends_is_behind_the_password_too(make, address):
    learning = FakeReports()
    client = make(learning, basic_auth_user="anna", basic_auth_password="geheim")
    assert client.post(address, data={"project": SCENES, "version": "0"}).status_code == 401
    assert learning.report(SCENES) == scenes_report()


def test_without_a_password_it_is_shown_under_addresses_only(make):
    client = make(FakeReports(), show_pictures=True)
    for address in ("/", "/page/now", "/page/class"):
        refused = page(client, address, 403, Host="evil.example:9090")
        assert "CLIPDIY_BASIC_AUTH_USER" in refused.words
        assert "Drawn scenes" not in refused.words
        assert page(client, address, Host="127.0.0.1:9090")
    with client.get("/page/static/page.css", headers={"Host": "evil.example:9090"}) as style:
        assert style.status_code == 200
    locked = make(FakeReports(), basic_auth_user="anna", basic_auth_password="geheim")
    assert page(locked, "/", Host="masks.example", **AUTH)


# What runs


def test_what_runs_and_what_was_done(make):
    client = make()
    predicted = [uri(png(20 + i)) for i in range(3)]
    for values in (predicted, [predicted[0], "", "s3://bucket/x.png"]):
        body = {"tasks": tasks(*values), "label_config": CONFIG, "project": "5.1"}
        assert client.post("/predict", json=body).status_code == 200
    words = page(client).words
    assert "Up and healthy" in words
    for text in (
        "Weights fake",
        "Method clip-diy",
        "Device cpu, float32",
        "core fake-1",
        "Tasks predicted 4",
        "Tasks failed 2 1 missing-data, 1 unsupported-source",
        "Tasks waiting 0 nothing is being worked on",
        "1 of 4 pictures were known",
        "Cache hit rate 25 %",
    ):
        assert text in words, text
    assert "Tasks predicted 4" in page(client, "/page/now").words


def test_what_is_waiting_has_an_expected_end(make):
    client = make()
    metrics = client.metrics
    metrics.tasks_waiting.inc(90)
    assert "Tasks waiting 90 the first is not done yet" in page(client, "/page/now").words
    metrics.tasks_per_second.inc(0.5)
    words = page(client, "/page/now").words
    assert "Tasks waiting 90 done in about 3 min, at " in words
    assert "Speed 0.5 tasks/s" in words


def test_what_is_wrong_is_said(make, tmp_path, monkeypatch):
    client = make()
    assert "knows 48 drawn nouns" in page(client).words

    def no_room(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("backend.doctor.tempfile.TemporaryFile", no_room)
    words = page(client).words
    assert "something is wrong" in words
    assert "No space left on device" in words


def test_more_failures_than_predictions_are_no_good_state(make):
    client = make()
    body = {"tasks": tasks(*[""] * 10), "label_config": CONFIG, "project": "5.1"}
    client.post("/predict", json=body)
    assert "something is wrong" in page(client).words


# Failed tasks


def test_all_processes_are_counted_together(make, monkeypatch, tmp_path):
    folder = tmp_path / "metrics"
    folder.mkdir()
    another = """
from backend.metrics import Metrics
metrics = Metrics()
metrics.tasks.labels("predicted").inc(41)
metrics.tasks.labels("download").inc(2)
metrics.info.labels("starter", "cuda:1", "abc").set(1)
"""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[5])}
    subprocess.run([sys.executable, "-c", another], env=environment, check=True)
    client = make()
    assert "Tasks predicted 0" in page(client).words
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    words = page(client).words
    assert "Tasks predicted 41" in words
    assert "Tasks failed 2 2 download" in words


def test_failed_tasks_are_listed_with_their_reasons_until_they_succeed(make):
    client = make()
    client.post(
        "/setup", json={"project": "5.1", "schema": CONFIG, "hostname": "http://ls.example:8080/", "access_token": ""}
    )
    body = {"tasks": tasks("", "ftp://x/y.png"), "label_config": CONFIG, "project": "5.1"}
    client.post("/predict", json=body)
    found = page(client)
    assert "missing-data expected the image's address as text" in found.words
    assert "unsupported-source" in found.words
    assert "http://ls.example:8080/projects/5/data?task=1" in found.addresses
    body["tasks"] = tasks(uri(png()))
    client.post("/predict", json=body)
    found = page(client)
    assert "missing-data expected" not in found.words
    assert "unsupported-source ftp" in found.words


# Projects


def test_projects_that_were_seen(make):
    client = make()
    assert "No project is connected yet" in page(client).words
    for project, host in (
        ("5.1", "http://ls.example"),
        ("6.2", "javascript:alert(1)"),
        (HOSTILE[:-12], "http://a:b@c/"),
    ):
        client.post("/setup", json={"project": project, "schema": CONFIG, "hostname": host, "access_token": "geheim"})
    found = page(client)
    assert "project 5" in found.words
    assert "project 6" in found.words
    assert [one for one in found.addresses if "/projects/" in one] == ["http://ls.example/projects/5/data"]
    assert "geheim" not in client.get("/", headers=HTML).text


def test_a_project_that_is_corrected(make):
    client = make(FakeReports(), show_pictures=True)
    found = page(client)
    for text in (
        "Drawn scenes project 3",
        "Learned from 40 pictures; learns again at 60.",
        "43, 2 skipped, 1 of another size",
        "Median time for a task 32 s",
        "Learns by itself",
        "calibrated: the IoU to be expected",
        "thing A 0.38 0.27 to 0.49 14 1 6 3 4",
        "thing B not measured 3 0 0 0 3",
        "Version 3 in use",
        "0.77 0.72 to 0.82",
        "On 8 pictures 0.78, the words alone would have 0.49: +0.29 (0.20 to 0.37).",
        "Not used: held-out pictures did not gain.",
        "5 corrected: IoU 0.41",
        "Project 7",
        "when asked to train",
        "No picture was predicted and then corrected yet.",
    ):
        assert text in found.words, text
    [curve] = [given for tag, given in found.tags if tag == "svg" and given.get("role") == "img"]
    assert curve["aria-labelledby"] in found.ids
    assert sum(tag == "polyline" for tag, _ in found.tags) == 1
    worst = [given["data-pictures"] for _, given in found.tags if "data-pictures" in given]
    assert [re.search("label=(.*)", address)[1] for address in worst] == ["thing%20B", "thing%20A", "butterfly", "cup"]
    assert "thing B never predicted, added by hand in 3 of 3 pictures" in found.words
    assert "thing A IoU 0.38, added by hand in 4 of 14 pictures" in found.words


def test_one_project_can_be_put_first(make):
    client = make(FakeReports())
    headings = re.findall(r"<h2 id=\"project-\d\">(.*?)</h2>", client.get("/", headers=HTML).text)
    assert "Drawn scenes" in headings[0]
    headings = re.findall(r"<h2 id=\"project-\d\">(.*?)</h2>", client.get(f"/?project={SHELF}", headers=HTML).text)
    assert "Project <bdi>7" in headings[0]
    assert len(headings) == 2
    assert page(client, f"/?project={HOSTILE[:20]}")


def test_of_many_projects_some_are_shown_and_the_others_linked(make):
    reports = [replace(shelf_report(), key=f"{number}.1", number=number) for number in range(100, 140)]
    client = make(FakeReports(*reports))
    found = page(client)
    assert sum(1 for tag, given in found.tags if (given.get("id") or "").startswith("project-") and tag == "h2") == 5
    assert "./?project=139.1#projects" in found.addresses
    assert '"project-1"><bdi>' not in client.get("/?project=139.1", headers=HTML).text
    assert "Project <bdi>139" in client.get("/?project=139.1", headers=HTML).text


def test_labels_and_everything_else_that_people_write_is_only_text(make, tmp_path):
    report = scenes_report()
    quality = replace(report.classes[0], label=HOSTILE, control=HOSTILE, iou=MeanIou(0.1, 0, 0.2, 3))
    version = replace(report.versions[0], note=HOSTILE)
    hostile = replace(
        report,
        title=HOSTILE,
        host="javascript:alert(1)//",
        state=HOSTILE,
        unused={HOSTILE: 3},
        classes=(quality, report.classes[1]),
        versions=(version,),
    )
    client = make(FakeReports(hostile), show_pictures=True)
    Failures(tmp_path).note(HOSTILE[:60], done=[], failed=[(HOSTILE, "download", HOSTILE)])
    found = page(client)
    assert "<script>alert(1)</script>" in found.text
    assert "{{ 7 * 7 }}" in found.text
    assert "49" not in found.text.replace("0.49", "")
    assert not [address for address in found.addresses if address.startswith("javascript")]
    address = next(given["data-pictures"] for _, given in found.tags if "script" in given.get("data-pictures", ""))
    shown = page(client, address.removeprefix("."))
    assert "<script>alert(1)</script>" in shown.text


def test_reports_that_cannot_be_had_cost_nothing_else(make, caplog):
    client = make(FakeReports(broken=True), show_pictures=True)
    found = page(client)
    assert "cannot be read now" in found.words
    assert "Up and healthy" in found.words
    assert "cannot be had now" in page(client, f"/page/class?project={SCENES}&control=brush&label=car").words
    assert "secret" not in found.text + caplog.text
    assert "unexpected OSError" in caplog.text


# Versions


def pin(client, headers=None, **form):
    return client.post("/page/pin", data=form, headers=headers or {})


def test_a_version_is_pinned_and_let_go_again(make, caplog):
    caplog.set_level(logging.INFO)
    learning = FakeReports()
    client = make(learning)
    found = page(client)
    buttons = re.findall(r"(?:Pin|Use|Roll back|Unpin)(?= (?:version|the words))", found.words)
    assert buttons == ["Pin", "Roll back", "Roll back", "Roll back", "Pin"]
    answer = pin(client, project=SCENES, version="1")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"../?project={SCENES}#projects")
    assert [v.number for v in learning.report(SCENES).versions if v.is_in_use and v.is_pinned] == [1]
    assert "project 3: version 1 was chosen" in caplog.text
    words = page(client).words
    assert "Version 1 in use pinned" in words
    assert "Unpin version 1: let the service choose" in words
    assert "Use version 3" in words
    assert pin(client, project=SCENES, version="automatic").status_code == 303
    assert not [v for v in learning.report(SCENES).versions if v.is_pinned]
    assert pin(client, project=SCENES, version="0").status_code == 303
    assert "Words alone in use pinned" in page(client).words


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"project": SCENES, "version": "99"}, 404),
        ({"project": "nothing", "version": "1"}, 404),
        ({"project": HOSTILE[:30], "version": "automatic"}, 404),
        ({"project": SCENES, "version": "-1"}, 400),
        ({"project": SCENES, "version": "1" * 30}, 400),
        ({"project": SCENES, "version": "²"}, 400),
        ({"project": SCENES}, 400),
        ({"x": "y"}, 400),
    ],
)
def test_versions_that_are_not_there(make, form, status):
    learning = FakeReports()
    answer = pin(make(learning), **form)
    assert answer.status_code == status
    assert Checked(answer.text).words.startswith("CLIP-DIY for Label Studio Skip to the content This does not work")
    assert learning.report(SCENES) == scenes_report()
    assert pin(make(None), project=SCENES, version="1").status_code == 404


CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://evil.example", "Host": "evil.example"},
]


@pytest.mark.parametrize("headers", CROSS_SITE)
def test_pages_of_other_sites_pin_and_try_nothing(make, headers):
    learning = FakeReports()
    client = make(learning)
    assert pin(client, headers, project=SCENES, version="0").status_code == 403
    assert try_it(client, **headers).status_code == 403
    assert learning.report(SCENES) == scenes_report()


def test_our_own_page_does(make):
    client = make(FakeReports())
    own = {"Origin": "http://127.0.0.1:9090", "Host": "127.0.0.1:9090", "Sec-Fetch-Site": "same-origin"}
    assert pin(client, own, project=SCENES, version="0").status_code == 303
    assert try_it(client, **own).status_code == 200


def test_a_form_is_a_form_and_a_trial_is_json(make):
    client = make(FakeReports())
    assert client.post("/page/pin", json={"project": SCENES, "version": "0"}).status_code == 415
    assert client.post("/page/pin", data={"project": "x" * 20_000}).status_code == 413
    for content_type in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        assert client.post("/page/try", data=b"{}", content_type=content_type).status_code == 415


# Pictures

CLASS = f"/page/class?project={SCENES}&control=brush&label=car"


def test_pictures_are_shown_where_they_may_be(make):
    learning = FakeReports()
    client = make(learning, show_pictures=True)
    introduced = {"project": SCENES, "schema": CONFIG, "hostname": "http://localhost:8080", "access_token": ""}
    client.post("/setup", json=introduced)
    found = page(client, CLASS)
    assert learning.asked == [(SCENES, "brush", "car", 3)]
    assert "Task 101 IoU 0." in found.words
    assert "http://localhost:8080/projects/3/data?task=101" in found.addresses
    images = [given for tag, given in found.tags if tag == "img"]
    assert len(images) == 3 * 4
    assert images[0]["alt"] == "Task 101, where car was predicted"
    assert images[2]["alt"] == "Task 101, where car was kept"
    assert images[1]["src"] != images[3]["src"]
    for given in images:
        kind = given["src"].removeprefix("data:image/").partition(";")[0]
        content = base64.b64decode(given["src"].partition(",")[2])
        assert Image.open(io.BytesIO(content)).format == kind.upper()


def test_without_a_password_pictures_are_shown_only_if_that_is_set(make):
    learning = FakeReports()
    client = make(learning)
    assert "CLIPDIY_SHOW_PICTURES=true" in page(client, CLASS, 403).words
    found = page(client)
    assert "CLIPDIY_SHOW_PICTURES=true" in found.words
    assert not [given for _, given in found.tags if "data-pictures" in given]
    assert not [address for address in found.addresses if "page/class" in address]
    assert learning.asked == []


def test_behind_a_password_pictures_are_shown(make):
    client = make(FakeReports(), basic_auth_user="anna", basic_auth_password="geheim")
    assert "Task 101" in page(client, CLASS, **AUTH).words
    assert client.get(CLASS, headers=HTML).status_code == 401


def test_a_class_without_pictures(make):
    client = make(FakeReports(), show_pictures=True)
    assert "no pictures of it" in page(client, "/page/class?project=none&control=brush&label=car").words
    assert "no pictures of it" in page(make(None, show_pictures=True), CLASS).words


# Try it


def test_labels_are_tried_out(make, caplog):
    caplog.set_level(logging.INFO)
    core = FakeCore(unknown=("dog",))
    client = make(core=core, others="off")
    answer = try_it(client, labels="cat, dog, <b>cow</b>")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    found = Checked(answer.text)
    for text in (
        "1 of 3 labels were found",
        "cat 0.50 50 %",
        "Not found: dog, <b>cow</b>.",
        "Unknown: dog.",
        "No others compete",
        "How it came about",
    ):
        assert text in found.words, text
    assert sum(tag == "img" for tag, _ in found.tags) == 3
    assert [given["fill"] for tag, given in found.tags if tag == "rect"] == ["#e63946"]
    assert "cow" not in caplog.text
    embedded = [prompt for part in core.embedded for prompt in part]
    assert any("cow" in prompt for prompt in embedded)


def test_stuff_is_tried_out(make):
    core = FakeCore()
    asked = []
    segment = core.segment

    def watched(features, vocabulary, *options):
        asked.append(vocabulary)
        return segment(features, vocabulary, *options)

    core.segment = watched
    client = make(core=core, others="off")
    assert try_it(client, labels="cat, sky", stuff="sky").status_code == 200
    assert [vocabulary.stuff for vocabulary in asked] == [(2,)]
    refused = try_it(client, labels="cat, sky", stuff="grass")
    assert refused.status_code == 400
    assert "grass" in refused.json["error"]


def test_a_picture_is_encoded_once_whatever_is_asked_of_it(make):
    core = FakeCore()
    client = make(core=core)
    for labels in ("cat", "dog, cow"):
        assert try_it(client, labels=labels).status_code == 200
    assert core.batches == [1]
    assert "1 of 2 pictures were known" in page(client).words


def test_a_trial_goes_before_requests(make, monkeypatch):
    asked = []
    submit = FairPool.submit

    def watched(pool, job, *, owner="", lane=Lane.REQUEST):
        asked.append((owner, lane))
        return submit(pool, job, owner=owner, lane=lane)

    client = make()
    monkeypatch.setattr(FairPool, "submit", watched)
    assert try_it(client).status_code == 200
    assert [lane for owner, lane in asked if owner == "try it"] == [Lane.INTERACTIVE] * 3, "words, picture, explanation"


def test_a_picture_is_handed_over_whatever_addresses_are_followed(make):
    assert try_it(make(sources=ImageSources(schemes=("https",)))).status_code == 200


@pytest.mark.parametrize(
    ("content", "labels", "settings", "status", "words"),
    [
        (b"", "cat", {}, 400, "the picture"),
        (b"GIF89a but not really", "cat", {}, 400, "the picture"),
        (png(50, 50), "cat", {"max_image_px": 2000}, 413, "at most 2,000 pixels"),
        (b"x" * 3000, "cat", {"max_image_bytes": 2000}, 413, "at most 2,000 bytes"),
        (png(), "", {}, 400, "no label"),
        (png(), "x" * 10_001, {}, 400, "labels"),
        (png(), ",".join(map(str, range(101))), {}, 400, "at most 100 labels"),
    ],
)
def test_what_cannot_be_tried(make, content, labels, settings, status, words):
    answer = try_it(make(**settings), content, labels)
    assert (answer.status_code, words in answer.json["error"]) == (status, True), answer.json


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        '{"picture": 3, "labels": "cat"}',
        '{"picture": "x", "labels": "cat"}',
        '{"picture": "data:,x", "labels": "cat"}',
        '{"labels": "\\ud800", "picture": ""}',
    ],
)
def test_what_is_no_trial(make, body):
    answer = make().post("/page/try", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json["error"]


def test_labels_can_be_tried_as_a_project_has_learned_them(make):
    learning = FakeReports()
    config = parse_label_config(CONFIG)
    [control] = config.controls
    learning.configs[SCENES] = config.taught({control.from_name: Taught(3, made_up(control.vocabulary))})
    used = []

    class Remembers(FakeCore):
        def doubts(self, vocabulary):
            return tuple(f"unknown: {name}" for name in vocabulary.names[1:])

        def segment(self, features, vocabulary, options=AS_CONFIGURED):
            used.append(options.learned)
            return super().segment(features, vocabulary, options)

    client = make(learning, core=Remembers())
    shown = page(client)
    options = [given["value"] for tag, given in shown.tags if tag == "option"]
    assert options == ["", SCENES], "nobody, and who has learned something that is in use"
    body = {"picture": uri(png()), "labels": "", "project": SCENES}
    answer = client.post("/page/try", json=body)
    assert answer.status_code == 200
    assert "As the project has learned it: version 3." in Checked(answer.text).words
    assert try_it(client).status_code == 200
    assert [learned is not None for learned in used] == [True, False]
    assert "Unknown: " not in answer.text, "words that examples were learned for may mean nothing"
    assert "Unknown: " in try_it(client, labels="Cat, Dog").text


def test_without_a_project_that_has_learned_none_is_offered(make):
    assert "select" not in [tag for tag, _ in page(make(FakeReports(shelf_report()))).tags]


@pytest.mark.parametrize("broken", [False, True])
def test_a_project_that_cannot_be_asked_is_one_message(make, broken):
    answer = make(FakeReports(broken=broken)).post(
        "/page/try", json={"picture": uri(png()), "labels": "", "project": "7.7"}
    )
    assert answer.status_code == 400
    assert ("cannot be read now" if broken else "load the page again") in answer.json["error"]
    assert "secret" not in answer.text


def test_a_projects_config_that_cannot_be_read_is_said(make):
    class Unreadable(FakeReports):
        def config(self, key):
            raise LabelConfigError("the config is no XML")

    answer = make(Unreadable()).post("/page/try", json={"picture": uri(png()), "labels": "", "project": SCENES})
    assert (answer.status_code, "no XML" in answer.json["error"]) == (400, True)


def test_a_body_has_a_limit(make):
    client = make(max_image_bytes=10_000, max_request_bytes=5_000)
    assert try_it(client, b"x" * 6_000).status_code == 413
    client = make(max_image_bytes=10_000)
    assert client.post("/page/try", data=b"x" * 40_000, content_type="application/json").status_code == 413


def test_an_address_in_place_of_a_picture_is_not_followed(make):
    for picture in ("https://elsewhere.example/x.png", "/data/upload/1/x.png", "file:///etc/passwd"):
        answer = make().post("/page/try", json={"picture": picture, "labels": "cat"})
        assert answer.status_code == 400
        assert "base64" in answer.json["error"]


def test_too_many_at_once_are_told_to_come_back(make):
    class Held(FakeCore):
        begun, go_on = threading.Event(), threading.Event()

        def encode(self, photos):
            self.begun.set()
            assert self.go_on.wait(20)
            return super().encode(photos)

    core = Held()
    client = make(core=core, max_requests=1)
    answers = []
    first = threading.Thread(target=lambda: answers.append(try_it(client)))
    first.start()
    try:
        assert core.begun.wait(20)
        second = try_it(client)
        assert second.status_code == 503
        assert int(second.headers["Retry-After"]) > 0
        body = {"tasks": [], "label_config": CONFIG}
        assert client.post("/predict", json=body).status_code == 503, "the places are the same"
        assert page(client), "who only looks needs none"
    finally:
        core.go_on.set()
        first.join()
    assert answers[0].status_code == 200
    assert try_it(client).status_code == 200


def test_a_trial_has_a_deadline(make):
    class Held(FakeCore):
        go_on = threading.Event()

        def encode(self, photos):
            assert self.go_on.wait(20)
            return super().encode(photos)

    core = Held()
    answer = try_it(make(core=core, deadline_s=1))
    core.go_on.set()
    assert answer.status_code == 503
    assert "deadline" in answer.json["error"]


def test_an_explanation_has_the_same_deadline(make):
    class Held(FakeCore):
        go_on = threading.Event()

        def explain(self, *arguments):
            assert self.go_on.wait(20)
            return super().explain(*arguments)

    core = Held()
    answer = try_it(make(core=core, deadline_s=1))
    core.go_on.set()
    assert answer.status_code == 503


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0694, "69 ms"),
        (3.21, "3.2 s"),
        (31.5, "32 s"),
        (89, "89 s"),
        (100, "2 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_times_are_written_for_people(seconds, text):
    assert duration(seconds) == text


def test_made_up_reports_are_as_the_types_say():
    assert scenes_report().versions[0].at == AT
    assert scenes_report().as_json()["classes"][0]["iou"]["mean"] == 0.38
