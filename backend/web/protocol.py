"""What Label Studio may send, and how a request that is something else is refused.

Pure. The description that the service gives of itself (`backend.web.openapi`) is made of these models.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, WithJsonSchema

from backend.errors import RequestError

MAX_DEPTH = 100
"""Lists and objects within one another. Label Studio's own need fewer than 20."""

MAX_TASKS = 100_000
"""In one request. Label Studio sends everything that is selected at once; nobody answers so many in its time."""

MAX_TEXT_CHARS = 200
# What is read of JSON takes about so many bytes: an empty object or list with its place, a text beside its
# characters, a number or a name with its place.
_CONTAINER_BYTES, _TEXT_BYTES, _VALUE_BYTES = 200, 64, 32
# More than that for each byte of JSON is nothing that Label Studio sends, but a body that is made to fill memory.
_FREE_BYTES, _FACTOR = 50_000_000, 20
# A text, also one without an end. Nothing is looked at twice.
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.?+[^"\\]*+)*+"?+', re.DOTALL)
# What would begin a new line, or more, where it is logged.
_CONTROL = re.compile(r"[\u0000-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff]")


def _identifier(value: object) -> str | int | None:
    if value is None or (type(value) is int and -(2**63) <= value < 2**63):
        return value
    if isinstance(value, str) and len(value) <= MAX_TEXT_CHARS and not _CONTROL.search(value):
        return value
    raise ValueError(f"expected an integer, or a text of one line and at most {MAX_TEXT_CHARS} characters")


Identifier = Annotated[
    str | int | None,
    PlainValidator(_identifier),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
                {
                    "type": "string",
                    "maxLength": MAX_TEXT_CHARS,
                    "pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$",
                },
                {"type": "null"},
            ]
        }
    ),
]
"""Names a project or a task. It is logged: one line, and not a long one."""

Body = TypeVar("Body", bound=BaseModel)


class SetupRequest(BaseModel):
    """Body of POST /setup."""

    model_config = ConfigDict(extra="ignore")

    label_config: str = Field(alias="schema", description="The project's labeling config, as XML.")
    project: Identifier = Field(None, description="The project's id, a dot, and when it was made.")
    hostname: str | None = Field(None, max_length=2000, description="Where this Label Studio is.")
    access_token: str | None = Field(None, max_length=10_000, description="With which its images may be fetched.")


class Task(BaseModel):
    """One task. What is in its data is judged task by task, later: a bad one costs no other its masks."""

    model_config = ConfigDict(extra="allow")

    id: Identifier = None
    data: Any = Field(None, description="Fields with names; the labeling config says which of them are images.")

    def fields(self) -> dict[str, Any]:
        """Return everything that came."""
        return {**(self.__pydantic_extra__ or {}), "id": self.id, "data": self.data}


class PredictRequest(BaseModel):
    """Body of POST /predict."""

    model_config = ConfigDict(extra="ignore")

    tasks: list[Task] = Field(max_length=MAX_TASKS, description="In the order in which they are to be answered.")
    label_config: str = Field(description="The project's labeling config, as XML.")
    project: Identifier = Field(None, description="As for /setup.")
    params: dict[str, Any] | None = Field(None, description="What else was asked for, such as the context of a tool.")


class WebhookRequest(BaseModel):
    """Body of POST /webhook; everything else in it is kept as it came."""

    model_config = ConfigDict(extra="allow")

    action: str = Field(min_length=1, max_length=100, description="What happened, such as ANNOTATION_CREATED.")


class TooMuchError(RequestError):
    """A body is JSON, but so many objects that reading it would fill memory."""


def memory_of(data: bytes) -> int:
    """Return about how many bytes the objects of a JSON body will take, without making them.

    An upper estimate for what is JSON; for anything else some number.

    Raises:
        TooMuchError: If it is much for the body's size.
    """
    most = _FREE_BYTES + _FACTOR * len(data)
    # All of it as one text, and then in parts. One sign beyond those of Latin makes every sign of a text as wide.
    texts = (2 if data.isascii() else 8) * len(data)
    estimate = _estimate(data) + texts
    if estimate > most:
        # Signs within texts were counted too.
        estimate = _estimate(_TEXT.sub(b'""', data)) + texts
    if estimate > most:
        raise TooMuchError("body: so many small values are not read; send fewer at once")
    return estimate


def _estimate(data: bytes) -> int:
    containers = data.count(b"{") + data.count(b"[")
    values = data.count(b",") + data.count(b":") + containers
    return containers * _CONTAINER_BYTES + data.count(b'"') * (_TEXT_BYTES // 2) + values * _VALUE_BYTES


def read_json(data: bytes) -> Any:
    """Read a request's body.

    Raises:
        RequestError: If it is no JSON in UTF-8 (which knows neither NaN nor infinity), or nested too deeply.
    """
    try:
        body = json.loads(data.decode(), parse_constant=_refuse_constant)
    except RequestError:
        raise
    except ValueError as err:  # also from bytes that are no Unicode, and numbers with thousands of digits
        raise RequestError("body: not JSON") from err
    except RecursionError as err:
        raise RequestError(f"body: nested more than {MAX_DEPTH} deep") from err
    level, depth = [body], 0
    while level := [
        child
        for parent in level
        for child in (parent.values() if isinstance(parent, Mapping) else parent if isinstance(parent, list) else ())
        if isinstance(child, Mapping | list)
    ]:
        depth += 1
        if depth >= MAX_DEPTH:
            raise RequestError(f"body: nested more than {MAX_DEPTH} deep")
    return body


def parse(kind: type[Body], body: object) -> Body:
    """Check a JSON body.

    Raises:
        RequestError: Naming the first field that is wrong, and what is wrong with it.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        problem = "expected an object" if first["type"] == "model_type" else first["msg"].removeprefix("Value error, ")
        if place == "tasks" and first["type"] == "too_long":
            problem = f"expected at most {MAX_TASKS:,} in one request; select fewer at once"
        raise RequestError(f"{place}: {problem}") from err


def _refuse_constant(name: str) -> NoReturn:
    raise RequestError(f"body: not JSON, which has no {name}")
