"""Folders into shards: here, on Ray, with workers that die, and again with other labels.

    python -m benchmarks.bulk [--pictures N] [--bad SHARE] [--shard N]

Scenes of the starter at 640x480 in a folder, some of them broken, with the starter weights on the CPU. Rates are those
between the first finished shard and the last, so that loading does not count. All runs have to make the same bytes:

- here, in one process;
- on a local Ray with one actor of two cores, and here again: what Ray costs;
- here, as a process with one thread: sums of another order may decide a pixel otherwise, which is counted;
- on a local Ray with two actors of a core each, of which one is killed with -9 half way: as that process;
- a run on such a Ray whose driver is killed with -9 half way, and which is started again: as that process;
- here with `--keep-features`, and then with other labels over them;
- the same with random weights of the published shapes, a few pictures;
- here with few and with many photos of 4000x3000 in one shard: how memory grows with what a shard holds.
"""

import argparse
import filecmp
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from backend.bulk.asking import config_for
from backend.bulk.making import ShardReport
from backend.bulk.on_ray import RayOptions, RayRunner
from backend.bulk.places import Stores
from backend.bulk.running import run_here
from backend.bulk.shards import Shards, chunks_of
from backend.ls.bulk_job import BulkJob, build_bulk, make_maker
from backend.settings import Settings
from benchmarks.networks import random_weights
from benchmarks.timing import machine
from clipdiy.starter.scenes import compose_scene

LABELS = "cat, dog, house, tree, car, cup"
OTHER_LABELS = "elephant, boat, guitar"
SIZE_HW = (480, 640)
LARGE_HW = (3000, 4000)
LARGE = (40, 120)
PUBLISHED = 4


def draw(folder: Path, pictures: int, bad: float) -> list[str]:
    """Write scenes, of which some are no pictures."""
    folder.mkdir()
    every = round(1 / bad) if bad else pictures + 1
    for seed in range(pictures):
        path = folder / f"{seed:06}.jpg"
        if seed % every == every - 1:
            path.write_bytes((b"", b"<html>", b"\xff\xd8\xff\xe0 cut off")[seed % 3])
        else:
            Image.fromarray(compose_scene(seed, size_hw=SIZE_HW).image).save(path, quality=90)
    return sorted(str(path) for path in folder.iterdir())


def rate(reports: Iterable[ShardReport]) -> tuple[float, int, int]:
    """Run; return pictures a second after the first shard, all pictures, and how many of them failed."""
    counts: list[int] = []
    times: list[float] = []
    failed = 0
    for report in reports:
        counts.append(report.pictures)
        times.append(time.monotonic())
        failed += sum(report.failed.values())
    return sum(counts[1:]) / max(times[-1] - times[0], 1e-9), sum(counts), failed


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files, byte for byte."""
    names = sorted(path.relative_to(one) for path in one.rglob("part-*.parquet") if "features" not in str(path))
    others = sorted(path.relative_to(other) for path in other.rglob("part-*.parquet") if "features" not in str(path))
    return names == others and all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)


def difference(one: Path, other: Path) -> str:
    """Say how many pictures of two runs have another pixel anywhere, and how many pixels that are."""
    pictures, pixels, all_pixels = 0, 0, 0
    [version] = [path.name for path in one.iterdir() if path.name.startswith("clip-diy-")]
    rows = [
        {row.source: row for row in Shards(Stores(), str(place), version).rows() if row.failure is None}
        for place in (one, other)
    ]
    for source, row in rows[0].items():
        [first, second] = (found.segmentation_for("brush").label_map for found in (row, rows[1][source]))
        pictures += bool((first != second).any())
        pixels += int((first != second).sum())
        all_pixels += first.size
    return f"{pictures} of {len(rows[0])} pictures differ, in {pixels / all_pixels:.1e} of all pixels"


def actors_below(pid: int) -> list[int]:
    """Return the processes of Ray's actors among the descendants of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().decode(errors="replace")
            if line.startswith("ray::") and "MapWorker" in line and pid in ancestors(int(path.name)):
                found.append(int(path.name))
        except OSError:
            continue
    return found


def ancestors(pid: int) -> list[int]:
    """Return the parents of a process, the nearest first."""
    found = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(pid)
    return found


def finished(folder: Path) -> int:
    """Return how many shards there are."""
    return len([*folder.glob("clip-diy-*/part-*.parquet")])


def command(source: Path, out: Path, shard: int, *more: str) -> list[str]:
    """Return the command line of a run."""
    options = ["--labels", LABELS, "--out", str(out), "--shard-size", str(shard), "--json", *more]
    return [sys.executable, "-m", "backend.ls", "bulk", str(source), *options]


def peak_mb(source: Path, out: Path) -> float:
    """Return the peak memory of a process that makes one shard, in megabytes."""
    peak = 0.0
    run = command(source, out, 1000)
    with subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        # What the system tells at the end would count this process too, which it is forked from.
        while process.poll() is None:
            found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            peak = max(peak, int(found[1]) / 1e3) if found else peak
            time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"ended with {process.returncode}: {' '.join(run)}")
    return peak


def print_memory(folder: Path) -> None:
    """Make shards of few and of many large photos, and say what that took."""
    found = {}
    photo = folder / "large.jpg"
    Image.fromarray(compose_scene(0, size_hw=LARGE_HW).image).save(photo, quality=90)
    for count in LARGE:
        source = folder / f"large-{count}"
        source.mkdir()
        for number in range(count):
            shutil.copy(photo, source / f"{number}.jpg")
        found[count] = peak_mb(source, folder / f"large-out-{count}")
    few, many = LARGE
    print(
        f"photos of {LARGE_HW[1]}x{LARGE_HW[0]} in one shard: {few}: peak {found[few]:,.0f} MB, "
        f"{many}: {found[many]:,.0f} MB; label maps of {many - few} of them would be "
        f"{(many - few) * 2 * LARGE_HW[0] * LARGE_HW[1] / 1e6:,.0f} MB",
        flush=True,
    )


def print_published(folder: Path, names: Sequence[str]) -> None:
    """Keep the features of networks of the published shapes, and use them for other labels."""
    settings = Settings(preset="paper", **random_weights())
    chunks = chunks_of(names, PUBLISHED // 2)
    rates = []
    for labels in (LABELS, OTHER_LABELS):
        built = build_bulk(BulkJob(settings, Stores(), config_for(labels), str(folder / "published"), True))
        rates.append(rate(run_here(chunks, built.maker))[0])
        built.predictor.close()
    size = sum(path.stat().st_size for path in (folder / "published").glob("features-*/part-*.parquet"))
    print(
        f"networks of the published shapes: {rates[0]:.2f} pictures/s, {size / len(names) / 1e3:.0f} kB of features "
        f"each; other labels over kept features: {rates[1]:.2f} pictures/s ({rates[1] / rates[0]:.0f}x)",
        flush=True,
    )


def main() -> None:
    """Run the benchmark and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--bad", type=float, default=0.2, help="share of the pictures that are none")
    parser.add_argument("--shard", type=int, default=25)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        logging.getLogger("backend").setLevel(logging.ERROR)  # the broken ones are meant
        os.environ.update(CLIPDIY_PRESET="starter", CLIPDIY_DEVICE="cpu", CLIPDIY_DTYPE="float32")
        os.environ["CLIPDIY_DATA_DIR"] = str(folder / "data")
        print(machine(), flush=True)
        names = draw(folder / "in", options.pictures, options.bad)
        chunks = chunks_of(names, options.shard)

        def job(out: str, labels: str = LABELS, *, keep_features: bool = False) -> BulkJob:
            return BulkJob(Settings(), Stores(), config_for(labels), str(folder / out), keep_features)

        built = build_bulk(job("here"))
        here, count, failed = rate(run_here(chunks, built.maker))
        built.predictor.close()
        size = sum(path.stat().st_size for path in (folder / "here").rglob("part-*.parquet"))
        print(
            f"here: {here:.2f} pictures/s, {count} pictures, {failed} failed, {size / count / 1e3:.1f} kB each",
            flush=True,
        )

        with RayRunner(RayOptions(cores=2, most=1)) as ray:
            alone, count, failed = rate(ray.run(chunks, partial(make_maker, job("one"))))
        # Before and after: a shared machine is faster in one minute than in the next.
        built = build_bulk(job("after"))
        after, _, _ = rate(run_here(chunks, built.maker))
        built.predictor.close()
        print(f"here again: {after:.2f} pictures/s", flush=True)
        here = (here + after) / 2
        print(
            f"Ray, one actor of two cores: {alone:.2f} pictures/s ({100 * (here / alone - 1):+.1f} % time), {count} "
            f"pictures, {failed} failed, same bytes: {same(folder / 'here', folder / 'one')}",
            flush=True,
        )
        single = command(folder / "in", folder / "single", options.shard)
        threads = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(single, env=threads, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        print(f"here with one thread instead of two: {difference(folder / 'here', folder / 'single')}", flush=True)
        with RayRunner(RayOptions(cores=1, most=2)) as ray:
            killed = []

            def killing() -> Iterable[ShardReport]:
                for number, report in enumerate(ray.run(chunks, partial(make_maker, job("two")))):
                    yield report
                    if number == len(chunks) // 2 and not killed:
                        killed.append(actors_below(os.getpid())[0])
                        os.kill(killed[0], signal.SIGKILL)

            both, count, failed = rate(killing())
        print(
            f"Ray, two actors of a core, process {killed[0]} killed with -9: {both:.2f} pictures/s, {count} pictures, "
            f"{failed} failed, same bytes: {same(folder / 'single', folder / 'two')}",
            flush=True,
        )
        run = command(folder / "in", folder / "again", options.shard, "--ray", "local", "--ray-cores", "1")
        first = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        while finished(folder / "again") < len(chunks) // 2:
            time.sleep(0.5)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        time.sleep(5)  # what it had started ends by itself
        there = finished(folder / "again")
        told = json.loads(subprocess.run(run, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout)
        print(
            f"driver killed with -9 with {there} of {len(chunks)} shards there; started again: {told['done_before']} "
            f"pictures were done before, {told['made']} made, same bytes: {same(folder / 'single', folder / 'again')}",
            flush=True,
        )
        built = build_bulk(job("kept", keep_features=True))
        keeping, count, _ = rate(run_here(chunks, built.maker))
        built.predictor.close()
        size = sum(path.stat().st_size for path in (folder / "kept").glob("features-*/part-*.parquet"))
        built = build_bulk(job("kept", OTHER_LABELS, keep_features=True))
        other, count, _ = rate(run_here(chunks, built.maker))
        built.predictor.close()
        built = build_bulk(job("fresh", OTHER_LABELS))
        rate(run_here(chunks, built.maker))
        built.predictor.close()
        print(f"here, keeping features: {keeping:.2f} pictures/s, {size / count / 1e3:.1f} kB of features each")
        print(
            f"other labels over kept features: {other:.2f} pictures/s ({other / here:.1f}x); same bytes as without "
            f"them: {same_version(folder / 'kept', folder / 'fresh')}",
            flush=True,
        )
        print_published(folder, [name for name in names if Path(name).stat().st_size > 1000][:PUBLISHED])
        print_memory(folder)
        print(f"load of this machine now: {os.getloadavg()[0]:.1f}")


def same_version(one: Path, other: Path) -> bool:
    """Whether the version that the second folder holds is the same in the first."""
    [version] = [path for path in other.iterdir() if path.name.startswith("clip-diy-")]
    return same(one / version.name, version)


if __name__ == "__main__":
    main()
