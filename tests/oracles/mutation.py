"""How well the tests hold: small faults are put into `clipdiy/`, one at a time, and its tests must see them.

    pip install cosmic-ray      # no dependency of the project: only this program needs it
    python -m tests.oracles.mutation [MODULE ...] [--mutants N] [--seconds S] [--seed N] [--tests FILE ...]

cosmic-ray says which faults a module can have (`<` for `<=`, `+` for `-`, 3 for 4, True for False ...). N of them are
drawn for each module, and the tests of that module run against each until one fails: those that lie beside it by name,
or else those in its room that import it, or else those of the modules that use it. A fault that no test sees is printed
as a survivor. Without MODULE it goes through `clipdiy/` but `starter` and `cli`.

Each fault gets a process of its own that imports `clipdiy` anew with the fault in it; the files stay as they are. A
process may use `CPU_S` of processor and `MEMORY_BYTES` more memory than it began with: a loop that never ends counts as
seen, as the suite's own time limit would see it.
"""

import argparse
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pkgutil
import random
import resource
import signal
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType

import pytest
import torch
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

import clipdiy

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests/unit/clipdiy"
CPU_S = 60
WALL_S = 300
MEMORY_BYTES = 3 << 30
# Those that need to be told a name, and `X | None` in an annotation with another sign: nothing runs it.
LEFT_OUT = ("Variable", "variable", "BinaryOperator_BitOr")


class MutantLoader(importlib.machinery.SourceFileLoader):
    """Loads a module's file with another text."""

    def __init__(self, module: str, path: Path, text: str) -> None:
        super().__init__(module, str(path))
        self.text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.text, self.path, "exec", dont_inherit=True)


class MutantFinder(importlib.abc.MetaPathFinder):
    """Finds one module with another text, and leaves all others to those that follow."""

    def __init__(self, loader: MutantLoader) -> None:
        self.loader = loader

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != self.loader.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.loader.path, loader=self.loader)


def modules() -> list[str]:
    """Name the modules that are looked at: all that are neither a package's door, the starter nor the commands."""
    found = [one.name for one in pkgutil.walk_packages(clipdiy.__path__, "clipdiy.") if not one.ispkg]
    return [name for name in found if name.split(".")[1] not in ("starter", "cli", "__main__")]


def file_of(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


def tests_of(module: str) -> list[Path]:
    """Find the tests beside a module by name, or else those that import it, or else those of the modules that do."""
    *room, name = module.split(".")[1:]
    beside = TESTS.joinpath(*room, f"test_{name}.py")
    if beside.exists():
        return [beside]
    imports = (f"from {module} import ", f"from {module.rpartition('.')[0]} import {name}\n")
    for folder in (TESTS.joinpath(*room), TESTS):
        found = [path for path in sorted(folder.rglob("test_*.py")) if any(i in path.read_text() for i in imports)]
        if found:
            return found
    users = [one for one in modules() if any(i in file_of(one).read_text() for i in imports)]
    return sorted({path for one in users for path in tests_of(one)})


def mutants(text: str) -> list[tuple[str, int]]:
    """List the faults that a text can have: an operator, and the how manieth of its places."""
    tree = get_ast(text)
    return [
        (name, number)
        for name in sorted(operator_names())
        if not any(part in name for part in LEFT_OUT)
        for operator in [get_operator(name)()]
        for number, _ in enumerate(place for node in ast_nodes(tree) for place in operator.mutation_positions(node))
    ]


def run_tests(module: str, text: str, tests: Sequence[Path]) -> int:
    """Run tests in a process of its own in which the module has this text; 0 where all pass."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = _run_tests_here(module, text, tests)
        finally:
            os._exit(code)
    end = time.monotonic() + WALL_S
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 1


def _run_tests_here(module: str, text: str, tests: Sequence[Path]) -> int:
    os.setsid()  # what a test starts ends with it
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    begun_with = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (begun_with + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S,) * 2)
    for name in [name for name in sys.modules if name.split(".")[0] in ("clipdiy", "backend")]:
        del sys.modules[name]
    sys.meta_path.insert(0, MutantFinder(MutantLoader(module, file_of(module), text)))
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # most of the time would be theirs
    plugins = ["-p", "pytest_timeout", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main(["-x", "-q", *plugins, *map(str, tests)]))


def score(module: str, count: int, seconds: float, seed: int, tests: Sequence[Path]) -> tuple[int, int]:
    """Draw faults for a module and print those that no test sees.

    Returns:
        How many were seen, and how many there were.
    """
    text = file_of(module).read_text()
    possible = mutants(text)
    if not possible:
        print(f"{module}: nothing to break", flush=True)
        return 0, 0
    begun = time.monotonic()
    if not tests or run_tests(module, text, tests) != 0:
        print(f"{module}: left out, no tests that pass: {[path.name for path in tests]}", flush=True)
        return 0, 0
    baseline_s = time.monotonic() - begun
    seen = drawn = 0
    for name, number in random.Random(seed).sample(possible, len(possible)):
        mutant = mutate_code(text, get_operator(name)(), number)
        if mutant is None or mutant == text:
            continue
        with contextlib.suppress(SyntaxError):
            compile(mutant, module, "exec")
            drawn += 1
            if run_tests(module, mutant, tests) != 0:
                seen += 1
            else:
                pairs = enumerate(zip(mutant.splitlines(), text.splitlines(), strict=False), 1)
                line, changed = next((i, new.strip()) for i, (new, old) in pairs if new != old)
                print(f"  survives: {file_of(module).relative_to(ROOT)}:{line} {changed}", flush=True)
        if drawn == count or time.monotonic() - begun > seconds:
            break
    took = time.monotonic() - begun
    print(f"{module}: {seen} of {drawn} ({len(possible)} possible; {baseline_s:.1f} s, {took:.0f} s)", flush=True)
    return seen, drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--mutants", type=int, default=8, help="how many for each module")
    parser.add_argument("--seconds", type=float, default=120, help="no further one is begun for a module after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tests", type=Path, nargs="+", help="instead of those that are found")
    options = parser.parse_args()
    os.chdir(ROOT)
    torch.set_num_threads(1)  # threads do not survive a fork
    names = options.modules or modules()
    for one in names:
        importlib.import_module(one)  # so that each process finds all that is heavy already there
    scores = [
        score(one, options.mutants, options.seconds, options.seed, options.tests or tests_of(one))
        for one in options.modules or modules()
    ]
    seen, drawn = (sum(column) for column in zip(*scores, strict=True))
    print(f"{seen} of {drawn} seen, {sum(n > 0 for _, n in scores)} modules")


if __name__ == "__main__":
    main()
