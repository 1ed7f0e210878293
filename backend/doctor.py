"""Why does it not work? Looks at everything that has to be right, first things first, and says what to do.

    clipdiy-doctor [--project ID]              also: python -m backend.doctor

Reads the same `CLIPDIY_` variables as the service. Exit code 0: nothing is wrong; 1: something is. Changes nothing, but
that Label Studio looks at a project's backends when it is asked for them, as it does when their page is opened.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import requests
from pydantic import ValidationError

from backend.deadline import Deadline
from backend.errors import BackendError, LabelConfigError, TaskError
from backend.images.addresses import split_url
from backend.images.host import LabelStudioHost
from backend.images.loader import ImageLoader
from backend.images.outbound import Outbound
from backend.images.pages import pictures_of
from backend.images.policy import HostPolicy
from backend.images.tokens import AccessTokens
from backend.images.values import show_value
from backend.label_studio_api import SCORE_FLAG, LabelStudioApi, LabelStudioApiError
from backend.labeling.controls import LabelConfig
from backend.service import make_loader, read_label_config
from backend.settings import Settings, misspelt, problems_of
from clipdiy.errors import ClipDiyError, ConfigError
from clipdiy.method import Method, build_method
from clipdiy.photo import Photo

TIMEOUT_S = 20.0
LEAST_FREE_BYTES = 500_000_000
_CONNECTED = ("CO", "TR", "PR")  # connected, training, predicting


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        verdict: `ok`, `note` (works, but may not be what is wanted) or `bad`.
        what: A few words.
        found: What was found.
        remedy: What to do about it, if there is anything to do.
    """

    verdict: Literal["ok", "note", "bad"]
    what: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return it as lines for a terminal."""
        mark = {"ok": "ok   ", "note": "note ", "bad": "WRONG"}[self.verdict]
        lines = [f"{mark} {self.what}: {self.found}"]
        lines += [f"      -> {line}" for line in self.remedy.splitlines()]
        return "\n".join(lines)


Weights = Method[Any]
Build = Callable[[Settings], Weights]


def load_weights(settings: Settings) -> Weights:
    """Load the weights as the service does.

    Raises:
        ClipDiyError: If they are missing or damaged, or the device is not there.
    """
    return build_method(settings.core_config(), weights_dir=settings.weights_dir)


def examine(project: int | None = None, *, build: Build = load_weights) -> Iterator[Finding]:
    """Look at everything, and yield what was found as soon as it is.

    Args:
        project: Id of a project in Label Studio to look at too.
        build: Loads the weights.
    """
    try:
        settings = Settings()
        settings.core_config()
    except ValidationError as err:
        for problem in problems_of(err):
            yield Finding("bad", "settings", problem)
        return
    except ConfigError as err:
        yield Finding("bad", "settings", str(err))
        return
    for doubt in misspelt(os.environ):
        yield Finding("note", "settings", doubt)
    yield _settings(settings)
    weights, finding = _weights(settings, build)
    yield finding
    if weights is not None:
        yield _speed(weights)
    yield data_folder(settings.data_dir)
    api, findings = _label_studio(settings)
    yield from findings
    if project is None:
        yield Finding(
            "note", "project", "none was looked at", "name one to check its labels, images and connection: --project ID"
        )
    elif api is None:
        yield Finding("bad", "project", f"{project} cannot be looked at before Label Studio and a token are right")
    else:
        yield from _project(api, project, settings, weights)


def _settings(settings: Settings) -> Finding:
    given = sorted(f"CLIPDIY_{name.upper()}" for name in settings.model_fields_set)
    return Finding(
        "ok", "settings", f"preset {settings.preset}; set: {', '.join(given) or 'none, all at their defaults'}"
    )


def _weights(settings: Settings, build: Build) -> tuple[Weights | None, Finding]:
    begun = time.monotonic()
    try:
        weights = build(settings)
    except ClipDiyError as err:
        first, _, rest = str(err).partition("\n")
        return None, Finding("bad", "weights", first, rest)
    found = f"{weights.name}, whole, loaded in {time.monotonic() - begun:.0f} s"
    if settings.preset == "starter" and not settings.clip:
        return weights, Finding(
            "note",
            "weights",
            f"{found}: a closed world of 48 nouns in drawn pictures",
            "for photos: run `clipdiy weights fetch`, and set CLIPDIY_PRESET=paper",
        )
    return weights, Finding("ok", "weights", found)


def _speed(weights: Weights) -> Finding:
    rng = np.random.default_rng(0)
    size = (weights.keep_short_px, weights.keep_long_px, 3)
    photo = Photo.from_array(rng.integers(0, 256, size, np.uint8))
    begun = time.monotonic()
    try:
        weights.encode([photo])
    except (ClipDiyError, RuntimeError) as err:
        return Finding("bad", "device", f"{weights.device}: {type(err).__name__}", "another device: CLIPDIY_DEVICE=cpu")
    seconds = time.monotonic() - begun
    found = f"{weights.device}, a picture takes {seconds:.2f} s"
    if str(weights.device) == "cpu" and seconds > 1:
        remedy = f"about {int(80 / seconds)} new pictures fit into one retrieval; a GPU does tens a second"
        return Finding("note", "device", found, remedy)
    return Finding("ok", "device", found)


def data_folder(folder: Path) -> Finding:
    """Look whether the service can keep what it has to keep."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 1000)
        free = shutil.disk_usage(folder).free
    except OSError as err:
        return Finding(
            "bad",
            "data folder",
            f"{folder} cannot be written: {err.strerror or type(err).__name__}",
            "without it webhooks are refused and nothing is known after a restart: make it writable for user "
            f"{os.geteuid()}, or set CLIPDIY_DATA_DIR",
        )
    if free < LEAST_FREE_BYTES:
        return Finding("note", "data folder", f"{folder} has {free / 1e6:.0f} MB left", "make room")
    return Finding("ok", "data folder", f"{folder}, {free / 1e9:.0f} GB free")


def _label_studio(settings: Settings) -> tuple[LabelStudioApi | None, list[Finding]]:
    """Look for Label Studio from here, with the token."""
    url = settings.label_studio_url
    if url is None:
        remedy = (
            "set CLIPDIY_LABEL_STUDIO_URL (and CLIPDIY_LABEL_STUDIO_TOKEN) to have it checked. Without, the service "
            "takes what Label Studio says of itself, which must then have a public address"
        )
        verdict: Literal["note", "ok"] = "ok" if settings.allow_private_addresses else "note"
        return None, [Finding(verdict, "Label Studio", "no address is set", remedy)]
    try:
        _, origin = split_url(url)
        answer = requests.get(f"{url.rstrip('/')}/health", timeout=TIMEOUT_S)
    except TaskError as err:
        return None, [Finding("bad", "Label Studio", str(err), "set CLIPDIY_LABEL_STUDIO_URL to its address")]
    except requests.RequestException as err:
        remedy = "is it running, and is this its address as seen from here?"
        if origin.host in ("localhost", "127.0.0.1", "::1"):
            remedy += " Inside a container localhost is the container: use the service's name, or host.docker.internal"
        return None, [Finding("bad", "Label Studio", f"{url} does not answer ({type(err).__name__})", remedy)]
    if answer.status_code != 200 or '"UP"' not in answer.text:
        return None, [
            Finding(
                "bad",
                "Label Studio",
                f"{url} answers {answer.status_code} to /health, but not as a Label Studio",
                "is there a proxy, a path or a port missing in CLIPDIY_LABEL_STUDIO_URL?",
            )
        ]
    reached = Finding("ok", "Label Studio", f"{url} is up")
    if settings.label_studio_token is None:
        remedy = (
            "the service takes the legacy token that Label Studio sends. If legacy tokens are switched off there, make "
            "a personal access token (Account & Settings) and set CLIPDIY_LABEL_STUDIO_TOKEN"
        )
        return None, [reached, Finding("note", "token", "none is set", remedy)]
    token = settings.label_studio_token.get_secret_value().strip()
    deadline = Deadline.after(TIMEOUT_S)
    try:
        tokens = AccessTokens(Outbound(HostPolicy()))
        authorization = tokens.authorization(LabelStudioHost(url, token, is_configured=True), deadline) or ""
        api = LabelStudioApi(url, authorization, timeout_s=TIMEOUT_S)
        name = api.whoami()
    except TaskError as err:
        return None, [reached, Finding("bad", "token", str(err), "make a new one: Account & Settings")]
    except (LabelStudioApiError, ValueError, KeyError):
        kind = "legacy" if authorization.startswith("Token ") else "personal access"
        remedy = (
            "copy it again from Account & Settings; legacy tokens may be switched off: take a personal access token"
        )
        return None, [reached, Finding("bad", "token", f"Label Studio refuses the {kind} token", remedy)]
    return api, [reached, Finding("ok", "token", f"of {name}")]


def _project(api: LabelStudioApi, project: int, settings: Settings, weights: Weights | None) -> Iterator[Finding]:
    try:
        found = api.project(project)
    except LabelStudioApiError:
        yield Finding("bad", "project", f"there is no project {project} that this token may see")
        return
    config = None
    try:
        config = read_label_config(str(found["label_config"]), settings)
    except LabelConfigError as err:
        first, _, rest = str(err).partition("\n")
        yield Finding("bad", "labeling config", first, rest)
    if config is not None:
        yield from _config(config, weights)
        if weights is not None:
            yield _first_picture(api, project, config, make_loader(settings, weights))
    yield from _backends(api, project, str(found.get("model_version") or ""))


def _config(config: LabelConfig, weights: Weights | None) -> Iterator[Finding]:
    names = ", ".join(
        f"{control.from_name} ({control.kind}, {len(control.drawn)} labels)" for control in config.controls
    )
    yield Finding("ok", "labeling config", names)
    for note in config.notes:
        yield Finding("note", "labeling config", note)
    vocabularies = [control.vocabulary for control in config.controls if control.drawn]
    doubts = dict.fromkeys(doubt for vocabulary in vocabularies if weights for doubt in weights.doubts(vocabulary))
    for doubt in doubts:
        yield Finding("note", "labels", doubt)


def _first_picture(api: LabelStudioApi, project: int, config: LabelConfig, loader: ImageLoader) -> Finding:
    """Fetch the first task's first picture as the service would."""
    try:
        task = api.first_task(project)
    except LabelStudioApiError:
        return Finding("bad", "images", "the project's tasks cannot be read with this token")
    if task is None:
        return Finding("note", "images", "the project has no tasks yet")
    try:
        value = next(iter(pictures_of(task.get("data"), config.controls).values()))
        photo = loader.load(value, task_id=task.get("id"), host=LabelStudioHost(api.url, None))
    except TaskError as err:
        return Finding("bad", "images", f"task {task.get('id')}: {err.reason}: {err}", _image_remedy(err))
    height, width = photo.size_hw
    return Finding("ok", "images", f"task {task.get('id')}: {show_value(value)} has {width} x {height} pixels")


def _image_remedy(err: TaskError) -> str:
    return {
        "refused": "if that host is yours: CLIPDIY_PRIVATE_HOSTS or CLIPDIY_ALLOW_PRIVATE_ADDRESSES=true",
        "unauthorized": "give the service a token that may see the project: CLIPDIY_LABEL_STUDIO_TOKEN",
        "timeout": "CLIPDIY_DOWNLOAD_TIMEOUT_S (or CLIPDIY_DECODE_TIMEOUT_S, once it is there) allows more time",
        "too-large": "CLIPDIY_MAX_IMAGE_BYTES, CLIPDIY_MAX_IMAGE_PX and CLIPDIY_MAX_JPEG_SCANS allow more",
    }.get(err.reason, "")


def _backends(api: LabelStudioApi, project: int, shown: str) -> Iterator[Finding]:
    """Ask Label Studio whether it reaches its backends: it looks when it is asked; and whose scores it shows."""
    try:
        backends = api.backends(project)
    except LabelStudioApiError:
        yield Finding("bad", "connection", "Label Studio does not say which backends the project has")
        return
    if not backends:
        yield Finding(
            "bad",
            "connection",
            "the project has no backend",
            "Settings > Model > Connect Model, with this service's URL",
        )
    for backend in backends:
        url = backend.get("url")
        if backend.get("state") in _CONNECTED:
            yield Finding("ok", "connection", f"Label Studio reaches {url}")
        elif backend.get("state") == "ER":
            reason = str(backend.get("error_message") or "no reason given").strip()[:500]
            yield Finding("bad", "connection", f"Label Studio reaches {url}, which refuses /setup", reason)
        else:
            yield Finding(
                "bad",
                "connection",
                f"Label Studio does not reach {url}",
                "is the service running there, as seen from Label Studio (in a container localhost is the container)?\n"
                "with user and password: are they those of Settings > Model?\n"
                "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false for Label Studio, if the service has a private address",
            )
    versions = [str(backend["model_version"]) for backend in backends if backend.get("model_version")]
    if versions:
        yield _scores(shown, versions)


def _scores(shown: str, versions: Sequence[str]) -> Finding:
    """Say whose scores the data manager shows, where Label Studio does not follow the newest version by itself."""
    if shown in versions:
        return Finding("ok", "scores", f"the data manager shows those of {shown}")
    return Finding(
        "note",
        "scores",
        f"the data manager shows those of {shown or 'no version'}; masks are made by {', '.join(versions)} now",
        "after retrieving: Settings > Annotation, choose that version, Save. Or start Label Studio with\n"
        f"{SCORE_FLAG}=true (then this is in order): it follows the newest version by itself",
    )


def main(arguments: Sequence[str] | None = None, *, build: Build = load_weights) -> None:
    """Examine, print, and end with the exit code.

    Raises:
        SystemExit: Always; 1 if something is wrong.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--project", type=int, metavar="ID", help="a project in Label Studio to look at too")
    chosen = parser.parse_args(arguments)
    wrong = 0
    try:
        for finding in examine(chosen.project, build=build):
            print(finding, flush=True)
            wrong += finding.verdict == "bad"
    except BackendError as err:
        print(f"WRONG {err}")
        wrong += 1
    print("nothing is wrong" if not wrong else f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
