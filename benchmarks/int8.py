"""Do products of 8 bits gain anything, here and on a processor without instructions for them?

    python -m benchmarks.int8 [--repeats N] [--clock wall|cpu] [--size WxH] [--long-px 448]
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python -m benchmarks.int8
    python -m benchmarks.int8 --limit-onnxruntime FOLDER     then the same with PYTHONPATH=FOLDER

Random weights of ViT-B/32's and DINO ViT-S/8's shapes; float32 in torch and every runtime in turns, each network by
itself.

The two variables make torch, and the oneDNN that torch and OpenVINO carry each of their own, compute as on a processor
with AVX2 alone. ONNX Runtime's kernels ask the processor themselves, and no variable changes what they hear. So
`--limit-onnxruntime` writes a copy of the installed package in which the jump behind their question for AVX-512 is
always taken; what PYTHONPATH finds first is then that copy.
"""

import argparse
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.networks import DEFAULT_DIR, random_config
from benchmarks.timing import CLOCKS, add_options, machine, medians_ms
from clipdiy.build import build_segmenter
from clipdiy.config import ObjectnessConfig
from clipdiy.errors import ClipDiyError
from clipdiy.photo import Photo
from clipdiy.processor import read_processor
from clipdiy.runtimes.handover import executed_by_runtime
from clipdiy.segmenter import Segmenter
from clipdiy.starter.scenes import compose_scene

RUNTIMES = "onnxruntime,openvino,openvino-int8"
# test $0x10000, %r10d (AVX512F of leaf 7); je over the 14 bytes that ask whether the system saves its registers.
ASKS_FOR_AVX512 = bytes.fromhex("41f7c200000100740e")
NEVER_HAS_IT = bytes.fromhex("41f7c200000100eb0e")


def main() -> None:
    """Run the benchmark and print a table, or write a limited copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, repeats=3)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--long-px", type=int, default=640, help="what FOUND sees; 448 is paper-fast")
    parser.add_argument("--runtimes", default=RUNTIMES)
    parser.add_argument("--limit-onnxruntime", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.limit_onnxruntime:
        limit_onnxruntime(options.limit_onnxruntime)
        return
    width, height = map(int, options.size.split("x"))
    photo = Photo.from_array(compose_scene(7, size_hw=(height, width)).image)
    exact = build_segmenter(
        random_config(device="cpu", dtype="float32", objectness=ObjectnessConfig(long_px=options.long_px)),
        warm_up=False,
    )
    segmenters = {"float32": exact}
    for runtime in options.runtimes.split(","):
        try:
            segmenters[runtime] = in_runtime(exact, runtime)
        except ClipDiyError as err:
            print(f"{runtime}: {err}")
    crops = exact.crops([photo])
    clock = CLOCKS[options.clock]
    with torch.inference_mode():
        towers = medians_ms(
            {name: lambda one=one: one.clip.embed_crops(crops) for name, one in segmenters.items()},
            options.repeats,
            clock=clock,
        )
        found = medians_ms(
            {name: lambda one=one: one.objectness(photo, ["found"]) for name, one in segmenters.items()},
            options.repeats,
            clock=clock,
        )
    used = torch.backends.cpu.get_cpu_capability()
    print(f"{machine()}, {options.clock} clock, torch uses {used}")
    print(f"{options.size}, FOUND at {options.long_px}, {options.repeats} runs in turns")
    print(f"8 bits: {'no instructions' if read_processor().lacks_int8 else 'instructions, or nobody knows'}")
    print("| | CLIP's image tower | | FOUND | | both | |\n|---|---:|---:|---:|---:|---:|---:|")
    for name in segmenters:
        both = towers[name] + found[name]
        print(
            f"| {name} | {towers[name]:.0f} ms | {towers['float32'] / towers[name]:.2f}x "
            f"| {found[name]:.0f} ms | {found['float32'] / found[name]:.2f}x "
            f"| {both:.0f} ms | {(towers['float32'] + found['float32']) / both:.2f}x |"
        )


def in_runtime(exact: Segmenter, runtime: str) -> Segmenter:
    """Return a float32 segmenter's networks in another runtime, whether or not the program would choose it here."""
    folder = Path(DEFAULT_DIR) / "cache" / "runtimes"
    clip, found = executed_by_runtime(
        runtime, exact.clip, exact._objectness_network, folder=folder, weights_id=exact._weights_id
    )
    config = replace(exact.config, dtype="auto", runtime=runtime)
    return Segmenter(config, clip, found, name=exact.name, weights_id=exact._weights_id)


def limit_onnxruntime(folder: Path) -> None:
    """Write a copy of the installed onnxruntime whose own kernels take the processor for one without AVX-512."""
    spec = find_spec("onnxruntime")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("onnxruntime is not installed")
    copy = folder / "onnxruntime"
    shutil.copytree(spec.submodule_search_locations[0], copy)
    [library] = (copy / "capi").glob("onnxruntime_pybind11_state*.so")
    code = library.read_bytes()
    if code.count(ASKS_FOR_AVX512) != 1:
        raise SystemExit("this version asks in another way: look for the question behind cpuid in MLAS_PLATFORM")
    library.write_bytes(code.replace(ASKS_FOR_AVX512, NEVER_HAS_IT))
    print(f"written to {copy}; PYTHONPATH={folder} has it used")


if __name__ == "__main__":
    main()
