"""CLIP-DIY: training-free open-vocabulary segmentation.

Images and tensors only: this package knows no HTTP server, no Label Studio and no environment variables.

What a program needs is named here; README.md shows it at work under "From Python". A name is imported when it is first
used, so that `import clipdiy` alone loads no torch. Everything else may change from one version to the next.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipdiy.config import CoreConfig, SegmentOptions, preset
    from clipdiy.errors import ClipDiyError
    from clipdiy.method import Method, build_method, read_features
    from clipdiy.photo import Photo, decode_photo
    from clipdiy.segmentation import Segmentation
    from clipdiy.vocabulary import Vocabulary, make_vocabulary

__all__ = [
    "ClipDiyError",
    "CoreConfig",
    "Method",
    "Photo",
    "SegmentOptions",
    "Segmentation",
    "Vocabulary",
    "build_method",
    "decode_photo",
    "make_vocabulary",
    "preset",
    "read_features",
]

_MODULES = {
    "ClipDiyError": "errors",
    "CoreConfig": "config",
    "Method": "method",
    "Photo": "photo",
    "SegmentOptions": "config",
    "Segmentation": "segmentation",
    "Vocabulary": "vocabulary",
    "build_method": "method",
    "decode_photo": "photo",
    "make_vocabulary": "vocabulary",
    "preset": "config",
    "read_features": "method",
}


def __getattr__(name: str) -> object:
    """Import what is asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
