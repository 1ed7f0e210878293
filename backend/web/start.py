"""How a process of the service starts: logging, and a message instead of a traceback if it cannot."""

import logging
import os
import re
import sys
from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from backend.errors import BackendError
from backend.service import Service
from backend.settings import Settings, misspelt, problems_of
from clipdiy.errors import ClipDiyError

logger = logging.getLogger(__name__)

App = TypeVar("App")

# Gunicorn's own code for "the app cannot be loaded": it stops then, instead of starting worker after worker.
APP_LOAD_ERROR = 4
MAX_LINE_CHARS = 10_000
# Controls but for the end of a line, half characters, separators of lines, marks and overrides of direction.
_UNPRINTABLE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def set_up_logging(level: str) -> None:
    """Log to standard error, one line a record."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(_is_ours_or_serious)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("urllib3").setLevel("WARNING")


class OneLine(logging.Formatter):
    """Writes a record as one line: names of labels, answers of other servers and the like cannot pass for a record.

    What begins a new line, moves a cursor or colours a terminal, or turns the direction of reading, is written as an
    escape. Tracebacks, which are asked for with DEBUG, keep their lines, each set in from the margin.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        text = super().format(record)
        text = text.replace("\n", "\n    " if record.exc_info or record.stack_info else "\\n")
        text = _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
        return text if len(text) <= MAX_LINE_CHARS else text[: MAX_LINE_CHARS - 3] + "..."


def _is_ours_or_serious(record: logging.LogRecord) -> bool:
    """Leave out what libraries tell the root logger about themselves (open_clip does, with paths)."""
    return record.name != "root" or record.levelno >= logging.WARNING


def start(make_service: Callable[[Settings], Service], make_app: Callable[[Service], App]) -> App:
    """Read the settings, load the weights, make the app.

    Args:
        make_service: Loads the weights.
        make_app: Puts HTTP around them.

    Raises:
        SystemExit: With code 4 and a message on standard error, if a setting or the weights are not right.
    """
    try:
        settings = Settings()
        set_up_logging(settings.log_level)
        for doubt in misspelt(os.environ):
            logger.warning("%s", doubt)
        return make_app(make_service(settings))
    except ValidationError as err:
        for problem in problems_of(err):
            print(f"the backend cannot start: {problem}", file=sys.stderr)
    except (BackendError, ClipDiyError) as err:
        print(f"the backend cannot start: {err}", file=sys.stderr)
    raise SystemExit(APP_LOAD_ERROR)
