"""The options that several commands share, and the configuration that they make together."""

from pathlib import Path
from typing import Annotated

import typer

from clipdiy.config import PRESETS, CoreConfig, preset
from clipdiy.method import METHODS
from clipdiy.weights import default_weights_dir

WEIGHTS_DIR_VARIABLE = "CLIPDIY_WEIGHTS_DIR"

PresetOption = Annotated[str, typer.Option("--preset", help=f"Weights and sizes: {', '.join(PRESETS)}.")]
MethodOption = Annotated[
    str | None, typer.Option("--method", help=f"Which method: {', '.join(METHODS)}.", show_default="clip-diy")
]
ClipOption = Annotated[
    str | None, typer.Option(metavar="MODEL:TAG", help="Another OpenCLIP model, or local-dir:FOLDER.")
]
FoundOption = Annotated[str | None, typer.Option(help="Other FOUND weights: dino-vits8 or local-dir:FOLDER.")]
LabelsOption = Annotated[
    str,
    typer.Option(
        "--labels",
        help='Classes, with commas: "cat, dog". Double quotes around a label that holds a comma; '
        "name=phrase|phrase to ask for other words than the name.",
    ),
]
OthersOption = Annotated[
    str,
    typer.Option(
        "--others",
        metavar="auto|none|FILE|WORDS",
        help="What competes with the labels and stays empty: a list of common things, nothing, or your own words.",
    ),
]
TemplateOption = Annotated[
    str | None, typer.Option("--template", help="Text that each phrase is put into; {} is where it goes.")
]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
DtypeOption = Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")]
RuntimeOption = Annotated[
    str | None,
    typer.Option(help="What executes the image towers on a CPU: torch, onnxruntime, openvino or openvino-int8."),
]
DirOption = Annotated[
    Path | None,
    typer.Option("--weights-dir", metavar="DIR", envvar=WEIGHTS_DIR_VARIABLE, help="Where the downloaded weights lie."),
]


def configure(name: str, **changes: object) -> CoreConfig:
    """Return a preset with what was given on the command line; `None` was not given.

    Raises:
        ConfigError: If there is no such preset, or the values contradict each other.
    """
    return preset(name, **{key: value for key, value in changes.items() if value is not None})


def conversions_dir(config: CoreConfig) -> Path | None:
    """Return where what was converted for another runtime is kept for the next run; `None` for torch itself."""
    return None if config.runtime == "torch" else default_weights_dir().parent
