"""Which errors the core raises, and what a caller may do about each."""


class ClipDiyError(Exception):
    """Base of every error `clipdiy` raises on purpose.

    The message is meant for a person: it says what was expected, what was found and what to do. A caller
    that works through many images may catch this, report the image and go on with the next one.
    """


class ShapeError(ClipDiyError, ValueError):
    """An array has another shape, dtype or range than the function takes. A bug in the caller."""


class ConfigError(ClipDiyError, ValueError):
    """A configuration value makes no sense, alone or together with another one. Nothing was computed."""


class VocabularyError(ClipDiyError, ValueError):
    """The labels cannot be used as a vocabulary (none, empty, or not matched to their embeddings)."""


class ImageError(ClipDiyError, ValueError):
    """One image cannot be read or used. Only that image is affected."""


class WeightsError(ClipDiyError):
    """Weights are missing, damaged or of another model. Nothing can be segmented until this is mended."""


class FeaturesError(ClipDiyError, ValueError):
    """Stored image features are damaged, of another version, or made by another core. Encode the image again."""


class DatasetError(ClipDiyError):
    """A data set for evaluation is missing, incomplete or not laid out as expected. Nothing was evaluated."""


class ObjectnessError(ClipDiyError):
    """Instance masks for objectness cannot be read or decoded. Mend the file or the detector."""


class RuntimeCheckError(ClipDiyError):
    """On this machine or in this version, an optional runtime computes something else than torch. Choose another."""
