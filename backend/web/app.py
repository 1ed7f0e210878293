"""The HTTP side: a Flask app that speaks Label Studio's ML backend protocol. HTTP status codes are only here."""

import logging
import os
import re
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any

from flask import Flask, Response, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.exceptions import (
    ClientDisconnected,
    HTTPException,
    RequestEntityTooLarge,
    ServiceUnavailable,
)

from backend.deadline import Deadline
from backend.errors import LabelConfigError, RequestError
from backend.images.addresses import show_url
from backend.images.host import LabelStudioHost
from backend.learning.report import Reports
from backend.service import Service
from backend.settings import Settings
from backend.web.front import AppFront, Refusal
from backend.web.openapi import describe
from backend.web.page.routes import make_page
from backend.web.protocol import PredictRequest, SetupRequest, TooMuchError, WebhookRequest, memory_of, parse, read_json
from backend.web.spool import Spool, write_answer

logger = logging.getLogger(__name__)

REMEMBERED_VERSIONS = 100
RETRY_AFTER_S = 10
READ_BYTES = 2_000_000_000
PHRASE_CHARS = 300
_NO_PHRASE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+")
# What Label Studio sends; any other word becomes "other", so that a stranger cannot make new metrics.
WEBHOOK_ACTIONS = frozenset(
    (
        *("TASKS_CREATED", "TASKS_DELETED", "ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED"),
        *("ANNOTATIONS_DELETED", "PROJECT_CREATED", "PROJECT_UPDATED", "PROJECT_DELETED", "START_TRAINING"),
        *("LABEL_LINK_CREATED", "LABEL_LINK_UPDATED", "LABEL_LINK_DELETED"),
    )
)


class Busy(ServiceUnavailable):
    """As many requests are being worked on as may be, or as much of them is in memory."""

    description = "too many requests at once; try again"


class _Bodies:
    """What is read of JSON in all requests together takes so much memory at most."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._lock = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """Read the request's body; it may be used until the block is left."""
        data = _body()
        wanted = memory_of(data)
        with self._lock:
            if wanted > self._left:
                raise Busy
            self._left -= wanted
        try:
            yield read_json(data)
        finally:
            with self._lock:
                self._left += wanted


class NotKept(ServiceUnavailable):
    """A webhook could not be written. Label Studio does not send it again, so it must be seen to have failed."""

    description = "the webhook could not be kept; the backend's log says why"


def create_app(service: Service, reports: Reports | None = None) -> Flask:
    """Make the app around a service whose weights are loaded.

    Args:
        service: Answers everything; shared by all threads.
        reports: What the page says of corrections; by default what the service has learned from them.
    """
    app = Flask(__name__, static_folder=None)  # the page has its own
    app.json.sort_keys = False  # type: ignore[attr-defined]
    description = app.json.dumps(describe(with_auth=service.settings.basic_auth_user is not None))
    introductions = service.introductions
    versions: deque[str] = deque(maxlen=REMEMBERED_VERSIONS)
    # Threads must be left for /health and /setup, or Label Studio takes the backend for dead.
    places = threading.BoundedSemaphore(service.settings.max_requests)

    front = AppFront(service.settings)
    app.extensions["clipdiy"] = front

    bodies = _Bodies(READ_BYTES)

    @app.before_request
    def look_at_headers() -> Response | None:
        try:
            front.check(request.environ)
        except Refusal as err:
            answer = jsonify(error=str(err))
            answer.status_code = err.status
            if err.status == HTTPStatus.UNAUTHORIZED:
                answer.headers["WWW-Authenticate"] = 'Basic realm="CLIP-DIY"'
            return answer
        request.max_content_length = front.body_limit(request.environ)
        return None

    @contextmanager
    def working() -> Iterator[Deadline]:
        """Take one of the places before anything of a body is read: too many cost neither memory nor time."""
        if not places.acquire(blocking=False):
            raise Busy
        try:
            yield service.predictor.deadline()
        finally:
            places.release()

    @app.get("/health")
    def health() -> Response:
        return jsonify(status="UP", model_class="ClipDiy")

    @app.post("/setup")
    def setup() -> Response:
        with bodies.reading() as sent:
            body = parse(SetupRequest, sent)
        project = str(body.project or "")
        introductions.remember(project, _introduced(body, service.settings))
        config = service.read_label_config(body.label_config, project)
        version = service.predictor.model_version(config)
        service.predictor.look_at(config)
        if version not in versions:
            versions.append(version)
        labels = sum(len(control.drawn) for control in config.controls)
        logger.info("project %s: set up, %d labels, version %s", project.partition(".")[0] or "?", labels, version)
        return jsonify(model_version=version)

    def answer(body: PredictRequest, deadline: Deadline) -> Response:
        project = str(body.project or "")
        config = service.read_label_config(body.label_config, project)
        version = service.predictor.model_version(config)
        tasks = [task.fields() for task in body.tasks]
        asker: dict[str, Any] = {"project": project.split(".")[0], "host": service.host_of(project)}
        asker["deadline"] = deadline
        context = (body.params or {}).get("context")
        if context:
            results = [service.predictor.interact(task, config, context, **asker) for task in tasks]
            for task, result in zip(tasks, results, strict=True):
                logger.info(
                    "project %s, task %s: a gesture, %d regions",
                    asker["project"] or "?",
                    task["id"],
                    len(result["result"]),
                )
            return jsonify(results=results, model_version=version)
        with ExitStack() as unless_answered:
            spool = Spool(service.settings.answer_memory_bytes, service.settings.data_dir)
            unless_answered.callback(spool.close)
            kept = service.predictor.predict(tasks, config, keep=spool.keep, **asker)
            length, pieces = write_answer(spool, kept, version)
            unless_answered.pop_all()
        made = Response(pieces, content_type="application/json")
        made.content_length = length
        made.call_on_close(spool.close)
        return made

    @app.post("/predict")
    def predict() -> Response:
        with working() as deadline, bodies.reading() as sent:
            return answer(parse(PredictRequest, sent), deadline)

    @app.post("/webhook")
    def webhook() -> tuple[Response, int]:
        with bodies.reading() as sent:
            body = parse(WebhookRequest, sent)
        said = body.model_dump()
        known = body.action in WEBHOOK_ACTIONS
        service.metrics.webhooks.labels(body.action if known else "other").inc()
        try:
            is_kept = service.learning.receive(said)
        except OSError as err:
            logger.error("a webhook could not be kept: %s", err.strerror or type(err).__name__)
            raise NotKept from err
        service.work_ahead(said)
        service.forget_deleted(said)
        return jsonify(status="kept" if is_kept else "heard"), 201

    @app.get("/versions")
    def list_versions() -> Response:
        return jsonify(versions=list(versions))

    @app.get("/metrics")
    def metrics() -> Response:
        several = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        return Response(service.metrics.render(several_processes=several), content_type=CONTENT_TYPE_LATEST)

    @app.get("/openapi.json")
    def openapi() -> Response:
        return Response(description, content_type="application/json")

    app.register_blueprint(
        make_page(service, reports or service.learning, health=health, reading=bodies.reading, working=working)
    )

    @app.errorhandler(TooMuchError)
    def too_much(err: TooMuchError) -> tuple[Response, int]:
        logger.warning("%s refused: %s", request.path, err)
        return jsonify(error=str(err)), 413

    @app.errorhandler(RequestError)
    @app.errorhandler(LabelConfigError)
    def refuse(err: Exception) -> Response:
        # One line: what follows is for the caller, and a config's own words must not look like our log.
        first = (str(err).splitlines() or ["?"])[0]
        logger.warning("%s refused: %s", request.path, first[:500])
        answer = jsonify(error=str(err))
        # Label Studio shows its user these words and nothing of the body.
        answer.status = f"400 {reason_phrase(first)}"
        return answer

    @app.errorhandler(HTTPException)
    def http_error(err: HTTPException) -> tuple[Response, int, dict[str, str]]:
        headers = {name: value for name, value in err.get_headers() if name.lower() != "content-type"}
        if isinstance(err, ServiceUnavailable):
            headers["Retry-After"] = str(RETRY_AFTER_S)
        return jsonify(error=err.description), err.code or 500, headers

    @app.errorhandler(Exception)
    def unexpected(err: Exception) -> tuple[Response, int]:
        # A traceback shows paths, and messages of libraries show what they were given: only where it is asked for.
        logger.error("%s failed: unexpected %s in %s", request.endpoint, type(err).__name__, _place(err))
        logger.debug("%s failed", request.endpoint, exc_info=err)
        return jsonify(error="internal error; the backend's log says more"), 500

    return app


def _body() -> bytes:
    try:
        data = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise
    except ClientDisconnected as err:
        raise RequestError("body: cannot be read") from err
    except Exception as err:  # a sender that went away, chunks that are none: servers have errors of their own for it
        raise RequestError("body: cannot be read") from err
    if request.content_length is None and len(data) == request.max_content_length:
        # Of a body in chunks, Werkzeug silently leaves out what is too much.
        raise RequestEntityTooLarge
    return data


def reason_phrase(text: str) -> str:
    """Return a text as it may stand behind a status: one line, not long, and without angle brackets.

    Label Studio shows it in a window, which takes what stands between angle brackets for markup. Letters beyond ASCII
    are written as UTF-8, in the form that WSGI has for bytes.
    """
    phrase = _NO_PHRASE.sub(" ", text.replace("<", "(").replace(">", ")")).strip()
    if len(phrase) > PHRASE_CHARS:
        phrase = phrase[: PHRASE_CHARS - 3] + "..."
    return phrase.encode("utf-8", "replace").decode("latin-1") or "Bad Request"


def _introduced(body: SetupRequest, settings: Settings) -> LabelStudioHost:
    """Return what a Label Studio said of itself.

    Where it says that it is on a loopback address it must be on this machine, or its address is not ours to use: then
    it is left out, and the log says what to set.
    """
    host = LabelStudioHost(body.hostname or None, body.access_token or None)
    if not host.is_loopback or settings.label_studio_url is not None or _is_from_here():
        return host
    logger.warning(
        "project %s: Label Studio says that it is at %s, which means another machine there than here: set "
        "CLIPDIY_LABEL_STUDIO_URL to its address as this service reaches it",
        *(str(body.project or "?").partition(".")[0], show_url(host.url or "")),
    )
    return LabelStudioHost(None, host.token)


def _is_from_here() -> bool:
    """Whether who asks is on this machine, and nobody else behind a proxy on it."""
    if any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via")):
        return False
    try:
        return ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False


def _place(err: Exception) -> str:
    """Say where an error came from: module and line of the innermost of our own functions."""
    where = "?"
    for frame, line in traceback.walk_tb(err.__traceback__):
        module = str(frame.f_globals.get("__name__", "?"))
        if module.partition(".")[0] in ("backend", "clipdiy"):
            where = f"{module}:{line}"
    return where
