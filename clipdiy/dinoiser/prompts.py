"""The texts that a class is asked for with."""

from functools import cache


@cache
def imagenet_templates() -> tuple[str, ...]:
    """Return CLIP's 80 prompt templates for ImageNet, in OpenCLIP's order, `{}` standing for the class.

    CLIP-DINOiser takes the mean of a class's 80 unit embeddings. Each text is embedded once and kept (see
    `ClipEncoder.embed_texts`).
    """
    import open_clip  # slow to import, and needed only where something is embedded

    return tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)
