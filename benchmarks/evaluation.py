"""How good are the masks? Runs `clipdiy evaluate` on composed scenes and writes the section "Quality" of RESULTS.md.

    python -m benchmarks.evaluation [--count N] [--workers N] [--only NAME,NAME] [--out DIR]

Each table in the section names the command that makes it; this program runs those commands one after the other (about
five minutes on two cores) and sets what they wrote in place of the section. A command whose results are already in
--out is not run again.
"""

import argparse
import json
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "RESULTS.md"
HEADING = "## Quality"
COUNT = 60

INTRODUCTION = """\
Scenes composed of drawings (`clipdiy.starter.scenes`), with the bundled starter weights: a closed world of 48 nouns
that says how the parts of the method compare, not how good it is on photos. Of the three sizes in each set (256x256,
375x500, 500x375) none of the scenes was in the training. Unless a table says otherwise the way is the published one:
argmax at 256, nearest neighbour to the picture's size, no clean-up. Counting is `--protocol clean`
([docs/evaluation.md](../docs/evaluation.md)): truth and label map at a shorter side of 448, one confusion matrix over
all pixels, mIoU over all classes that occur, with the background. In brackets the 95 % interval by bootstrap over
pictures (1000 replicates, seed 0), moved to its figure; differences are paired, over the same resampled pictures. All
figures are percent.
Device: {device}.
All of it again: `python -m benchmarks.evaluation`."""


@dataclass(frozen=True)
class Run:
    """One command.

    Attributes:
        name: Folder of its results.
        options: After `clipdiy evaluate DATA --preset starter`.
        data: Data sets, one run each.
    """

    name: str
    title: str
    options: str
    data: tuple[str, ...]
    note: str = ""


LEFT_OUT = ("stride-half", "found", "prune-16", "prune-2")  # rows that say what others say

MANY = tuple(f"scenes:{seed}:{{count}}" for seed in (1, 2, 3))
SINGLE = tuple(f"scenes:{seed}:{{count}}:single" for seed in (1, 2, 3))

SYSTEMS = "--table 2,stride,4,peer,prune --no-boundary --instances OUT/data/SCENES/instances.json"

RUNS = (
    Run(
        "ablation",
        "Table 2: what the parts are worth, several objects",
        "--table 2 --no-boundary",
        MANY,
        "With two to four objects in a picture its one coarsest crop can name only one of them, so leaving the other "
        "scales out costs far more than on PASCAL VOC.",
    ),
    Run(
        "single",
        "Table 2: what the parts are worth, one object",
        "--table 2 --no-boundary",
        SINGLE,
        "One object a picture, as in many of PASCAL VOC: the order is the paper's (59.9, 56.0, 24.1) on each set, "
        "though the step from one scale to three lies within the intervals. A class that is "
        "named somewhere and is in no truth of the set counts as 0, so a single mistake can cost 2 points.",
    ),
    Run(
        "systems",
        "Table 4, strides, MaskCLIP, absent classes left out",
        SYSTEMS,
        (MANY[0], SINGLE[0]),
        "There are no CutLER masks here: the row of Eq. 5 takes the scenes' true masks with score 1 in their place and "
        "says what a perfect objectness would give. FOUND-bkg needs a backbone that knows patches of one kind from "
        "others without a head, and the starter's was trained together with its head. MaskCLIP: dense "
        "value features of one pass at twice CLIP's input, as published (the starter's tower is a ResNet: its pool's "
        "value and output projections, no positions), in place of the crops; everything else is the same.",
    ),
    Run(
        "scales",
        "Table 3: scales",
        "--table 3 --no-boundary",
        ("scenes:1:24", "scenes:1:24:single"),
        "Fewer scenes: five scales are 1245 crops a picture. The paper has 59.9 for the first row, then 56.0, 58.8, "
        "59.5, 59.3 and 53.8; scales 1 and 2 alone it does not have.",
    ),
    Run(
        "refine",
        "Refinement (argmax at full size: `--full`)",
        "--full --table refine",
        MANY[:2],
        "PAMR is the published form, boundary IoU that of its authors' program. ms is processor time of segmenting an "
        "encoded picture on one thread, clean-up and PAMR included, on a machine that was busy with other work.",
    ),
)


def main() -> None:
    """Run what is asked for and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT, help="scenes in each set")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", help="names of runs, with commas; the section is then not written")
    parser.add_argument("--out", type=Path, default=Path("clipdiy-out/evaluation"))
    parser.add_argument("--device", default="2 CPU cores", help="what the section says of the machine")
    arguments = parser.parse_args()
    chosen = [run for run in RUNS if arguments.only is None or run.name in arguments.only.split(",")]
    parts = [HEADING, INTRODUCTION.format(device=arguments.device)]
    for run in chosen:
        results = [carry_out(run, data.format(count=arguments.count), arguments) for data in run.data]
        parts += section(run, results)
    text = "\n\n".join(parts) + "\n"
    if arguments.only is None:
        RESULTS.write_text(replace_section(RESULTS.read_text() if RESULTS.exists() else "# Results\n", text))
        print(f"written to {RESULTS}")
    else:
        print(text)


def carry_out(run: Run, data: str, arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Run one command, unless its results are there; return it as a person would write it, and its results."""
    out = arguments.out / run.name / data.replace(":", "-")
    shown = f"clipdiy evaluate {data} --preset starter {run.options} --out OUT".replace(
        "SCENES", data.replace(":", "-")
    )
    if not (out / "results.json").exists():
        command = [sys.executable, "-m", "clipdiy", *shlex.split(shown.replace("OUT", str(out)))[1:]]
        print(shlex.join(command), flush=True)
        subprocess.run([*command, "--workers", str(arguments.workers)], check=True)
    return shown, json.loads((out / "results.json").read_text())


def section(run: Run, results: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Write one run as Markdown: a table for each data set, under the command that made it."""
    parts = [f"### {run.title}"]
    if run.note:
        parts.append(textwrap.fill(run.note, 119))
    for command, content in results:
        parts += [f"{content['dataset']['title']}: `{command}`", markdown(run, content["variants"])]
    return parts


def markdown(run: Run, variants: dict[str, dict[str, Any]]) -> str:
    """Write the rows of one data set."""
    boundary = all(row["boundary_miou"] is not None for row in variants.values())
    head = ["", "mIoU", "to the first", "pixels", *(["boundary IoU"] if boundary else [])]
    if run.name == "refine":
        head.append("ms")
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for key, row in variants.items():
        if key in LEFT_OUT:
            continue
        title = "true masks (Eq. 5)" if key == "cutler" else row["title"]
        low, high = row["miou_interval_95"]
        difference = ""
        if row["difference_to_first"]:
            difference = "{:+.1f} ({:+.1f} to {:+.1f})".format(*row["difference_to_first"])
        line = [title, f"{row['miou']:.1f} ({low:.1f} to {high:.1f})", difference, f"{row['pixel_accuracy']:.1f}"]
        if boundary:
            line.append(f"{row['boundary_miou']:.1f}")
        if run.name == "refine":
            line.append(f"{row['segment_ms']:.0f}")
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def replace_section(document: str, text: str) -> str:
    """Put the section in place of the one with its heading, or at the end."""
    lines = document.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if line.rstrip() == HEADING]
    if not starts:
        return document.rstrip("\n") + "\n\n" + text
    start = starts[0]
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("## ")), len(lines))
    rest = "".join(lines[end:])
    return "".join(lines[:start]) + text + ("\n" + rest if rest else "")


if __name__ == "__main__":
    main()
