"""CLIP-DINOiser beside CLIP-DIY: work, time, memory, what is kept of a photo, and what fewer bits change.

    OMP_NUM_THREADS=1 python -m benchmarks.dinoiser [--repeats N] [--clock wall|cpu] [--size 480x640] [--dtype float32]

The published shapes (ViT-B/16 with both heads; ViT-B/32 with FOUND) with random weights, all ways in turns on one
photo, the runtimes too. What bfloat16 and stored float16 change is measured on the golden set, whose label maps are
varied.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.networks import DEFAULT_DIR, random_config, random_weights
from benchmarks.timing import CLOCKS, add_options, extra_memory_mb, machine, medians_ms
from clipdiy.config import CleanUp, CoreConfig
from clipdiy.dinoiser.config import DinoiserConfig, Windows
from clipdiy.dinoiser.heads import DinoiserHeads
from clipdiy.method import Method, build_method
from clipdiy.photo import Photo, decode_photo
from clipdiy.vocabulary import make_vocabulary

GOLDEN = Path("tests") / "fixtures" / "golden_dinoiser"
VOCABULARY = make_vocabulary([f"thing {i}" for i in range(20)])


@dataclass(frozen=True)
class Way:
    """One way of computing.

    Attributes:
        settings: Of the second method; `None` for CLIP-DIY.
        runtime: What executes the image tower.
        dtype: What it computes in, or `None` for what the command says.
    """

    settings: DinoiserConfig | None
    runtime: str = "torch"
    dtype: str | None = None


BASE = "clip-diy"
WAYS = {
    BASE: Way(None),
    "clip-diy, openvino": Way(None, "openvino"),
    "clip-dinoiser, whole": Way(DinoiserConfig()),
    "clip-dinoiser, whole, bfloat16": Way(DinoiserConfig(), dtype="bfloat16"),
    "clip-dinoiser, whole, onnxruntime": Way(DinoiserConfig(), "onnxruntime"),
    "clip-dinoiser, whole, openvino": Way(DinoiserConfig(), "openvino"),
    "clip-dinoiser, whole, openvino-int8": Way(DinoiserConfig(), "openvino-int8"),
    "clip-dinoiser, short side 448, whole": Way(DinoiserConfig(long_px=597)),
    "clip-dinoiser, windows": Way(DinoiserConfig(way="windows")),
}


def main() -> None:
    """Run the benchmark and print its lines; with `--memory-of`, one number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, repeats=3)
    parser.add_argument("--size", default="480x640", help="height x width of the photo")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--ways", default=";".join(WAYS), help="which, with a semicolon between them")
    parser.add_argument("--memory-of", choices=tuple(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    height, width = (int(side) for side in options.size.split("x"))
    photo = Photo.from_array(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    if options.memory_of:
        method = build(options.memory_of, options.dtype)
        method.encode([Photo.from_array(photo.pixels[:64, :64].copy())])
        print(extra_memory_mb(lambda: method.encode([photo])))
        return
    methods = {name: build(name, options.dtype) for name in options.ways.split(";")}
    print(f"{machine()}, {options.clock} clock, {options.dtype}, photo {options.size}, {len(VOCABULARY) - 1} labels")
    clock = CLOCKS[options.clock]
    encode_ms = medians_ms(
        {name: lambda method=method: method.encode([photo]) for name, method in methods.items()},
        options.repeats,
        clock=clock,
    )
    features = {name: method.encode([photo])[0] for name, method in methods.items()}
    segment_ms = medians_ms(
        {
            name: lambda name=name, method=method: method.segment(features[name], VOCABULARY)
            for name, method in methods.items()
        },
        options.repeats,
        clock=clock,
    )
    print(
        f"{'':38s} {'GFLOP':>6s} {'encode ms':>10s} {'times':>6s} {'segment ms':>11s} {'MB more':>8s} {'kept kB':>8s}"
    )
    for name, method in methods.items():
        kept = len(features[name].to_bytes()) / 1e3
        print(
            f"{name:38s} {gflop(method, photo) or float('nan'):6.0f} {encode_ms[name]:10.0f} "
            f"{encode_ms[BASE] / encode_ms[name]:6.1f} {segment_ms[name]:11.1f} "
            f"{memory_mb(name, options):8.0f} {kept:8.0f}"
        )
    print("golden set, pixels whose label is that of the authors' program:")
    for name, share in golden_agreement().items():
        print(f"  {name:38s} {share:.3%}")


def build(name: str, dtype: str) -> Method:
    """Load one of the ways with random weights."""
    way = WAYS[name]
    arithmetic = {"runtime": way.runtime, "dtype": (way.dtype or dtype) if way.runtime == "torch" else "auto"}
    cache_dir = DEFAULT_DIR / "cache"
    if way.settings is None:
        return build_method(random_config(device="cpu", **arithmetic), cache_dir=cache_dir, warm_up=False)
    config = CoreConfig(
        method="clip-dinoiser",
        method_config=replace(way.settings, heads=random_heads(), prompt_templates=("a photo of a {}",)),
        clip=random_weights("ViT-B-16")["clip"],
        device="cpu",
        **arithmetic,
    )
    return build_method(config, cache_dir=cache_dir, warm_up=False)


def random_heads() -> str:
    """Write random heads in the published shapes, once; return what names them."""
    folder = DEFAULT_DIR / "dinoiser-heads"
    if not folder.is_dir():
        folder.mkdir(parents=True)
        torch.manual_seed(2)
        save_file(DinoiserHeads(768, 256).state_dict(), folder / "heads.safetensors")
    return f"local-dir:{folder}"


def gflop(method: Method, photo: Photo) -> float:
    """Count the multiplications and additions of encoding a photo, in units of 10^9; 0 where torch does none."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not see into it
    try:
        with FlopCounterMode(display=False) as counter:
            method.encode([photo])
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return float(counter.get_total_flops()) / 1e9


def memory_mb(name: str, options: argparse.Namespace) -> float:
    """Return the extra memory of encoding one photo, measured in a new process."""
    command = [
        sys.executable, "-m", "benchmarks.dinoiser",
        "--memory-of", name, "--size", options.size, "--dtype", options.dtype,
    ]  # fmt: skip
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def golden_agreement() -> dict[str, float]:
    """Return the share of the golden label maps' pixels that are kept, features stored in float16."""
    expected = dict(np.load(GOLDEN / "expected.npz"))
    with (GOLDEN.parent / "golden" / "photo.png").open("rb") as file:
        photo = decode_photo(file, max_px=10**6)
    vocabulary = make_vocabulary([str(name) for name in expected["classes"][1:]])
    windows = Windows(short_px=None, window_px=160, stride_px=80)
    shares = {}
    for dtype in ("float32", "bfloat16"):
        for way, label in (("whole", "labels"), ("windows", "slide_labels")):
            for background, ending in (("plain", ""), ("refined", "_background")):
                settings = DinoiserConfig(
                    f"local-dir:{GOLDEN}", way, windows=windows, background=background,
                    prompt_templates=("a photo of a {}",),
                )  # fmt: skip
                config = CoreConfig(
                    method="clip-dinoiser",
                    method_config=settings,
                    clip=f"local-dir:{GOLDEN / 'tiny_clip'}",
                    clean_up=CleanUp(0),
                    device="cpu",
                    dtype=dtype,
                )
                method = build_method(config, warm_up=False)
                method.clip.embed_vocabulary = lambda _vocabulary: torch.from_numpy(expected["class_embeddings"])
                labels = method.segment(method.encode([photo])[0], vocabulary).label_map
                shares[f"{dtype}, {way}, background {background}"] = float(
                    (labels == expected[f"{label}{ending}"]).mean()
                )
    return shares


if __name__ == "__main__":
    main()
