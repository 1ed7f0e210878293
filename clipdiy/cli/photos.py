"""Which files are meant by what was typed, and what the results of each are called."""

import glob
import json
from collections.abc import Iterable
from pathlib import Path

PHOTO_ENDINGS = frozenset({".jpg", ".jpeg", ".jpe", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
LABELS, OVERLAY, EXPLAIN, REPORT = ".labels.png", ".overlay.png", ".explain.png", ".json"


def find_photos(names: Iterable[str]) -> tuple[list[Path], list[str]]:
    """Turn arguments of the command line into files.

    A folder stands for the pictures in it and below it, a pattern (`*`, `?`, `[…]`, `**`) for what it matches. Results
    of earlier runs and hidden files are left out of both. A file that is named twice is taken once.

    Returns:
        The files in order, and a message for every argument that stands for none.
    """
    photos: dict[Path, Path] = {}
    problems = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = _pictures(path.rglob("*"), path)
            problem = f"{name}: no pictures in this folder"
        elif path.exists():
            found, problem = [path], ""
        elif glob.has_magic(name):
            found = _pictures((Path(match) for match in glob.iglob(name, recursive=True)), None)
            problem = f"{name}: no picture matches"
        else:
            found, problem = [], f"{name}: no such file or folder"
        if not found:
            problems.append(problem)
        for photo in found:
            photos.setdefault(photo.resolve(), photo)
    return list(photos.values()), problems


def _pictures(paths: Iterable[Path], root: Path | None) -> list[Path]:
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in PHOTO_ENDINGS
        and not path.name.endswith((LABELS, OVERLAY, EXPLAIN))
        and not any(part.startswith(".") for part in (path.relative_to(root) if root else path).parts if part != "..")
        and path.is_file()
    )


def name_results(photos: Iterable[Path], out: Path) -> list[str]:
    """Choose the name, without ending, under which each photo's results are written.

    It is the photo's own, with a number where another photo's results have it, from this run or an earlier one into the
    same folder. The results of the same photo, run again, replace those of the last time.
    """
    taken: set[str] = set()
    names = []
    for photo in photos:
        number = 1
        while True:
            name = photo.stem if number == 1 else f"{photo.stem}-{number}"
            # Some file systems do not tell A from a.
            if name.casefold() not in taken and not _belongs_to_another(out, name, photo):
                break
            number += 1
        taken.add(name.casefold())
        names.append(name)
    return names


def _belongs_to_another(out: Path, name: str, photo: Path) -> bool:
    report = out / f"{name}{REPORT}"
    if report.exists():
        try:
            return bool(json.loads(report.read_text(encoding="utf-8"))["photo"] != str(photo.resolve()))
        except (OSError, ValueError, KeyError, TypeError):
            return True
    return any((out / f"{name}{ending}").exists() for ending in (LABELS, OVERLAY, EXPLAIN))
