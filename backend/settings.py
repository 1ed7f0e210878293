"""What the service can be told from outside. The only reader of the environment."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from backend.labeling.controls import Counting, LearnWhen, Others, Refining
from clipdiy.config import (
    PRESETS,
    PUBLISHED_TEMPLATE,
    CleanUp,
    CoreConfig,
    DtypeName,
    LabelMapSize,
    Pamr,
    RuntimeName,
    preset,
)
from clipdiy.errors import ClipDiyError, ConfigError
from clipdiy.method import method_named
from clipdiy.others.words import read_others
from clipdiy.weights import default_weights_dir

PREFIX = "CLIPDIY_"
Names = Annotated[tuple[str, ...], NoDecode]
Folders = Annotated[tuple[Path, ...], NoDecode]


class Settings(BaseSettings):
    """All settings of the service, each read from the environment variable `CLIPDIY_` + its name in capitals.

    A value that makes no sense stops the start with a message that names the variable.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    preset: str = Field(
        "paper", description="Method, weights and sizes: paper, paper-fast, paper-b16, dinoiser or starter."
    )
    method: str | None = Field(None, description="Another method than the preset's: clip-diy or clip-dinoiser.")
    clip: str | None = Field(None, description="Another OpenCLIP model: ARCHITECTURE:TAG or local-dir:FOLDER.")
    found: str | None = Field(None, description="Other FOUND weights: local-dir:FOLDER.")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    dtype: DtypeName | Literal["auto"] = Field(
        "auto", description="What the networks compute in; auto: float16 on a GPU, on a CPU what is faster there."
    )
    runtime: RuntimeName = Field(
        "torch", description="What executes the image towers on a CPU: torch, onnxruntime, openvino or openvino-int8."
    )
    compile: bool = Field(
        False, description="Let torch compile CLIP's image tower: longer to start, fewer launches on a GPU."
    )
    weights_dir: Path = Field(default_factory=default_weights_dir, description="Folder with the downloaded weights.")
    prompt_template: str = Field(PUBLISHED_TEMPLATE, description="Text that a label is put into.")
    label_map: LabelMapSize = Field(
        "full", description="full: argmax at the photo's size. square: the published way, with stairs at the edges."
    )
    others: str = Field(
        "auto",
        description="What competes with labels and stays empty: auto (a list of common things), off, or a file with "
        "a word a line.",
    )
    stuff: Literal["usual", "off"] = Field(
        "off",
        description="Labels that are stuff where nothing is said: usual (those whose words usually mean it: sky, road, "
        "grass, wall) or off.",
    )
    min_area: float = Field(
        0.001, ge=0, lt=1, description="Parts and holes smaller than this share of the picture are removed."
    )

    refine: Refining = Field(
        "always",
        description="Masks that follow the picture's edges (PAMR): never, asked (controls with refine=pamr), always.",
    )

    data_dir: Path = Field(
        Path("clipdiy-data"), description="Folder where corrections, the features of images and of texts are kept."
    )
    cache_memory_bytes: int = Field(
        500_000_000,
        ge=0,
        description="Most memory for features of images (about 100 kB each at 640x480, with what refines the masks; "
        "1.3 MB with clip-dinoiser); 0 keeps none there.",
    )
    cache_disk_bytes: int = Field(
        20_000_000_000, ge=0, description="Most disk space for them, in the data folder; 0 keeps none there."
    )
    work_ahead: bool = Field(
        True,
        description="Encode pictures before they are asked for, while nobody waits: what a request could not reach in "
        "its time, and new tasks (webhook TASKS_CREATED).",
    )
    learn: LearnWhen = Field(
        "auto",
        description="When a project learns from corrections: auto (by itself, and on Label Studio's button), "
        "on-training (on the button only), off.",
    )
    annotators: Counting = Field(
        "latest",
        description="Which of several annotations of a task counts: latest, or what a majority says.",
    )
    push: bool = Field(
        False,
        description="After a new version, replace the predictions of tasks that nobody has annotated, through the API; "
        "needs the token.",
    )
    label_studio_url: str | None = Field(
        None, description="Where Label Studio is for this service; else what Label Studio says of itself."
    )
    label_studio_aliases: Names = Field(
        (), description="Other addresses under which the same Label Studio appears in tasks, separated by commas."
    )
    label_studio_token: SecretStr | None = Field(
        None, description="Legacy or personal access token; else the one Label Studio sends."
    )
    local_files_root: Folders = Field(
        (), description="Folders that /data/local-files/ may be read from directly, separated by commas."
    )
    allowed_schemes: Names = Field(
        (),
        description="If set, the only kinds of addresses of images, with commas: out of http, https, data, s3, s3s, gs "
        "and azure-blob. Label Studio's own always work.",
    )
    allowed_hosts: Names = Field((), description="If set, the only hosts images are downloaded from, with commas.")
    denied_hosts: Names = Field((), description="Hosts that are never asked for an image, with commas.")
    private_hosts: Names = Field(
        (), description="Hosts that may have private addresses, such as your own object store, with commas."
    )
    allow_private_addresses: bool = Field(
        False, description="Also download from private and loopback addresses, not only Label Studio's."
    )
    max_image_bytes: int = Field(50_000_000, ge=1, description="Largest image file.")
    max_image_px: int = Field(100_000_000, ge=1, description="Largest image in pixels (width x height).")
    max_jpeg_scans: int = Field(
        100, ge=1, description="Most scans of a JPEG, each of which goes over the whole image again."
    )
    max_decoding_px: int = Field(
        100_000_000,
        ge=1,
        description="Most pixels decoded at the same time, up to 16 bytes each; a larger image is decoded alone.",
    )
    decode_timeout_s: float = Field(
        20.0, gt=0, description="Longest time for decoding one image (a WebP or AVIF is not stopped once it has begun)."
    )
    download_timeout_s: float = Field(30.0, gt=0, description="Longest time for downloading one image.")
    download_threads: int = Field(8, ge=1, description="Images downloaded and decoded at the same time.")

    deadline_s: float = Field(
        90.0, gt=0, description="A request is answered within this time; the rest is left for the next one."
    )
    max_requests: int = Field(
        24, ge=1, le=30, description="Requests to /predict worked on at once; one more is answered 503 right away."
    )
    answer_memory_bytes: int = Field(
        64_000_000, ge=0, description="Most memory for the answer to one request; the rest waits in a file."
    )
    max_request_bytes: int = Field(256_000_000, ge=1, description="Largest request body.")
    basic_auth_user: str | None = Field(None, description="Asked for on all requests but /health, with the password.")
    basic_auth_password: SecretStr | None = Field(None, description="See the user.")
    show_pictures: bool = Field(
        False, description="The page shows small pictures of corrected tasks without a password, to whoever opens it."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="How much is logged.")

    @field_validator(
        *(
            "local_files_root",
            "label_studio_aliases",
            "allowed_schemes",
            "allowed_hosts",
            "denied_hosts",
            "private_hosts",
        ),
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        """Take a list as one text with commas, as environments hold it."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, value: str) -> str:
        if value not in PRESETS:
            raise ValueError(f"there is no preset {value!r}; there are: {', '.join(PRESETS)}")
        return value

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str | None) -> str | None:
        try:
            return value and method_named(value).name
        except ConfigError as err:
            raise ValueError(str(err)) from err

    @field_validator("others")
    @classmethod
    def _readable_others(cls, value: str) -> str:
        try:
            read_others(value)
        except ClipDiyError as err:
            raise ValueError(str(err)) from err
        return value

    @property
    def keeps_features(self) -> bool:
        """Whether features of pictures are kept anywhere."""
        return self.cache_memory_bytes > 0 or self.cache_disk_bytes > 0

    @cached_property
    def chosen_others(self) -> Others | None:
        """What competes with the labels of controls that do not say so themselves, if anything does; read once."""
        words = read_others(self.others)
        return None if words == () else Others(words)

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.basic_auth_user is None) != (self.basic_auth_password is None):
            raise ValueError("set both CLIPDIY_BASIC_AUTH_USER and CLIPDIY_BASIC_AUTH_PASSWORD, or neither")
        return self

    def core_config(self) -> CoreConfig:
        """Return what the core is to be built with.

        Raises:
            ConfigError: If the values contradict each other.
        """
        changes: dict[str, object] = {
            "device": self.device,
            "dtype": self.dtype,
            "runtime": self.runtime,
            "compiled": self.compile,
            "label_map": self.label_map,
            "clean_up": CleanUp(self.min_area),
            "pamr": None if self.refine == "never" else Pamr(),
            "prompt_template": self.prompt_template,
        }
        optional = {"method": self.method, "clip": self.clip, "found": self.found}
        changes.update({key: value for key, value in optional.items() if value})
        return preset(self.preset, **changes)


ELSEWHERE = frozenset(("CLIPDIY_WORKERS",))
"""Read by gunicorn's configuration, before there is a service."""


def problems_of(err: ValidationError) -> list[str]:
    """Say what is wrong with settings, a line for each, naming its variable."""
    found: dict[str, dict[str, None]] = {}
    for error in err.errors(include_url=False, include_input=False):
        # Behind the field stand parts of its type, which nobody can set.
        name = f"{PREFIX}{str(error['loc'][0]).upper()}: " if error["loc"] else ""
        found.setdefault(name, {})[str(error["msg"]).removeprefix("Value error, ")] = None
    return [name + "; or: ".join(messages) for name, messages in found.items()]


def misspelt(names: Iterable[str]) -> list[str]:
    """Say which variables look like settings and are none, and which may have been meant.

    Args:
        names: Of the variables in the environment.
    """
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | ELSEWHERE
    lines = []
    for name in sorted(name for name in names if name.startswith(PREFIX) and name not in known):
        near = get_close_matches(name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in known], n=1)
        lines.append(f"{name} is no setting" + (f"; was {PREFIX}{near[0]} meant?" if near else ""))
    return lines
