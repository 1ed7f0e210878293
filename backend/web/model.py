"""The label-studio-ml model class: a thin door to the same predictor, for programs that run that package's server.

Works with label-studio-ml 1.0.9 (the published package) and 2.x (its Git repository): both make model objects as they
like, call `predict(tasks, ...)` and take plain lists of dicts. The server of 1.0.9 answers a wrong version on /setup
and starts a process for every webhook, so `label-studio-ml start backend` serves `backend.web.app` instead (see
`backend.web.standalone`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flask import has_request_context, request
from label_studio_ml.model import LabelStudioMLBase

from backend.errors import LabelConfigError
from backend.images.host import LabelStudioHost
from backend.labeling.reader import LabelConfig
from backend.service import shared_service


class ClipDiyModel(LabelStudioMLBase):  # type: ignore[misc]
    """CLIP-DIY as a label-studio-ml model. The weights are loaded once per process, not once per object."""

    def setup(self) -> None:
        """Tell version 2.x the model version, so that it answers it on /setup (1.0.9 never calls this)."""
        self.set("model_version", shared_service().predictor.model_version(self._config()))

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: object = None, **_kwargs: object
    ) -> list[dict[str, Any] | list[Any]]:
        """Predict tasks; see `backend.predicting.predictor.Predictor.predict`.

        Args:
            tasks: As Label Studio sends them.
            context: What was pointed at, drawn or typed in an interactive request; see `Predictor.interact`.

        Raises:
            LabelConfigError: If the project's config has no control we can serve.
        """
        host = LabelStudioHost(getattr(self, "hostname", None) or None, getattr(self, "access_token", None) or None)
        project = str(_sent("project") or getattr(self, "project_id", None) or "").split(".")[0]
        predictor, config = shared_service().predictor, self._config()
        if context:
            return [predictor.interact(task, config, context, project=project, host=host) for task in tasks]
        return predictor.predict(tasks, config, project=project, host=host)

    def fit(self, *args: object, **kwargs: object) -> dict[str, Any]:
        """Keep the webhook. 1.0.9 passes `event` and `data` by name behind an empty tuple, 2.x by position."""
        event = kwargs.get("event") or (args[0] if args and isinstance(args[0], str) else None)
        data = kwargs.get("data") or (args[1] if len(args) > 1 else None)
        if isinstance(event, str) and isinstance(data, Mapping):
            shared_service().learning.receive({"action": event, **data})
        return {}

    def _config(self) -> LabelConfig:
        """Read the config that came with this request.

        1.0.9 keeps one model for all projects, made with the config of whoever called /setup last; the request's own
        one is what counts.
        """
        xml = _sent("label_config") or _sent("schema") or getattr(self, "label_config", None)
        if not isinstance(xml, str):
            raise LabelConfigError("no labeling config came with the request")
        return shared_service().read_label_config(xml, str(_sent("project") or ""))


def _sent(field: str) -> Any:
    """Return a field of the request that is being answered, if there is one."""
    body = request.get_json(silent=True) if has_request_context() else None
    return body.get(field) if isinstance(body, dict) else None
