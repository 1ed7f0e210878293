"""Runs the model behind label-studio-ml's own server, as `label-studio-ml start backend` asks for."""

import argparse
import inspect
import os

from flask import Flask
from label_studio_ml.api import init_app

from backend.service import Service, shared_service
from backend.web.model import ClipDiyModel
from backend.web.start import start


def make_app(model_dir: str) -> Flask:
    """Make label-studio-ml's app, of whichever version is installed.

    Args:
        model_dir: Where 1.0.9 keeps results of training jobs; 2.x has no such folder.
    """
    # 1.0.9 takes anything by name, 2.x only a user and a password.
    takes_anything = any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in inspect.signature(init_app).parameters.values()
    )
    app: Flask = init_app(model_class=ClipDiyModel, **({"model_dir": model_dir} if takes_anything else {}))
    return app


def main() -> None:
    """Read the arguments that label-studio-ml passes on, load the weights, serve."""
    parser = argparse.ArgumentParser(description="CLIP-DIY behind label-studio-ml's server")
    parser.add_argument("-p", "--port", type=int, default=9090, help="port")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")
    parser.add_argument(
        "--model-dir", default=os.environ.get("MODEL_DIR", "clipdiy-data"), help="folder for job results"
    )
    arguments = parser.parse_args()

    def app_of(_service: Service) -> Flask:
        return make_app(arguments.model_dir)

    start(lambda _settings: shared_service(), app_of).run(host=arguments.host, port=arguments.port, threaded=True)
