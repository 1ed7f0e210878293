"""Requests that nobody would send, many thousand of them, to the real service over HTTP.

    python -m tests.oracles.fuzz [--cases N] [--seed N]

Starts the service under gunicorn on a free port of the loopback interface, with the starter weights, and sends it, one
third each:

- projects: valid requests to /predict with good and broken tasks in any order. Every answer is compared, task by task,
  with what the task gets alone: never a mask for the wrong task;
- damaged: requests to /predict, /setup and /webhook in which a value was replaced by another, or bytes were changed;
- described: what schemathesis makes up from the service's own description, valid and invalid; every answer is checked
  against the description.

After every request: no 5xx other than 503, an answer within `LIMIT_S`, JSON, and neither a traceback, a token nor a
path of ours in it; at the end the same for the log. `tests/unit/backend/web/test_fuzz.py` does a few in seconds.
"""

import argparse
import base64
import io
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from backend.demo.server_process import backend_process
from clipdiy.starter.scenes import compose_scene

LIMIT_S = 20.0
TOKEN = "f00dfacef00dfacef00dfacef00dfacef00dface"
ROOT = Path(__file__).parents[2]
PICTURES = 12
# Nothing outside this machine is asked for, whatever is made up.
SETTINGS = {"allowed_hosts": "127.0.0.1", "deadline_s": "15"}

CHECKS = [
    *(not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance),
    *(response_schema_conformance, negative_data_rejection),
]

Json = Any


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str
    seconds: float


Send = Callable[[str, bytes], Answer]
"""Posts a body to a path."""


def picture(number: int, size_px: int = 80) -> str:
    """Return a data URI of a scene; each has a size of its own, which its masks must have too."""
    scene = compose_scene(60_000 + number, size_hw=(size_px - number, size_px + number))
    pixels = scene.image.copy()
    pixels[0, 0] = 0  # the tests' core reads there how slow it is to be
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


GOOD = tuple(picture(number) for number in range(PICTURES))
BROKEN: tuple[Json, ...] = (
    None,
    *(
        3,
        True,
        1.5,
        [],
        {},
        [GOOD[0]],
        {"image": GOOD[0]},
        "",
        " ",
        "x",
        "\x00",
        "\ud800",
        "data:",
        "data:image/png;base64,",
    ),
    *(
        "data:image/png;base64,AAAA",
        "data:image/png,x",
        GOOD[0][:200],
        "http://",
        "http://[",
        "http://127.0.0.1:1/x.png",
    ),
    *("https://10.0.0.1/x.png", "http://169.254.169.254/latest/meta-data", "http://localhost/x", "file:///etc/passwd"),
    *(
        "ftp://127.0.0.1/x",
        "s3://bucket/x.png",
        "gs://b",
        "/data/upload/1/x.png",
        "upload/x",
        "//evil/x",
        "\\\\evil\\x",
    ),
    *("/data/local-files/?d=../../etc/passwd", "/data/local-files/?d=/etc/passwd", "../x", "javascript:alert(1)"),
)
LABELS = "".join(f'<Label value="{noun}"/>' for noun in ("dog", "cat", "car", "pizza", "rocket", "butterfly"))
CONFIGS = (
    f'<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i">{LABELS}</BrushLabels></View>',
    '<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i"><Label value="dog"/></BrushLabels></View>',
    f'<View><Image name="i" value="$image"/><PolygonLabels name="p" toName="i">{LABELS}</PolygonLabels></View>',
    '<View><Image name="i" value="$image"/><Choices name="c" toName="i" choice="multiple">'
    '<Choice value="dog"/><Choice value="car"/></Choices></View>',
    '<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i" value="$labels"/></View>',
)
BAD_CONFIGS = (
    *("", " ", "<View/>", "<View>", "<View><Image", "x" * 10_000, "<View>" * 5000 + "</View>" * 5000, "\x00", "&#0;"),
    '<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>',
    '<View><BrushLabels name="b" toName="nothing"><Label value="x"/></BrushLabels></View>',
    CONFIGS[0].replace("$image", ""),
    CONFIGS[0].replace('<Label value="dog"/>', '<Label value="dog" threshold="much"/>'),
)

ONE_IN_FIVE = st.sampled_from([False, False, False, False, True])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(BROKEN[12:]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
finite_json = json_values.filter(lambda value: "NaN" not in json.dumps(value) and "Infinity" not in json.dumps(value))


@st.composite
def tasks(draw: st.DrawFn) -> dict[str, Json]:
    """One task that is formally right; its image may be anything."""
    good = not draw(ONE_IN_FIVE)
    value = draw(st.sampled_from(GOOD)) if good else draw(st.sampled_from([*BROKEN, *BROKEN[12:]]) | finite_json)
    task: dict[str, Json] = {"id": draw(st.integers(0, 10**6) | st.none() | st.sampled_from(["a", "ü"]))}
    data = draw(st.sampled_from(["fields", "fields", "fields", "fields", "missing", "odd"]))
    if data == "fields":
        task["data"] = {
            "image": value,
            "labels": draw(st.sampled_from([["dog", "car"], [{"value": "cat"}], [], "x", None])),
        }
    elif data == "odd":
        task["data"] = draw(finite_json)
    if draw(ONE_IN_FIVE):
        task |= {"annotations": draw(finite_json), "meta": draw(finite_json), "predictions": draw(finite_json)}
    return task


@st.composite
def projects(draw: st.DrawFn) -> dict[str, Json]:
    """A valid request to /predict."""
    return {
        "tasks": draw(st.lists(tasks(), max_size=5)),
        "label_config": draw(st.sampled_from(CONFIGS)),
        "project": draw(st.sampled_from(["1.1795331629", "7", 3, None, ""])),
        "params": draw(st.sampled_from([None, {}, {"login": None, "password": None, "context": None}])),
    }


contexts = st.fixed_dictionaries(
    {
        "result": st.lists(
            st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["keypointlabels", "rectanglelabels", "textarea", "brushlabels", "x"]),
                    "from_name": st.sampled_from(["b", "kp", ""]),
                    "to_name": st.just("i"),
                    "is_positive": st.sampled_from([True, False, None]),
                    "value": st.dictionaries(
                        st.sampled_from(["x", "y", "width", "height", "text", "labels", "keypointlabels", "rotation"]),
                        st.floats(-10, 200) | finite_json,
                    ),
                }
            )
            | finite_json,
            max_size=3,
        )
        | finite_json
    }
)


@st.composite
def webhooks(draw: st.DrawFn) -> Json:
    """A webhook as Label Studio sends it, with anything for its results."""
    when = "2026-01-02T03:04:05Z"
    annotation = {"id": draw(st.integers(1, 5)), "task": 1, "created_at": when, "result": draw(regions | finite_json)}
    return {
        "action": draw(st.sampled_from(["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "START_TRAINING", "x"])),
        "annotation": annotation,
        "task": {"id": 1, "data": {"image": "x"}},
        "project": {"id": 1, "created_at": when, "label_config": draw(st.sampled_from(CONFIGS))},
    }


regions = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.text(max_size=5),
            "from_name": st.sampled_from(["brush", "b", "p", "x"]),
            "type": st.sampled_from(["brushlabels", "bitmasklabels", "polygonlabels", "rectanglelabels", "ellipse"]),
            "original_width": finite_json | st.integers(1, 50),
            "original_height": st.integers(1, 50),
            "value": finite_json
            | st.fixed_dictionaries({"points": finite_json, "rle": finite_json, "imageDataURL": finite_json})
            | st.fixed_dictionaries({name: finite_json | st.floats(-9, 99) for name in ("x", "y", "width", "height")}),
        }
    ),
    max_size=4,
)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path and a body in which something is not as it should be."""
    path = draw(st.sampled_from(["/predict", "/predict", "/setup", "/webhook"]))
    if path == "/predict":
        body: Json = draw(projects())
        body["params"] = {"context": draw(contexts)} if draw(st.booleans()) else draw(finite_json)
    elif path == "/setup":
        body = {"project": "1.2", "hostname": "http://127.0.0.1:1", "access_token": TOKEN, "extra_params": None}
        body["schema"] = draw(st.sampled_from(CONFIGS + BAD_CONFIGS))
    else:
        body = draw(webhooks())
    if draw(ONE_IN_FIVE):
        body["label_config" if path == "/predict" else "schema"] = draw(
            st.sampled_from(BAD_CONFIGS) | st.text(max_size=50)
        )
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        body = _replace_somewhere(draw, body, draw(json_values))
    data = json.dumps(body).encode()
    if draw(ONE_IN_FIVE):
        cut = draw(st.integers(0, len(data)))
        data = data[:cut] + draw(st.binary(max_size=8)) + data[cut + draw(st.integers(0, 20)) :]
    return path, data


def _replace_somewhere(draw: st.DrawFn, value: Json, new: Json) -> Json:
    if isinstance(value, dict) and value and not draw(ONE_IN_FIVE):
        key = draw(st.sampled_from(sorted(value)))
        if draw(ONE_IN_FIVE):
            return {name: kept for name, kept in value.items() if name != key}
        return {**value, key: _replace_somewhere(draw, value[key], new)}
    if isinstance(value, list) and value and not draw(ONE_IN_FIVE):
        i = draw(st.integers(0, len(value) - 1))
        return [*value[:i], _replace_somewhere(draw, value[i], new), *value[i + 1 :]]
    return new


@dataclass
class Checker:
    """Sends requests and holds every answer to what is promised."""

    send: Send
    statuses: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    _alone: dict[str, Json] = field(default_factory=dict)

    def post(self, path: str, data: bytes) -> Answer:
        """Post, and check what holds for every answer."""
        answer = self.send(path, data)
        self.statuses[f"{path} {answer.status}"] += 1
        self.slowest_s = max(self.slowest_s, answer.seconds)
        assert answer.status < 500 or answer.status == 503, f"{path} {answer.status}: {answer.text[:300]}"
        assert answer.seconds < LIMIT_S, f"{path} took {answer.seconds:.1f} s"
        check_discreet(answer.text)
        parsed = json.loads(answer.text)
        if answer.status in (200, 201):
            assert "error" not in parsed
        else:
            assert parsed["error"]
        if answer.status == 503:
            assert int(answer.headers["Retry-After"]) > 0
        return answer

    def predict(self, body: dict[str, Json]) -> list[Json]:
        """Predict, and check that every task got what it gets alone."""
        answer = self.post("/predict", json.dumps(body).encode())
        assert answer.status == 200, answer.text[:300]
        results: list[Json] = json.loads(answer.text)["results"]
        assert len(results) == len(body["tasks"])
        for task, result in zip(body["tasks"], results, strict=True):
            assert nameless(result) == self.alone(task, body["label_config"]), f"task {task}"
        return results

    def alone(self, task: Json, config: str) -> Json:
        """Return what a task gets when nothing else is asked, and nothing was before with its id."""
        key = json.dumps([task.get("data"), config])
        if key not in self._alone:
            body = {"tasks": [{"id": 1, "data": task.get("data")}], "label_config": config}
            answer = self.post("/predict", json.dumps(body).encode())
            self._alone[key] = nameless(json.loads(answer.text)["results"][0])
        return self._alone[key]


def nameless(result: Json) -> Json:
    """Take the regions' ids out of an answer: they are made from the task's id, all else from its image."""
    if isinstance(result, dict):
        return {name: nameless(value) for name, value in result.items() if name != "id"}
    return [nameless(value) for value in result] if isinstance(result, list) else result


def check_discreet(text: str) -> None:
    """Hold that an answer or a log shows nothing of our inside."""
    for secret in ("Traceback", TOKEN, str(ROOT), "site-packages", 'File "'):
        assert secret not in text, f"{secret!r} in: ...{text[max(0, text.find(secret) - 200) :][:400]}"


def described(description: dict[str, Json], *, base_url: str, cases: int, seed_number: int) -> Counter[str]:
    """Send what schemathesis makes up from a description; return statuses by path."""
    schema = schemathesis.openapi.from_dict(description)
    statuses: Counter[str] = Counter()
    operations = [found.ok() for found in schema.get_all_operations()]
    posts = [operation for operation in operations if operation.method.lower() == "post"]
    shares = [(operation, mode) for operation in posts for mode in GenerationMode]
    shares += [(operation, GenerationMode.POSITIVE) for operation in operations if operation not in posts]
    for operation, mode in shares:
        # A GET without parameters has one case only.
        count = max(1, cases // (2 * len(posts))) if operation in posts else 1

        @_many(count, seed_number)
        @given(case=operation.as_strategy(generation_mode=mode))
        def run(case: schemathesis.Case) -> None:
            begun = time.monotonic()
            answer = case.call(base_url=base_url, timeout=LIMIT_S)
            assert time.monotonic() - begun < LIMIT_S
            statuses[f"{case.method} {case.path} {answer.status_code}"] += 1
            if answer.status_code != 503:
                case.validate_response(answer, checks=CHECKS)
            check_discreet(answer.text)

        run()
    return statuses


def _many(count: int, seed_number: int) -> Callable[[Any], Any]:
    """Run a test so many times, the same ones for the same seed."""
    options = settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: seed(seed_number)(options(test))


def run_cases(checker: Checker, cases: int, seed_number: int) -> None:
    """Send `cases` requests, half of them projects and half damaged."""

    @_many(cases // 2, seed_number)
    @given(body=projects())
    def valid(body: dict[str, Json]) -> None:
        checker.predict(body)

    @_many(cases // 2, seed_number + 1)
    @given(case=damaged())
    def broken(case: tuple[str, bytes]) -> None:
        checker.post(*case)

    valid()
    broken()


def main() -> None:
    """Fuzz the real service and print what it answered."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        given_settings = {"preset": "starter", "device": "cpu", "data_dir": f"{folder}/data", **SETTINGS}
        environment = {f"CLIPDIY_{name.upper()}": value for name, value in given_settings.items()}
        log = Path(folder) / "log"
        with backend_process(environment, log_path=log) as server, requests.Session() as session:

            def send(path: str, data: bytes) -> Answer:
                start = time.monotonic()
                headers = {"Content-Type": "application/json"}
                answer = session.post(server.url + path, data=data, headers=headers, timeout=LIMIT_S)
                return Answer(answer.status_code, answer.headers, answer.text, time.monotonic() - start)

            checker = Checker(send)
            third = chosen.cases // 3
            run_cases(checker, 2 * third, chosen.seed)
            description = session.get(f"{server.url}/openapi.json", timeout=LIMIT_S).json()
            statuses = described(
                description, base_url=server.url, cases=chosen.cases - 2 * third, seed_number=chosen.seed
            )
            assert server.is_healthy()
            check_discreet(server.log_text())
    print(f"seed {chosen.seed}, {time.monotonic() - begun:.0f} s, slowest answer {checker.slowest_s:.2f} s")
    for title, counts in (("made up here", checker.statuses), ("made up by schemathesis", statuses)):
        print(f"{title}: {sum(counts.values()):,} requests")
        for name, count in sorted(counts.items()):
            print(f"  {name}: {count:,}")


if __name__ == "__main__":
    main()
