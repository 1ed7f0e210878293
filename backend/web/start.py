"""How a process of the service starts: logging, and a message instead of a traceback if it cannot."""

import logging
import os
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


def set_up_logging(level: str) -> None:
    """Log to standard error, one line a record."""
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True
    )
    logging.getLogger("urllib3").setLevel("WARNING")
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_ours_or_serious)


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
