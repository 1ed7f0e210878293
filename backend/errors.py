"""Which errors the backend raises, and what a handler may do about each."""

from typing import Literal

TaskFailure = Literal[
    "missing-data",
    "unsupported-source",
    "refused",
    "unauthorized",
    "not-found",
    "download",
    "too-many-redirects",
    "too-large",
    "timeout",
    "not-an-image",
    "inference",
    "deadline",
]
"""Why a task got no prediction. Few and fixed, so that they can be the label of a metric."""


class BackendError(Exception):
    """Base of every error `backend` raises on purpose.

    The message is meant for a person: what was expected, what was found, what to do. It never holds a token,
    a query string or a path outside the configured folders, so it may be logged and shown.
    """


class SettingsError(BackendError, ValueError):
    """A setting makes no sense. The service must not start with it."""


class LabelConfigError(BackendError, ValueError):
    """The labeling config gives us nothing to work with, or contradicts itself.

    Concerns the whole project: no task of it can be predicted until the config is mended. The message shows what
    was found and a config that works, ready to be pasted.
    """


class TaskError(BackendError):
    """One task cannot be predicted. Leave it out, count the reason, go on with the others.

    Attributes:
        reason: Why, as a short word for machines; see `TaskFailure`.
    """

    def __init__(self, reason: TaskFailure, message: str) -> None:
        """Keep the reason beside the message."""
        super().__init__(message)
        self.reason: TaskFailure = reason

    def __reduce__(self) -> tuple[type["TaskError"], tuple[TaskFailure, str]]:
        """Let the error cross a process border with its reason (plain exceptions lose their second argument)."""
        return type(self), (self.reason, str(self))


class RleError(BackendError, ValueError):
    """A brush mask's run-length code is damaged or of another size. Only that region is affected."""


class RequestError(BackendError, ValueError):
    """A request body is not what the endpoint takes. The message names the field; nothing was done."""


class AnnotationError(BackendError, ValueError):
    """A region of an annotation cannot be read. The message says which and why; only that annotation is affected."""


class ExportError(BackendError, ValueError):
    """A data set cannot be made as asked for. The message says what to change; nothing was written under its name."""
