"""mIoU of both methods side by side on composed scenes, with the starter's weights.

    OMP_NUM_THREADS=1 python -m benchmarks.methods [--sets 1,2,3] [--count 60] [--single]

The sets are those of `clipdiy evaluate scenes:SET:COUNT`: 48 nouns and the background as labels, masks as large as the
picture, 95 % intervals by bootstrap over pictures, differences paired.
"""

import argparse
from dataclasses import dataclass, replace

import numpy as np

from clipdiy.config import CoreConfig, Pamr, preset
from clipdiy.dinoiser.config import STARTER_SETTINGS
from clipdiy.evaluate.bootstrap import Bootstrap, interval_around
from clipdiy.evaluate.confusion import confusion_matrix, quality
from clipdiy.evaluate.datasets.scenes import OBJECTS, SEED_STEP, SINGLE_OBJECT, SIZES_HW
from clipdiy.method import Method, build_method, method_named
from clipdiy.photo import Photo
from clipdiy.starter.scenes import NOUNS, Scene, compose_scene, load_sprites
from clipdiy.vocabulary import make_vocabulary

CLASSES = 1 + len(NOUNS)
DIY, DINOISER = preset("starter"), preset("starter", method="clip-dinoiser")


def dinoiser(**settings: object) -> CoreConfig:
    """Return the second method's configuration with some settings changed."""
    return replace(DINOISER, method_config=replace(STARTER_SETTINGS, **settings))


WAYS: dict[str, CoreConfig] = {
    "clip-diy": DIY,
    "clip-dinoiser": DINOISER,
    "clip-dinoiser, no background refinement": dinoiser(background="plain"),
    "clip-dinoiser, patches not pooled": dinoiser(gamma=0.999, background="plain"),
    "clip-diy, edges refined": replace(DIY, pamr=Pamr()),
    "clip-dinoiser, edges refined": replace(DINOISER, pamr=Pamr()),
}


@dataclass
class Tally:
    """What one way has got so far on one set."""

    counts: np.ndarray
    bootstrap: Bootstrap


def main() -> None:
    """Run the benchmark and print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default="1,2,3")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--single", action="store_true", help="one object a scene")
    options = parser.parse_args()
    methods: dict[str, Method] = {}
    for name, config in WAYS.items():
        first = next((one for one in methods.values() if one.config.method == config.method), None)
        methods[name] = first.with_config(config) if first else build_method(config, warm_up=False)
    for number in (int(part) for part in options.sets.split(",")):
        print(f"scenes:{number}:{options.count}{':single' if options.single else ''}")
        tallies = measure(methods, number, options.count, SINGLE_OBJECT if options.single else OBJECTS)
        base = tallies["clip-diy"]
        for name, tally in tallies.items():
            miou, replicates = quality(tally.counts).miou, tally.bootstrap.mean_ious()
            low, high = interval_around(miou, replicates)
            ahead = miou - quality(base.counts).miou
            worse, better = interval_around(ahead, replicates - base.bootstrap.mean_ious())
            print(
                f"  {name:42s} {100 * miou:5.1f} ({100 * low:.1f} to {100 * high:.1f})"
                f"   against clip-diy {100 * ahead:+5.1f} ({100 * worse:+.1f} to {100 * better:+.1f})",
                flush=True,
            )


def measure(methods: dict[str, Method], number: int, count: int, objects: tuple[int, int]) -> dict[str, Tally]:
    """Segment every scene of a set in every way."""
    sprites = load_sprites()
    vocabularies = {
        name: make_vocabulary(NOUNS, template=method_named(one.config.method).templates(one.config))
        for name, one in methods.items()
    }
    tallies = {name: Tally(np.zeros((CLASSES, CLASSES), np.int64), Bootstrap(count, CLASSES)) for name in methods}
    for i in range(count):
        scene: Scene = compose_scene(
            number * SEED_STEP + i, size_hw=SIZES_HW[i % len(SIZES_HW)], n_objects=objects, sprites=sprites
        )
        photo = Photo.from_array(scene.image)
        for name, method in methods.items():
            labels = method.segment(method.encode([photo])[0], vocabularies[name]).label_map
            counts = confusion_matrix(scene.labels, labels, CLASSES)
            tallies[name].counts += counts
            tallies[name].bootstrap.add(counts)
    return tallies


if __name__ == "__main__":
    main()
