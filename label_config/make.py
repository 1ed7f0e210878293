"""Which labels and colours do the labeling configs have? Run it to write them again.

    python label_config/make.py

A mask is laid over a photo half transparent, so a label's colour should be unlike the other labels' and unlike what
photos are made of. The colours are therefore strong ones only, each as far as can be from all before it (distance in
OKLab, which measures as eyes do): first among the brightest, and where those come too close to each other, among darker
and paler ones too. The first labels of every config get the same, most different, colours.
"""

import colorsys
import math
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

FOLDER = Path(__file__).parent

VOC_20 = """\
aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, dining table, dog, horse, motorbike, person,
potted plant, sheep, sofa, train, tv monitor"""
COCO_80 = """\
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard,
cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier,
toothbrush"""
STARTER_48 = """\
dog, cat, horse, cow, pig, sheep, rabbit, elephant, lion, bird, penguin, fish, butterfly, turtle, snake,
apple, banana, strawberry, pineapple, carrot, pizza, hamburger, cake, bread, car, bus, truck, bicycle, train, airplane,
boat, rocket, house, chair, sofa, clock, book, laptop, umbrella, cup, bottle, scissors, guitar, balloon, shoe, tree,
cactus, sunflower"""

Labels = Sequence[tuple[str, dict[str, str]]]

# Value, and further attributes.
SMALL: Labels = (
    ("Cat", {}),
    ("Sofa", {"predicted_values": "sofa, couch"}),
    ("Hund", {"alias": "dog"}),
    ("Background", {"predicted_values": "background, wall, floor"}),
)
PHOTOS: Labels = (
    ("Person", {"predicted_values": "person, astronaut"}),
    ("Flag", {"predicted_values": "flag"}),
    ("Cat", {"predicted_values": "cat"}),
    ("Cup", {"predicted_values": "cup of coffee, saucer"}),
    ("Spoon", {"predicted_values": "spoon"}),
    ("Rocket", {"predicted_values": "rocket"}),
    ("Tower", {"predicted_values": "launch tower"}),
)


def names(text: str) -> Labels:
    """Take a list with commas as labels without further attributes."""
    return [(name, {}) for name in text.replace("\n", " ").split(", ")]


def oklab(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    """Convert sRGB, 0..255, to OKLab (Bjoern Ottosson, 2020)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in rgb))
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    middle = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


BRIGHTEST = (1.0, 1.0)
SHADES = (BRIGHTEST, (1.0, 0.75), (0.6, 1.0), (1.0, 0.5))
"""Saturation and value of the colours to choose from, at every hue."""
TOO_CLOSE = 0.15
"""Distance in OKLab (black to white is 1) below which the brightest are not enough."""


def colours(count: int) -> list[str]:
    """Return the first `count` colours as #rrggbb, magenta first."""
    candidates = {shade: [_rgb(hue, shade) for hue in range(0, 360, 4)] for shade in SHADES}
    labs = {rgb: oklab(rgb) for shade in SHADES for rgb in candidates[shade]}
    chosen = [_rgb(300, BRIGHTEST)]
    nearest = dict.fromkeys(labs, float("inf"))
    while len(chosen) < count:
        for rgb, lab in labs.items():
            nearest[rgb] = min(nearest[rgb], math.dist(lab, labs[chosen[-1]]))
        best = max(candidates[BRIGHTEST], key=nearest.__getitem__)
        chosen.append(best if nearest[best] >= TOO_CLOSE else max(nearest, key=nearest.__getitem__))
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in chosen]


def _rgb(hue: int, shade: tuple[float, float]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue / 360, *shade))
    return red, green, blue


def config(labels: Labels) -> str:
    """Write a labeling config for one image with brush masks. A long list gets a field to search it."""
    lines = ["<View>", '  <Image name="img" value="$image" zoom="true" zoomControl="true"/>']
    if len(labels) > 30:
        lines.append('  <Filter name="filter" toName="brush" minlength="0" placeholder="Find a label"/>')
    lines.append('  <BrushLabels name="brush" toName="img">')
    for (value, further), colour in zip(labels, colours(len(labels)), strict=True):
        attributes = {"value": value, **further, "background": colour}
        lines.append("    <Label" + "".join(f" {key}={quoteattr(text)}" for key, text in attributes.items()) + "/>")
    return "\n".join([*lines, "  </BrushLabels>", "</View>"]) + "\n"


CONFIGS: dict[str, Labels] = {
    "voc20.xml": names(VOC_20),
    "coco80.xml": names(COCO_80),
    "starter.xml": names(STARTER_48),
    "small.xml": SMALL,
    "photos.xml": PHOTOS,
}


def main() -> None:
    """Write every config into this folder."""
    for name, labels in CONFIGS.items():
        (FOLDER / name).write_text(config(labels), encoding="utf-8")


if __name__ == "__main__":
    main()
