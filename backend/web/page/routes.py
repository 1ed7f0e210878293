"""The addresses of the page, and how its answers are sent: never stored, never in a frame, no script but its own."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, jsonify, render_template, request
from flask.blueprints import BlueprintSetupState
from jinja2 import StrictUndefined

from backend.deadline import Deadline
from backend.errors import TaskError, TaskFailure
from backend.images.data_uri import read_data_uri
from backend.learning.report import Reports
from backend.service import Service
from backend.web.page.asked import BELOW, PIN, ROOT, TRY, is_by_address, wants_page
from backend.web.page.overview import Overviews
from backend.web.page.trial import TryRequest, config_as, config_for, data_uri, show
from backend.web.protocol import parse
from clipdiy.draw import percent

logger = logging.getLogger(__name__)

PROTECTION = {
    "Content-Security-Policy": "; ".join(
        (
            *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data: blob:"),
            *("connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"),
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With `no-referrer`, browsers would send `Origin: null` with the page's own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STATUS: dict[TaskFailure, HTTPStatus] = {
    "too-large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "deadline": HTTPStatus.SERVICE_UNAVAILABLE,
    "timeout": HTTPStatus.SERVICE_UNAVAILABLE,
}
_AUTOMATIC = "automatic"

Reading = Callable[[], AbstractContextManager[Any]]
"""Reads a request's JSON body, within what all bodies may take together."""
Working = Callable[[], AbstractContextManager[Deadline]]
"""Takes one of the places for requests that compute, and says when it has to be done."""


def make_page(
    service: Service,
    reports: Reports,
    *,
    health: Callable[[], Response],
    reading: Reading,
    working: Working,
) -> Blueprint:
    """Make the page's addresses.

    Args:
        service: What is looked at.
        reports: What is said of corrections.
        health: What is answered at the root to who is no browser.
        reading: Reads a body.
        working: As for requests to /predict.
    """
    page = Blueprint(
        "page", __name__, template_folder="templates", static_folder="static", static_url_path=f"{BELOW}static"
    )
    overviews = Overviews(service, reports)
    page.record_once(_set_up_templates)

    def html(name: str, status: int = HTTPStatus.OK, **values: object) -> Response:
        # Seen from the root or from below, whatever stands before it where a proxy has put us.
        base = "./" if request.path == ROOT else "../"
        text = render_template(f"page/{name}.html", base=base, **values)
        # Half a character in somebody's label must not cost the page.
        return Response(text.encode("utf-8", "replace"), status=status, content_type="text/html; charset=utf-8")

    def sorry(status: HTTPStatus, problem: str, remedy: str = "") -> Response:
        return html("sorry", status, problem=problem, remedy=remedy)

    @page.before_request
    def look_at_name() -> Response | None:
        is_json = request.path == ROOT and not wants_page(request.environ)
        if (
            is_json
            or request.endpoint == "page.static"
            or service.settings.basic_auth_user is not None
            or is_by_address(request.environ)
        ):
            return None
        return sorry(
            HTTPStatus.FORBIDDEN,
            "Without a password, this page is only shown under an address, such as http://127.0.0.1:9090.",
            "Set CLIPDIY_BASIC_AUTH_USER and CLIPDIY_BASIC_AUTH_PASSWORD to open it under a name.",
        )

    @page.after_request
    def protect(answer: Response) -> Response:
        if answer.mimetype != "application/json":
            answer.headers.update(PROTECTION)
            answer.vary.add("Accept")
            if answer.mimetype == "text/html":
                answer.cache_control.no_store = True
        return answer

    @page.get(ROOT)
    def root() -> Response:
        if not wants_page(request.environ):
            return health()
        projects = overviews.projects(first=request.args.get("project"))
        return html(
            "index",
            now=overviews.now(),
            projects=projects,
            failed=overviews.failed(projects.lines),
            pictures_are_shown=overviews.pictures_are_shown,
        )

    @page.get(f"{BELOW}now")
    def now() -> Response:
        return html("now", now=overviews.now())

    @page.get(f"{BELOW}class")
    def one_class() -> Response:
        key, control, label = (request.args.get(name, "") for name in ("project", "control", "label"))
        if not overviews.pictures_are_shown:
            return sorry(
                HTTPStatus.FORBIDDEN,
                "Pictures of tasks are not shown to everybody who can open this page.",
                "Set a user and a password for this service, or CLIPDIY_SHOW_PICTURES=true.",
            )
        told = overviews.comparisons(key, control, label)
        return html("class", line=overviews.line(key), control=control, label=label, told=told, data_uri=data_uri)

    @page.post(PIN)
    def pin() -> Response:
        key, version = request.form.get("project", ""), request.form.get("version", "")
        is_number = version.isascii() and version.isdigit() and len(version) < 10
        if not (is_number or version == _AUTOMATIC):
            return sorry(HTTPStatus.BAD_REQUEST, "The form does not say which version is meant.")
        try:
            overviews.pin(key, int(version) if is_number else None)
        except LookupError:
            return sorry(HTTPStatus.NOT_FOUND, "There is no such version any more.", "Go back and load the page again.")
        logger.info("project %s: version %s was chosen on the page", key.partition(".")[0][:100], version)
        answer = Response(status=HTTPStatus.SEE_OTHER)
        answer.headers["Location"] = f"../?project={quoted(key)}#projects"
        return answer

    @page.post(TRY)
    def try_it() -> Response:
        with working() as deadline, reading() as sent:
            asked = parse(TryRequest, sent)
            if asked.project:
                config = config_as(overviews.config(asked.project), asked.labels, service.settings, asked.stuff)
            else:
                config = config_for(asked.labels, service.settings, asked.stuff)
            data = read_data_uri(asked.picture, service.settings.max_image_bytes)
            tried = service.predictor.try_out(data, config, deadline=deadline)
            trial = show(tried, config.controls[0].taught)
        logger.info("the page: labels were tried out, %d of them found, %.1f s", len(trial.found), trial.seconds)
        return html("trial", trial=trial)

    @page.errorhandler(TaskError)
    def refuse_picture(err: TaskError) -> tuple[Response, int]:
        logger.warning("%s refused: %s", request.path, err.reason)
        return jsonify(error=str(err)), _STATUS.get(err.reason, HTTPStatus.BAD_REQUEST)

    return page


def _set_up_templates(state: BlueprintSetupState) -> None:
    environment = state.app.jinja_env
    environment.undefined = StrictUndefined
    environment.trim_blocks = environment.lstrip_blocks = True
    filters: dict[str, Callable[..., str]] = {
        "moment": lambda at: datetime.fromtimestamp(at, UTC).strftime("%d %b %Y, %H:%M UTC"),
        "iso": lambda at: datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "percent": percent,
        "sentence": lambda text: f"{text[:1].upper()}{text[1:].rstrip('.')}.",
        "duration": duration,
        "quoted": quoted,
    }
    environment.filters |= filters


def quoted(text: str) -> str:
    """Write a text as part of a query; half a character becomes a question mark."""
    return quote(text, safe="", errors="replace")


def duration(seconds: float) -> str:
    """Write a time for a person: `240 ms`, `3.2 s`, `4 min`, `2 h 5 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
