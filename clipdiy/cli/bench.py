"""`clipdiy bench`: how fast is it on this machine, where does the time go, and how much of it is unavoidable?"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipdiy.cli.choices import Choice, compared, estimated
from clipdiy.cli.options import (
    ClipOption,
    DeviceOption,
    DirOption,
    DtypeOption,
    FoundOption,
    MethodOption,
    PresetOption,
    RuntimeOption,
    configure,
    conversions_dir,
)
from clipdiy.config import CoreConfig, Pamr
from clipdiy.errors import ConfigError
from clipdiy.method import Method, build_method, method_named, require_weights
from clipdiy.processor import read_processor
from clipdiy.weights import default_weights_dir

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from clipdiy.photo import Photo
    from clipdiy.profile import Profile
    from clipdiy.vocabulary import Vocabulary

FILE_WIDTH = 140  # of tables that go to a file
MATMUL_SIDE = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class Batch:
    """What a number of photos at once cost.

    Attributes:
        photos: How many.
        encode_ms: Median time to encode all of them.
        photos_per_s: With the label maps.
    """

    photos: int
    encode_ms: float
    photos_per_s: float


@dataclass(frozen=True)
class Floor:
    """The time below which no program could come that computes the same products.

    Attributes:
        matmul_gflops: Measured rate of a large product, in the networks' dtype.
        work_gflop: Of the image networks for one photo.
        networks_ms: What they took.
        floor_ms: What this work would take at that rate.
        share: The second by the first, for all of them together.
        shares: The same for each.
    """

    matmul_gflops: float
    work_gflop: float
    networks_ms: float
    floor_ms: float
    share: float
    shares: dict[str, float]


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        machine: Processor or GPU, threads, torch.
        core: Weights and sizes.
        fast_paths: Which ways were chosen.
        load_s: From files to a warm method.
        stages_ms: Medians for one photo: the parts and the whole of encoding, once per photo; the parts of a vocabulary
            (`text, new` is paid once per prompt); label map and scores.
        batches: Several photos at once.
        floor: How far the image networks are from what this machine could do, for a method that can be taken apart.
        choices: What else a CPU could be told, and what that gains.
        peak_memory_mb: Of the process, and on a GPU of its memory.
    """

    machine: str
    core: str
    fast_paths: dict[str, str]
    load_s: float
    stages_ms: dict[str, float]
    batches: list[Batch]
    floor: Floor | None
    choices: list[Choice]
    peak_memory_mb: float


def bench(
    preset_name: PresetOption = "paper",
    method_name: MethodOption = None,
    clip: ClipOption = None,
    found: FoundOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    runtime: RuntimeOption = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Let torch compile CLIP's image tower.")] = False,
    refine: Annotated[
        bool, typer.Option(help="With masks that follow the picture's edges, as the service makes.")
    ] = True,
    size: Annotated[str, typer.Option(metavar="WxH", help="Size of the photos.")] = "640x480",
    classes: Annotated[int, typer.Option(min=1, help="Labels besides the background.")] = 20,
    batches: Annotated[str, typer.Option(help="Numbers of photos at once, with commas.")] = "1,2,4",
    repeats: Annotated[int, typer.Option(min=1, help="Medians are over this many runs.")] = 5,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="On a CPU: also run the other choices (bfloat16, paper-fast, runtimes) in turns."
        ),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the report here.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw photos a second over the batch size (extra `eval`).")
    ] = None,
    weights_dir: DirOption = None,
) -> None:
    """Measure speed and memory on this machine, with generated photos and your weights.

    The last table compares with a floor: the time that the networks' matrix products alone would take at the rate of
    one large product, measured here. On a CPU, what other choices would gain stands below, each with how it is known.
    """
    models = {"clip": clip, "found": found, "device": device, "dtype": dtype, "runtime": runtime}
    config = configure(preset_name, **models, method=method_name, compiled=compiled, pamr=Pamr() if refine else None)
    size_hw, numbers = _size_hw(size), _numbers(batches)
    if plot is not None:
        _need_matplotlib()
    require_weights(config, weights_dir)
    report = measure(config, weights_dir, size_hw, classes, numbers, repeats, compare=compare)
    _print(report, size)
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    if plot is not None:
        _draw(report, plot)


def measure(
    config: CoreConfig,
    weights_dir: Path | None,
    size_hw: tuple[int, int],
    classes: int,
    batches: list[int],
    repeats: int,
    *,
    compare: bool = False,
) -> Report:
    """Load the weights and measure everything.

    Args:
        config: What is measured.
        weights_dir: Where downloaded weights lie.
        size_hw: Of the photos.
        classes: Labels besides the background.
        batches: Numbers of photos at once.
        repeats: Of every measurement.
        compare: Whether other choices are run, too.

    Raises:
        ConfigError: As `build_method` does.
        WeightsError: As `build_method` does.
    """
    import torch

    from clipdiy.vocabulary import make_vocabulary

    start = time.perf_counter()
    method = build_method(config, weights_dir=weights_dir, cache_dir=conversions_dir(config))
    load_s = time.perf_counter() - start
    cuda = method.device.type == "cuda"
    wait: Callable[[], None] = torch.cuda.synchronize if cuda else lambda: None

    photos = _photos(size_hw, max(batches))
    choices: list[Choice] = []
    entry = method_named(config.method)
    vocabulary = make_vocabulary([f"thing {i}" for i in range(classes)], template=entry.templates(config))
    with torch.inference_mode():
        profile = entry.profile(method, photos[0], vocabulary) if entry.profile else None
        features = method.encode(photos[:1])[0]
        parts: dict[str, Callable[[], object]] = {
            **(profile.encoding if profile else {}),
            "all of encoding": lambda: method.encode(photos[:1]),
            **(profile.asking if profile else {}),
            "label map and scores": lambda: method.segment(features, vocabulary),
        }
        stages = {name: median_ms(part, repeats, wait) for name, part in parts.items()}
        made = []
        for count in batches:
            encode_ms = median_ms(lambda count=count: method.encode(photos[:count]), repeats, wait)  # type: ignore[misc]
            made.append(Batch(count, encode_ms, count * 1e3 / (encode_ms + count * stages["label map and scores"])))
        floor = None
        if profile:
            rates = {str(profile.dtype): matmul_gflops(method.device, profile.dtype, wait)}
            floor = _floor(profile, stages, rates[str(profile.dtype)])
            if not cuda and compare:
                assert entry.profile is not None
                choices = compared(
                    method,
                    partial(_taken_apart, entry.profile, photos[0], vocabulary),
                    partial(build_method, weights_dir=weights_dir, cache_dir=default_weights_dir().parent),
                    lambda ways: medians_in_turns_ms(ways, repeats),
                    read_processor(),
                )
            elif not cuda:
                for dtype in {torch.float32, torch.bfloat16} - {profile.dtype}:
                    rates[str(dtype)] = matmul_gflops(method.device, dtype, wait)
                choices = estimated(config, profile, stages, rates, read_processor())
    return Report(
        _machine(method.device),
        f"{method.name}, {profile.sizes}" if profile else method.name,
        dict(profile.ways) if profile else {},
        load_s,
        stages,
        made,
        floor,
        choices,
        _peak_memory_mb(cuda),
    )


def median_ms(way: Callable[[], object], repeats: int, wait: Callable[[], None]) -> float:
    """Return the median time of a call and of `wait`, which waits for all that it started. A first run warms up."""
    times = []
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        way()
        wait()
        if repeat:
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def medians_in_turns_ms(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median time of each way. In turns: what disturbs one disturbs the others. A first run warms up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if repeat:
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(taken) for name, taken in times.items()}


def matmul_gflops(device: "torch.device", dtype: "torch.dtype", wait: Callable[[], None]) -> float:
    """Return the rate of a large product, in 10^9 multiplications and additions a second."""
    import torch

    side = MATMUL_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / 1e6 / median_ms(lambda: left @ right, 9, wait)


def _taken_apart(
    profile: "Callable[[Any, Photo, Vocabulary], Profile]",
    photo: "Photo",
    vocabulary: "Vocabulary",
    method: Method[Any],
) -> "Profile":
    return profile(method, photo, vocabulary)


def _floor(profile: "Profile", stages: Mapping[str, float], rate: float) -> Floor:
    took = sum(stages[name] for name in profile.networks)
    work = sum(profile.work_gflop.values())
    shares = {name: gflop / rate * 1e3 / stages[name] for name, gflop in profile.work_gflop.items()}
    return Floor(rate, work, took, work / rate * 1e3, work / rate * 1e3 / took, shares)


def _photos(size_hw: tuple[int, int], count: int) -> "list[Photo]":
    import numpy as np

    from clipdiy.photo import Photo
    from clipdiy.starter.scenes import compose_scene

    scenes = [compose_scene(seed).image for seed in range(min(count, 4))]
    rows, cols = (np.arange(size) * 256 // size for size in size_hw)
    return [Photo.from_array(np.ascontiguousarray(scenes[i % 4][rows][:, cols])) for i in range(count)]


def _machine(device: "torch.device") -> str:
    import torch

    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    name = named or platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _peak_memory_mb(cuda: bool) -> float:
    import torch

    if cuda:
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if platform.system() == "Darwin" else 1e3)


def _print(report: Report, size: str) -> None:
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out = Console(highlight=False, width=FILE_WIDTH)
    out.print(f"{report.machine}\n{report.core}", soft_wrap=True)
    for what, way in report.fast_paths.items():
        out.print(f"{what}: {way}", soft_wrap=True)
    stages = Table("stage", "ms", title=f"one photo of {size}", title_justify="left")
    stages.columns[1].justify = "right"
    for name, taken in report.stages_ms.items():
        stages.add_row(name, f"{taken:.1f}" if taken >= 1 else f"{taken:.3f}")
    out.print(stages)
    batches = Table("photos at once", "encoding, ms", "photos a second")
    for column in batches.columns:
        column.justify = "right"
    for batch in report.batches:
        batches.add_row(str(batch.photos), f"{batch.encode_ms:.0f}", f"{batch.photos_per_s:.2f}")
    out.print(batches)
    out.print(f"loading {report.load_s:.1f} s, peak memory {report.peak_memory_mb:.0f} MB", soft_wrap=True)
    if report.floor:
        out.print(_floor_table(report.floor, report.choices))


def _floor_table(floor: Floor, choices: list[Choice]) -> "Table":
    """Make the table of what the products alone would take, what is reached, and what other choices would gain."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("image networks of one photo", "ms", "times faster", "how it is known")
    for column in table.columns[1:3]:
        column.justify = "right"
    rate = f"{floor.work_gflop:.0f} GFLOP at {floor.matmul_gflops:.0f} GFLOP/s, which a large product reaches here"
    table.add_row("the products alone", f"{floor.floor_ms:.0f}", f"{1 / floor.share:.2f}", f"floor: {rate}")
    reached = ", ".join(f"{name} {share:.0%}" for name, share in floor.shares.items())
    table.add_row(
        "as it ran", f"{floor.networks_ms:.0f}", "1", f"measured: {floor.share:.0%} of the floor's rate ({reached})"
    )
    for choice in choices:
        ms = "" if choice.networks_ms is None else f"{choice.networks_ms:.0f}"
        gain = "" if choice.gain is None else f"{choice.gain:.2f}"
        table.add_row(choice.name, ms, gain, escape(choice.how))
    return table


def _draw(report: Report, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([batch.photos for batch in report.batches], [batch.photos_per_s for batch in report.batches], "o-")
    axes.set(xlabel="photos at once", ylabel="photos a second", ylim=(0, None), title=report.machine)
    axes.title.set_fontsize(8)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _need_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as err:
        raise ConfigError("--plot needs matplotlib: pip install 'clip-diy-label-studio[eval]'") from err


def _size_hw(text: str) -> tuple[int, int]:
    width, times, height = text.partition("x")
    if not times or not width.isdecimal() or not height.isdecimal() or not int(width) or not int(height):
        raise ConfigError(f"--size is WIDTHxHEIGHT, for example 640x480, got {text!r}")
    return int(height), int(width)


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and int(part) for part in parts):
        raise ConfigError(f"--batches are whole numbers from 1 with commas, for example 1,2,4, got {text!r}")
    return [int(part) for part in parts]
