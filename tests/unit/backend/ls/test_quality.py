"""`clipdiy-ls quality` and `versions`, as somebody runs them."""

import json

import pytest
import typer
from learned import made_up
from typer.testing import CliRunner
from webhooks import KEY, LABELS, annotated, key_of, project

from backend.corrections.events import read_event, read_project
from backend.corrections.store import Agreement, BesideWords, CorrectionStore
from backend.errors import BackendError
from backend.labeling.reader import parse_label_config
from backend.learning.fits import Fit
from backend.learning.quality import MOST_POINTS, Judged, by_version, classes, curve, gains, judged, mean_iou
from backend.ls.quality import quality
from backend.ls.versions import versions
from clipdiy.learning.calibration import Calibration


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPDIY_DATA_DIR", str(tmp_path))
    made = CorrectionStore(tmp_path)
    ious = {1: 1.0, 2: 0.5, 3: 0.0}
    with made.change() as change:
        change.see(read_project(project(title="Zoo")))
        for number, iou in ious.items():
            [sent] = read_event(annotated(number, number)).annotations
            change.keep(KEY, sent, (), (), {"x": 1})
            state = "accepted" if iou == 1 else "changed" if iou else "deleted"
            rows = [Agreement("brush", None, "Cat", state, iou, 0.5, number // 3)]
            if number == 3:
                rows.append(Agreement("brush", None, "Dog", "added", None, None, 1))
            change.is_examined(KEY, number, "v", rows)
        fit = Fit({"brush": made_up(parse_label_config(LABELS).controls[0].vocabulary)}, Calibration(((0.5, 0.5),)))
        change.use(KEY, change.add_fit(KEY, 3, "names of 2 labels", fit.to_bytes(), [1, 2, 3]))
        change.add_fit(KEY, 5, "the next", fit.to_bytes(), [1])
    return made


def run(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    ended = CliRunner().invoke(app, arguments)
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended.output


def test_the_table(store):
    said = run(quality, "--project", "1")
    assert "project 1 'Zoo'" in said
    assert "3 corrected pictures (3 annotations); median time 12 s" in said
    lines = [line.split() for line in said.splitlines()]
    [cat] = [line for line in lines if line[:1] == ["Cat"]]
    assert (cat[1], cat[2], cat[-4:]) == ("3", "50.0", ["1", "1", "1", "0"])
    [dog] = [line for line in lines if line[:1] == ["Dog"]]
    assert dog[1:] == ["1", "-", "0", "0", "0", "1"]
    assert "version 1 in use:" in said


def test_json_says_the_same(store):
    report = json.loads(run(quality, "--json"))
    assert (report["key"], report["pictures"], report["is_calibrated"]) == (KEY, 3, True)
    assert report["classes"][0]["iou"]["mean"] == pytest.approx(0.5)
    assert [(one["number"], one["is_in_use"]) for one in report["versions"]] == [(2, False), (1, True), (0, False)]
    # Version 1 predicted the last picture only; version 0 the others.
    assert [one["iou"] and one["iou"]["mean"] for one in report["versions"]] == [None, 0.0, 0.75]


def test_what_a_version_gained_over_the_words_on_the_same_pictures(store):
    pairs = {4: (0.8, 0.6), 5: (0.6, 0.6), 6: (1.0, 0.6)}
    with store.change() as change:
        for number, (iou, words_iou) in pairs.items():
            [sent] = read_event(annotated(number, number, at=1_800_000_000 + number)).annotations
            change.keep(KEY, sent, (), (), {"x": 1})
            row = Agreement("brush", None, "Cat", "changed", iou, 0.5, 1)
            change.is_examined(KEY, number, "v", [row], BesideWords(1, iou, words_iou))
    [line] = [line for line in run(quality, "--project", "1").splitlines() if "version 1 in use" in line]
    assert "; on 3 pictures 80.0, the words alone would have 60.0: +20.0 (" in line
    [_, of_fit, of_words] = [one["gain"] for one in json.loads(run(quality, "--json"))["versions"]]
    assert of_words is None
    assert (of_fit["pictures"], of_fit["mean"]) == (3, pytest.approx(0.2))
    assert 0 <= of_fit["low"] < 0.2 < of_fit["high"] <= 0.4 + 1e-9
    with store.change() as change:
        change.annotation_gone(KEY, 6)
        change.annotation_gone(KEY, 5)
    assert "; on 1 picture 80.0, the words alone would have 60.0: +20.0 (20.0 to 20.0)" in run(quality)


def test_several_annotations_of_a_task_are_one_picture(store):
    first, second, third = store.annotations(KEY)
    beside = {1: BesideWords(2, 0.5, 0.5), 2: BesideWords(2, 1.0, 0.5), 3: BesideWords(2, 0.25, 0.5)}
    found = gains({1: (first, second), 2: (third,)}, beside)
    assert set(found) == {2}
    assert (found[2].iou, found[2].words, found[2].mean, found[2].pictures) == (0.5, 0.5, 0.0, 2)
    assert gains({1: (first,)}, {}) == {}


def test_a_picture(store, tmp_path):
    run(quality, "--plot", str(tmp_path / "curve.png"))
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_projects_that_nobody_knows(store):
    with pytest.raises(BackendError, match="nothing is known of project 7"):
        run(quality, "--project", "7")


def test_versions_are_listed_pinned_and_left(store):
    assert run(versions, "--project", "1").splitlines()[1].startswith("1 (in use): from 3 pictures, names of 2 labels")
    assert "2 (in use) (pinned)" in run(versions, "--project", "1", "--use", "2")
    assert store.project(KEY).pinned == 2
    assert "0 (in use) (pinned)" in run(versions, "--project", "1", "--use", "0")
    assert "1 (in use):" in run(versions, "--project", "1", "--use", "auto")
    assert json.loads(run(versions, "--project", "1", "--json"))[0]["number"] == 2
    for wrong, said in (("9", "no version 9"), ("newest", "takes a version's number")):
        with pytest.raises(BackendError, match=said):
            run(versions, "--project", "1", "--use", wrong)


def test_of_two_label_studios_one_has_to_be_named(store):
    with store.change() as change:
        change.see(read_project({**project(), "created_at": "2025-01-01T00:00:00Z"}))
    with pytest.raises(BackendError, match=KEY):
        run(versions, "--project", "1", "--use", "0")
    run(versions, "--project", KEY, "--use", "0")
    assert store.project(KEY).pinned == 0


def test_intervals():
    assert mean_iou([]) is None
    one = mean_iou([0.5])
    assert (one.mean, one.low, one.high, one.pictures) == (0.5, 0.5, 0.5, 1)
    many = mean_iou([0.0, 1.0] * 50)
    assert many.low == pytest.approx(0.4, abs=0.02)
    assert many.high == pytest.approx(0.6, abs=0.02)


def test_memory_of_an_interval_does_not_change_it(monkeypatch):
    values = [n / 99 for n in range(100)]
    whole = mean_iou(values)
    monkeypatch.setattr("backend.learning.quality.DRAWN_AT_ONCE", 250)
    assert mean_iou(values) == whole
    monkeypatch.setattr("backend.learning.quality.DRAWN_AT_ONCE", 1)
    assert mean_iou(values) == whole, "a draw is as long as the pictures are many, and never less than one"


def test_a_long_curve_has_as_many_points_as_can_be_seen(store):
    [annotation] = [one for one in store.annotations(KEY) if one.number == 1]
    [one] = store.agreements(KEY)[1]
    every = [Judged(annotation, (one,))] * (3 * MOST_POINTS + 1)
    assert [point.corrected for point in curve(every, window=2)][:2] == [4, 8]
    assert len(curve(every, window=2)) <= MOST_POINTS
    assert sum(point.iou.pictures for point in curve(every, window=2)) == len(every), "none is left out"
    assert curve(every[:MOST_POINTS], window=1)[0].corrected == 1


def test_the_curve_and_the_versions(store):
    kept = {one.task: (one,) for one in store.annotations(KEY)}
    every = judged(kept, store.agreements(KEY))
    points = curve(every, window=2)
    assert [(point.corrected, point.iou.mean) for point in points] == [(2, 0.75), (3, 0.0)]
    assert {number: iou.mean for number, iou in by_version(every).items()} == {0: 0.75, 1: 0.0}
    assert [one.label for one in classes(every)] == ["Cat", "Dog"]
    assert key_of(1) == KEY
