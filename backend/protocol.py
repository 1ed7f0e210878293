"""What Label Studio may send, and how a request that is something else is refused."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.errors import BackendError

Body = TypeVar("Body", bound=BaseModel)


class RequestError(BackendError, ValueError):
    """A request body is not what the endpoint takes. The message names the field; nothing was done."""


class SetupRequest(BaseModel):
    """Body of POST /setup."""

    model_config = ConfigDict(extra="ignore")

    label_config: str = Field(alias="schema")
    project: str | int | None = None
    hostname: str | None = None
    access_token: str | None = None


class PredictRequest(BaseModel):
    """Body of POST /predict. What is inside a task is judged task by task, later."""

    model_config = ConfigDict(extra="ignore")

    tasks: list[dict[str, Any]]
    label_config: str
    project: str | int | None = None
    params: dict[str, Any] | None = None


class WebhookRequest(BaseModel):
    """Body of POST /webhook; everything else in it is kept as it came."""

    model_config = ConfigDict(extra="allow")

    action: str = Field(min_length=1, max_length=100)


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
        raise RequestError(f"{place}: {first['msg']}") from err
