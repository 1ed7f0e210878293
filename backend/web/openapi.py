"""The description that the service gives of itself: OpenAPI 3.1, made of the models that requests are checked with.

Pure. `tests/unit/backend/web/test_fuzz.py` makes up requests from it, checks every answer against it, and compares its
paths with the app's.
"""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from backend.web.protocol import PredictRequest, SetupRequest, WebhookRequest

Schema = dict[str, Any]

_REGION: Schema = {
    "type": "object",
    "description": "A result in Label Studio's own form.",
    "properties": {
        "id": {"type": "string"},
        "from_name": {"type": "string", "description": "The control."},
        "to_name": {"type": "string", "description": "The image."},
        "type": {"type": "string", "description": "brushlabels, polygonlabels, ...: what the control asks for."},
        "score": {"$ref": "#/components/schemas/Score"},
        "value": {"type": "object"},
    },
    "required": ["from_name", "to_name", "type", "value"],
}
_ANSWERS: dict[str, Schema] = {
    "Score": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "How good the mask, or the mean of the masks, may be expected to be. Not calibrated.",
    },
    "Region": _REGION,
    "Prediction": {
        "type": "object",
        "properties": {
            "result": {"type": "array", "items": {"$ref": "#/components/schemas/Region"}},
            "score": {"$ref": "#/components/schemas/Score"},
            "model_version": {"type": "string"},
        },
        "required": ["result", "score", "model_version"],
    },
    "Health": {
        "type": "object",
        "properties": {"status": {"const": "UP"}, "model_class": {"type": "string"}},
        "required": ["status"],
    },
    "SetupAnswer": {
        "type": "object",
        "properties": {
            "model_version": {
                "type": "string",
                "description": "Changes whenever predictions would be others; Label Studio then asks again.",
            }
        },
        "required": ["model_version"],
    },
    "PredictAnswer": {
        "type": "object",
        "properties": {
            "results": {
                "type": "array",
                "description": "One entry a task, in their order. An empty list stands for a task that failed or that "
                "there was no time for: it may be asked for again.",
                "items": {"anyOf": [{"$ref": "#/components/schemas/Prediction"}, {"type": "array", "maxItems": 0}]},
            },
            "model_version": {"type": "string"},
        },
        "required": ["results", "model_version"],
    },
    "Kept": {"type": "object", "properties": {"status": {"enum": ["kept", "heard"]}}, "required": ["status"]},
    "Versions": {
        "type": "object",
        "properties": {"versions": {"type": "array", "items": {"type": "string"}}},
        "required": ["versions"],
    },
    "Error": {
        "type": "object",
        "properties": {"error": {"type": "string", "description": "What was wrong, for a person."}},
        "required": ["error"],
    },
}
_RETRY_AFTER: Schema = {
    "description": "Seconds after which to try again.",
    "schema": {"type": "string", "pattern": "^[0-9]+$"},
}
_FAILURES = {
    "400": "The body or the labeling config is not what is expected; the message names the field.",
    "401": "User or password is missing or wrong.",
    "403": "A page of another site made a browser send it.",
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "415": "The body is not said to be JSON.",
    "503": "Too much to do, or no room to keep a webhook. Nothing was done; try again.",
}


def describe(*, with_auth: bool) -> Schema:
    """Describe the service.

    Args:
        with_auth: User and password are asked for.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "CLIP-DIY for Label Studio",
            "version": product_version(),
            "description": "Label Studio's ML backend protocol. What fails, fails task by task.",
        },
        "paths": {
            "/health": {"get": _operation("Whether the service is up. Never asks for a password.", "Health")},
            "/": {"get": _root(with_auth=with_auth)},
            "/setup": {
                "post": _operation(
                    "Check a project's labeling config and name the version that its predictions will have.",
                    "SetupAnswer",
                    body=SetupRequest,
                    with_auth=with_auth,
                )
            },
            "/predict": {
                "post": _operation(
                    "Predict tasks: as many as the time allows.",
                    "PredictAnswer",
                    body=PredictRequest,
                    with_auth=with_auth,
                    failures=("503",),
                )
            },
            "/webhook": {
                "post": _operation(
                    "Keep what happened in Label Studio.",
                    "Kept",
                    status="201",
                    body=WebhookRequest,
                    with_auth=with_auth,
                    failures=("503",),
                )
            },
            "/versions": {"get": _operation("Versions that were named lately.", "Versions", with_auth=with_auth)},
            "/metrics": {"get": _operation("Prometheus' text format.", None, with_auth=with_auth)},
            "/openapi.json": {"get": _operation("This description.", {"type": "object"}, with_auth=with_auth)},
        },
        "components": {
            "schemas": {**_requests((SetupRequest, PredictRequest, WebhookRequest)), **_ANSWERS},
            **({"securitySchemes": {"basic": {"type": "http", "scheme": "basic"}}} if with_auth else {}),
        },
    }


def _root(*, with_auth: bool) -> Schema:
    """Describe what answers browsers differently; what the page then asks for is between the two of them."""
    operation = _operation("The same; a browser gets a page to look at.", "Health", with_auth=with_auth)
    operation["responses"]["200"]["content"]["text/html"] = {"schema": {"type": "string"}}
    return operation


def _operation(
    summary: str,
    answer: str | Schema | None,
    *,
    status: str = "200",
    body: type[BaseModel] | None = None,
    with_auth: bool = False,
    failures: Iterable[str] = (),
) -> Schema:
    """Describe one way to call the service; `answer` names a schema, or is one, or `None` for plain text."""
    if answer is None:
        content: Schema = {"text/plain": {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": _named(answer) if isinstance(answer, str) else answer}}
    possible = [*(("400", "403", "408", "413", "415") if body else ()), *(("401",) if with_auth else ()), *failures]
    operation: Schema = {
        "summary": summary,
        "responses": {
            status: {"description": "Done.", "content": content},
            **{code: _failure(code) for code in sorted(possible)},
        },
    }
    if body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _named(body.__name__)}},
        }
    if with_auth:
        operation["security"] = [{"basic": []}]
    return operation


def _failure(code: str) -> Schema:
    failure: Schema = {
        "description": _FAILURES[code],
        "content": {"application/json": {"schema": _named("Error")}},
    }
    if code == "503":
        failure["headers"] = {"Retry-After": _RETRY_AFTER}
    return failure


def _named(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _requests(models: Iterable[type[BaseModel]]) -> Schema:
    _, together = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    schemas: Schema = together["$defs"]
    return schemas


def product_version() -> str:
    """Return the version of this package; 0 where it was never installed."""
    try:
        return version("clip-diy-label-studio")
    except PackageNotFoundError:  # run from a checkout
        return "0"
