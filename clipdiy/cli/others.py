"""`clipdiy others`: what competes with these labels, what does not, and why."""

from typing import TYPE_CHECKING

from clipdiy.cli.options import (
    ClipOption,
    DeviceOption,
    DirOption,
    FoundOption,
    LabelsOption,
    MethodOption,
    OthersOption,
    PresetOption,
    TemplateOption,
    configure,
)
from clipdiy.labels import parse_vocabulary
from clipdiy.method import build_method, method_named, require_weights
from clipdiy.others.words import AUTO, read_others

if TYPE_CHECKING:
    from clipdiy.others.choice import Choice


def others(
    labels: LabelsOption,
    others: OthersOption = AUTO,
    preset_name: PresetOption = "paper",
    method_name: MethodOption = None,
    clip: ClipOption = None,
    found: FoundOption = None,
    template: TemplateOption = None,
    device: DeviceOption = None,
    weights_dir: DirOption = None,
) -> None:
    """Print which others compete with these labels, and which were left out, and why.

    Others are common things that are no labels. They compete for objects like labels, and what they win stays empty.
    One that belongs to a label's own kind is left out: a dog is no rival of the label animal.
    """
    config = configure(preset_name, method=method_name, clip=clip, found=found, device=device, prompt_template=template)
    vocabulary = parse_vocabulary(labels, method_named(config.method).templates(config))
    words = read_others(others)
    if words == ():
        print("no others compete")
        return
    require_weights(config, weights_dir)
    choice = build_method(config, weights_dir=weights_dir, warm_up=False).choose_others(vocabulary, words)
    for line in describe(choice):
        print(line)


def describe(choice: "Choice") -> list[str]:
    """Say it in lines: those that compete, then what was left out, label by label."""
    names = ", ".join(label.name for label in choice.competing)
    lines = [f"{len(choice.competing)} others compete{': ' if names else ''}{names}"]
    for label, left_out in choice.left_out_by_label().items():
        lines += [f"{len(left_out)} left out beside {label}:", *(f"  {left}" for left in left_out)]
    return lines
