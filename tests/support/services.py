"""A service around stand-ins, put together as the real one is."""

from backend.images.introductions import Introductions
from backend.learning.learner import Wishes
from backend.learning.learning import Learning
from backend.service import Service, read_label_config


def make_service(settings, predictor, metrics, *, learn=None, start=False, **options):
    """Put a service together; nothing is learned until it is started."""
    learning = Learning(
        settings.data_dir,
        predictor,
        lambda xml: read_label_config(xml, settings),
        encoder=predictor.method.encoder_identity,
        learn=learn,
        evidence=lambda features: features,
        wishes=Wishes(settings.learn, settings.annotators),
        **options,
    )
    if start:
        learning.start()
    return Service(settings, predictor, Introductions(settings.data_dir), learning, metrics)
