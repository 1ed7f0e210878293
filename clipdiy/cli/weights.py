"""`clipdiy weights`: what is needed, whether it is there, and getting it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from clipdiy.cli.options import (
    WEIGHTS_DIR_VARIABLE,
    ClipOption,
    DirOption,
    FoundOption,
    MethodOption,
    PresetOption,
    configure,
)
from clipdiy.config import PRESETS, CoreConfig
from clipdiy.method import required_files
from clipdiy.weights import (
    STARTER,
    STARTER_DIR,
    WeightFile,
    default_weights_dir,
    expected_sha256,
    fetch,
    find,
    locate,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

app = typer.Typer(help="List, fetch and check the weights.", no_args_is_help=True)

AnyPresetOption = Annotated[
    str | None, typer.Option("--preset", help=f"One of {', '.join(PRESETS)}; all of them if left out.")
]


@app.command("list")
def list_weights(
    preset_name: AnyPresetOption = None,
    method: MethodOption = None,
    clip: ClipOption = None,
    found: FoundOption = None,
    weights_dir: DirOption = None,
) -> None:
    """Show what each preset needs, where it is looked for, and what is there."""
    folder = weights_dir or default_weights_dir()
    console = _console()
    needs = _needs(_configs(preset_name, method, clip, found))
    console.print(f"weights folder: {escape(str(folder))}")
    console.print(f"[dim](another one: --weights-dir, or {WEIGHTS_DIR_VARIABLE} in the environment)[/]")
    if needs:
        console.print(_table(needs, folder), soft_wrap=False)
        for file in needs:
            console.print(f"[bold]{escape(file.name)}[/]")
            path = find(file, folder)
            if path is not None and path != folder / file.name:
                console.print(f"  here  {escape(str(path))}")
            console.print(f"  from  {escape(file.url)}")
    if preset_name in (None, STARTER):
        _tell_starter(console)


@app.command("fetch")
def fetch_weights(
    preset_name: PresetOption = "paper",
    method: MethodOption = None,
    clip: ClipOption = None,
    found: FoundOption = None,
    weights_dir: DirOption = None,
) -> None:
    """Download what is missing; after an interruption, run it again to continue."""
    folder = weights_dir or default_weights_dir()
    console = _console()
    for file in _needs(_configs(preset_name, method, clip, found)):
        weight = locate(file, folder)
        if weight is not None and weight.intact:
            console.print(f"[green]there already[/]  {escape(str(weight.path))}")
            continue
        if weight is not None:
            console.print(f"[yellow]damaged, fetched again[/]  {escape(str(weight.path))}: {weight.why_not}")
        path = _fetch_with_bar(file, folder, console)
        console.print(f"[green]fetched[/]  {escape(str(path))}")
    console.print("all weights are there")


@app.command("check")
def check_weights(
    preset_name: PresetOption = "paper",
    method: MethodOption = None,
    clip: ClipOption = None,
    found: FoundOption = None,
    weights_dir: DirOption = None,
) -> None:
    """Read every file and compare its SHA-256; exit code 1 if one is missing or damaged."""
    folder = weights_dir or default_weights_dir()
    console = _console()
    bad = 0
    for file in _needs(_configs(preset_name, method, clip, found)):
        weight = locate(file, folder)
        if weight is None:
            verdict = f"[red]missing[/]  {escape(str(folder / file.name))}\n  from  {escape(file.url)}"
        elif not weight.intact:
            verdict = f"[red]damaged[/]  {escape(str(weight.path))}\n  {weight.why_not}"
        elif weight.expected is None:
            verdict = (
                f"[yellow]there, nothing to compare with[/]  {escape(str(weight.path))}\n  SHA-256 {weight.sha256}"
            )
        else:
            known = expected_sha256(file, weight.path)[1]
            verdict = f"[green]right[/]  {escape(str(weight.path))}\n  SHA-256 {weight.sha256} ({known})"
        bad += weight is None or not weight.intact
        console.print(verdict)
    if bad:
        console.print(f"{bad} missing or damaged: run `clipdiy weights fetch`")
        raise typer.Exit(1)


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _configs(name: str | None, method: str | None, clip: str | None, found: str | None) -> dict[str, CoreConfig]:
    """Return the configuration of each preset; another method and other models replace the presets' own."""
    names = list(PRESETS) if name is None else [name]
    return {one: configure(one, method=method, clip=clip or None, found=found or None) for one in names}


def _needs(configs: dict[str, CoreConfig]) -> dict[WeightFile, list[str]]:
    """Return every file once, with the presets that need it."""
    needs: dict[WeightFile, list[str]] = {}
    for name, config in configs.items():
        for file in required_files(config):
            needs.setdefault(file, []).append(name)
    return needs


def _table(needs: dict[WeightFile, list[str]], folder: Path) -> "Table":
    from rich.table import Table

    table = Table("what", "needed by", "state", "size", "SHA-256", pad_edge=False)
    for file, names in needs.items():
        path = find(file, folder)
        if path is None:
            state, size = "[red]missing[/]", ""
            known = "pinned" if file.sha256 else "unknown"
        else:
            state, size = "[green]there[/]", _size(path.stat().st_size)
            known = expected_sha256(file, path)[1]
        table.add_row(escape(file.what), ", ".join(names), state, size, known)
    return table


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"


def _tell_starter(console: "Console") -> None:
    """Say what is bundled, and which words it knows."""
    from clipdiy.starter.vocabulary import BACKGROUND, SYNONYMS

    nouns = ", ".join(noun for noun in SYNONYMS if noun != BACKGROUND)
    state = "" if (STARTER_DIR / "clip").is_dir() else " [red](missing from this installation)[/]"
    size = sum(path.stat().st_size for path in STARTER_DIR.rglob("*") if path.is_file())
    console.print(f"\n[bold]{STARTER}[/]  bundled, {_size(size)}, nothing to fetch{state}")
    console.print(f"  here  {escape(str(STARTER_DIR))}")
    console.print(
        f"  a closed world of drawn things, not for photos; it knows: {nouns}, their plurals and synonyms",
        soft_wrap=False,
    )


def _fetch_with_bar(file: WeightFile, folder: Path, console: "Console") -> Path:
    """Download one file under a progress bar; where there is no terminal, print a line after every tenth."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    if not console.is_terminal:
        bar.disable = True
    with bar:
        task = bar.add_task(escape(file.what), total=None)
        tenth = -1

        def show(done: int, total: int | None) -> None:
            nonlocal tenth
            bar.update(task, completed=done, total=total)
            if bar.disable and total and done * 10 // total > tenth:
                tenth = done * 10 // total
                console.print(f"{escape(file.what)}: {_size(done)} of {_size(total)}")

        return fetch(file, folder, progress=show)
