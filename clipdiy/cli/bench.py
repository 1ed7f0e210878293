"""`clipdiy bench`: how fast is it on this machine, where does the time go, and how far is that from the floor?"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipdiy.cli.options import (
    ClipOption,
    DeviceOption,
    DirOption,
    DtypeOption,
    FoundOption,
    PresetOption,
    RuntimeOption,
    configure,
    conversions_dir,
)
from clipdiy.config import CoreConfig, Pamr
from clipdiy.errors import ConfigError
from clipdiy.weights import default_weights_dir, require_present

if TYPE_CHECKING:
    import torch

    from clipdiy.photo import Photo
    from clipdiy.segmenter import Segmenter
    from clipdiy.vocabulary import Vocabulary

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
class Report:
    """What was measured.

    Attributes:
        machine: Processor or GPU, threads, torch.
        core: Weights and sizes.
        fast_paths: Which ways were chosen.
        load_s: From files to a warm segmenter.
        stages_ms: Medians for one photo. `text, new` is paid once per prompt, the first four once per photo.
        batches: Several photos at once.
        matmul_gflops: Measured rate of a large product, in the image tower's dtype.
        work_gflop: Of both image towers for one photo.
        share_of_floor: Time that this rate alone would need, by the time the image towers took.
        peak_memory_mb: Of the process, and on a GPU of its memory.
    """

    machine: str
    core: str
    fast_paths: dict[str, str]
    load_s: float
    stages_ms: dict[str, float]
    batches: list[Batch]
    matmul_gflops: float
    work_gflop: float
    share_of_floor: float
    peak_memory_mb: float


def bench(
    preset_name: PresetOption = "paper",
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
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the report here.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw photos a second over the batch size (extra `eval`).")
    ] = None,
    weights_dir: DirOption = None,
) -> None:
    """Measure speed and memory on this machine, with made-up photos and your weights.

    Share of the floor: how much of the time would be needed even if nothing but the networks' products were computed,
    at the rate of a large product measured here.
    """
    models = {"clip": clip, "found": found, "device": device, "dtype": dtype, "runtime": runtime}
    config = configure(preset_name, **models, compiled=compiled, pamr=Pamr() if refine else None)
    size_hw, numbers = _size_hw(size), _numbers(batches)
    if plot is not None:
        _need_matplotlib()
    require_present(config, weights_dir or default_weights_dir())
    report = measure(config, weights_dir, size_hw, classes, numbers, repeats)
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
) -> Report:
    """Load the weights and measure everything.

    Raises:
        ConfigError: As `build_segmenter` does.
        WeightsError: As `build_segmenter` does.
    """
    import torch

    from clipdiy.build import build_segmenter
    from clipdiy.vocabulary import make_vocabulary

    start = time.perf_counter()
    segmenter = build_segmenter(config, weights_dir=weights_dir, cache_dir=conversions_dir(config))
    load_s = time.perf_counter() - start
    cuda = segmenter.device.type == "cuda"
    wait: Callable[[], None] = torch.cuda.synchronize if cuda else lambda: None

    photos = _photos(size_hw, max(batches))
    vocabulary = make_vocabulary([f"thing {i}" for i in range(classes)])
    with torch.inference_mode():
        stages = _stages(segmenter, photos[0], vocabulary, repeats, wait)
        made = []
        for count in batches:
            encode_ms = median_ms(lambda count=count: segmenter.encode(photos[:count]), repeats, wait)  # type: ignore[misc]
            made.append(Batch(count, encode_ms, count * 1e3 / (encode_ms + count * stages["label map and scores"])))
        rate = matmul_gflops(segmenter.device, segmenter.clip.dtype, wait)
        work = segmenter_gflop(segmenter, photos[0])
    return Report(
        _machine(segmenter.device),
        f"{segmenter.name}, {config.grid.patch_px} of {config.grid.square_px}, objectness {config.objectness.method}",
        {
            "image towers": segmenter.clip.arithmetic,
            "text tower": "tokens that count" if segmenter.clip.trims_texts else "whole context",
            "edges": "refined (PAMR)" if config.pamr else "as they are",
            "label map": "strips on the GPU" if cuda else "blocks, over classes that can win",
        },
        load_s,
        stages,
        made,
        rate,
        work,
        work / rate * 1e3 / (stages["CLIP's image tower"] + stages["FOUND"]),
        _peak_memory_mb(cuda),
    )


def segmenter_gflop(segmenter: "Segmenter", photo: "Photo") -> float:
    """Count the multiplications and additions of both image towers for one photo, in units of 10^9."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not see into it
    try:
        with FlopCounterMode(display=False) as crop:
            images = torch.zeros(1, 3, segmenter.clip.input_px, segmenter.clip.input_px, device=segmenter.device)
            segmenter.clip.network.encode_image(images.to(segmenter.clip.dtype))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    with FlopCounterMode(display=False) as found:
        segmenter.objectness(photo, [segmenter.config.objectness.method])
    return float(crop.get_total_flops() * segmenter.crop_count + found.get_total_flops()) / 1e9


def _stages(
    segmenter: "Segmenter", photo: "Photo", vocabulary: "Vocabulary", repeats: int, wait: Callable[[], None]
) -> dict[str, float]:
    prompts = [prompt for prompts in vocabulary.prompts for prompt in prompts]
    rounds = iter(range(10**6))

    def new_texts() -> None:
        number = next(rounds)
        segmenter.clip.embed_texts([f"{prompt} {number}" for prompt in prompts])

    crops = segmenter.crops([photo])
    features = segmenter.encode([photo])[0]
    method = segmenter.config.objectness.method
    ways: dict[str, Callable[[], object]] = {
        "cutting crops": lambda: segmenter.crops([photo]),
        "CLIP's image tower": lambda: segmenter.clip.embed_crops(crops),
        "FOUND": lambda: segmenter.objectness(photo, [method]),
        "all of encoding": lambda: segmenter.encode([photo]),
        "text, new": new_texts,
        "text, known": lambda: segmenter.clip.embed_vocabulary(vocabulary),
        "label map and scores": lambda: segmenter.segment(features, vocabulary),
    }
    return {name: median_ms(way, repeats, wait) for name, way in ways.items()}


def median_ms(way: Callable[[], object], repeats: int, wait: Callable[[], None]) -> float:
    """Return the median time of a way, until `wait` says that all it started is done; the first run prepares."""
    times = []
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        way()
        wait()
        if repeat:
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def matmul_gflops(device: "torch.device", dtype: "torch.dtype", wait: Callable[[], None]) -> float:
    """Return the rate of a large product, in 10^9 multiplications and additions a second."""
    import torch

    side = MATMUL_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / 1e6 / median_ms(lambda: left @ right, 9, wait)


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
    out.print(
        f"loading {report.load_s:.1f} s, peak memory {report.peak_memory_mb:.0f} MB\n"
        f"{report.work_gflop:.0f} GFLOP a photo; a large product runs at {report.matmul_gflops:.0f} GFLOP/s: the image "
        f"towers take their time to {report.share_of_floor:.0%} for products at that rate",
        soft_wrap=True,
    )


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
