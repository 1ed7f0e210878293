"""The service in one process without gunicorn, as `label-studio-ml start backend` asks for.

It is the service's own app that answers, not label-studio-ml's. The published version of that one names the version of
every model `INITIAL` on /setup, so that Label Studio stores a second set of predictions with every press of the button,
and starts a process that loads all weights for every webhook.
"""

import argparse
import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Sequence

from flask import Flask

from backend.service import shared_service
from backend.web.app import create_app
from backend.web.gunicorn_worker import LoopServer, raise_file_limit
from backend.web.listening import GRACE_S, THREADS, default_bind, open_warning
from backend.web.start import start

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments that label-studio-ml passes on, load the weights, serve until SIGTERM or Ctrl-C."""
    host, _, port = default_bind().rpartition(":")
    parser = argparse.ArgumentParser(description="CLIP-DIY as label-studio-ml starts it")
    parser.add_argument("-p", "--port", type=int, default=int(port), help="port")
    parser.add_argument("--host", default=host, help="address to listen on")
    parser.add_argument("--model-dir", help="taken and not used: there are no results of training jobs")
    chosen = parser.parse_args(arguments)
    serve(start(lambda _settings: shared_service(), create_app), chosen.host, chosen.port)


def serve(app: Flask, host: str, port: int) -> None:
    """Answer with an app until the process is asked to end, then finish what was begun."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    raise_file_limit()
    if warning := open_warning([f"{host}:{port}"]):
        logger.warning(warning)
    server = LoopServer(app, threads=THREADS)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=1024) as listening:
        listening.setblocking(False)
        try:
            asyncio.run(server.serve([listening], lambda: not ending.is_set(), grace_s=GRACE_S))
        finally:
            server.close()
