"""What would other choices gain here? Rows beside the floor of `clipdiy bench`, each saying how it is known."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from clipdiy.config import FAST_PRESET, CoreConfig, RuntimeName, with_faster_objectness
from clipdiy.dinoiser.config import METHOD as CLIP_DINOISER
from clipdiy.dinoiser.config import clip_of
from clipdiy.errors import ClipDiyError
from clipdiy.processor import Processor
from clipdiy.weights import STARTER

if TYPE_CHECKING:
    from clipdiy.method import Method
    from clipdiy.profile import Profile

RUNTIMES: dict[RuntimeName, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime", "onnx"),
    "openvino": ("openvino",),
    "openvino-int8": ("openvino", "nncf"),
}
"""What is installed with each."""

Build = Callable[[CoreConfig], "Method[Any]"]
InTurns = Callable[[Mapping[str, Callable[[], object]]], Mapping[str, float]]


@dataclass(frozen=True)
class Choice:
    """Another way to run the image networks.

    Attributes:
        name: What it is called where it is chosen.
        networks_ms: What the image networks would take, or `None` where nobody knows.
        gain: How many times faster that is; below 1 it is slower.
        how: `measured`, `estimated` and from what, or why there is no figure.
    """

    name: str
    networks_ms: float | None
    gain: float | None
    how: str


def other_configs(config: CoreConfig, dtype: str) -> dict[str, CoreConfig]:
    """Return what else a CPU could be told, by name.

    Args:
        config: What was measured.
        dtype: What that computed in, as torch writes it.
    """
    torch_runs = config.runtime == "torch"
    found: dict[str, CoreConfig] = {}
    if torch_runs and dtype in ("torch.float32", "torch.bfloat16"):
        other = "bfloat16" if dtype == "torch.float32" else "float32"
        found[other] = replace(config, dtype=other)  # type: ignore[arg-type]
    elif not torch_runs:
        found["torch"] = replace(config, runtime="torch")
    fast = with_faster_objectness(config)
    if fast is not None:
        found[FAST_PRESET] = fast
    if _goes_into_runtimes(config):
        for name in RUNTIMES:
            if name != config.runtime:
                found[name] = replace(config, runtime=name, dtype="auto")
        if fast is not None and config.runtime != "onnxruntime" and "onnxruntime" in RUNTIMES:
            found[f"{FAST_PRESET}, onnxruntime"] = replace(fast, runtime="onnxruntime", dtype="auto")
    return found


def _goes_into_runtimes(config: CoreConfig) -> bool:
    """Say whether a runtime can execute its image towers; CLIP-DINOiser's not on the starter, a ResNet."""
    if config.method == CLIP_DINOISER:
        return clip_of(config) != STARTER
    return config.method == "clip-diy" and not config.compiled


def why_not(config: CoreConfig, processor: Processor) -> str | None:
    """Say why a configuration need not be tried here, if it need not.

    Args:
        config: Of a choice.
        processor: This one.
    """
    from clipdiy.build import needs_int8

    if processor.lacks_int8 and needs_int8(config):
        return "gains less than 1.5 times: no instructions for 8 bits (VNNI, AMX) here"
    if processor.lacks_bfloat16 and (config.runtime == "openvino" or config.dtype == "bfloat16"):
        return "gains nothing: no instructions for bfloat16 here"
    if missing := [package for package in RUNTIMES.get(config.runtime, ()) if find_spec(package) is None]:
        return f"not installed: {', '.join(missing)}"
    return None


def estimated(
    config: CoreConfig,
    profile: "Profile",
    stages_ms: Mapping[str, float],
    rates: Mapping[str, float],
    processor: Processor,
) -> list[Choice]:
    """Say of every choice what can be said without running it.

    Args:
        config: What was measured.
        profile: Of its method, with the work of its networks.
        stages_ms: What they took.
        rates: Of a large product, by dtype as torch writes it; measured.
        processor: This one.
    """
    took = sum(stages_ms[name] for name in profile.networks)
    choices = []
    for name, other in other_configs(config, str(profile.dtype)).items():
        reason = why_not(other, processor)
        torch_name = f"torch.{name}"
        if reason:
            choices.append(Choice(name, None, None, reason))
        elif torch_name in rates:
            gain = rates[torch_name] / rates[str(profile.dtype)]
            choices.append(Choice(name, took / gain, gain, "estimated: by the rates of a large product"))
        elif name in profile.less_work:
            less = profile.less_work[name]
            shares = (less.get(part, work) / work if work else 1.0 for part, work in profile.work_gflop.items())
            ms = sum(stages_ms[part] * share for part, share in zip(profile.work_gflop, shares, strict=True))
            choices.append(Choice(name, ms, took / ms, "estimated: by its share of the work"))
        else:
            choices.append(Choice(name, None, None, "not measured: --compare does"))
    return choices


def compared(
    method: "Method[Any]",
    profile_of: "Callable[[Method[Any]], Profile]",
    build: Build,
    in_turns: InTurns,
    processor: Processor,
) -> list[Choice]:
    """Run every choice that can be run here in turns with what was measured.

    Args:
        method: What was measured.
        profile_of: Takes a method apart.
        build: Loads one.
        in_turns: Runs ways in turns and returns each one's median, in milliseconds.
        processor: This one.
    """
    own = profile_of(method)
    choices = []
    for name, config in other_configs(method.config, str(own.dtype)).items():
        reason = why_not(config, processor)
        if reason:
            choices.append(Choice(name, None, None, reason))
            continue
        try:
            with _quiet():
                other = profile_of(method.with_config(config) if name == FAST_PRESET else build(config))
        except ClipDiyError as err:
            choices.append(Choice(name, None, None, f"does not run: {err}"))
            continue
        ms = in_turns({"own": _networks(own), "other": _networks(other)})
        choices.append(Choice(name, ms["other"], ms["own"] / ms["other"], "measured, in turns"))
    return choices


def _networks(profile: "Profile") -> Callable[[], None]:
    parts = [profile.encoding[name] for name in profile.networks]

    def run() -> None:
        for part in parts:
            part()

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Let libraries that convert networks say only what is wrong."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
