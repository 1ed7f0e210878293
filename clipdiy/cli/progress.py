"""How far a long run is: a bar with rate and time left on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

LINE_EVERY_S = 10.0


class RateColumn(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        """Return it, empty as long as it is not known."""
        return Text("" if task.speed is None else show_rate(task.speed))


class Progress:
    """Says how far a run is. Use it as a context; any thread may update it.

    On a terminal it is a bar that goes away at the end, and lines printed meanwhile appear above it. Elsewhere it is a
    plain line every few seconds: the first number that is done, how many there are, the rate, the time left.
    """

    def __init__(
        self,
        tell: Console,
        what: str,
        *,
        total: int | None,
        lines: bool = True,
        note: str = "",
        every_s: float = LINE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show nothing yet.

        Args:
            tell: Where it is shown.
            what: What is done, one word: `segmenting`.
            total: How many there are, if that is known.
            lines: Whether lines are written where there is no terminal.
            note: What stands at the end, if anything will.
            every_s: Least time between two lines.
            clock: Seconds that only go up.
        """
        self._tell = tell
        self._what = what
        self._note = note
        self._lines = lines and not tell.is_terminal
        self._every_s = every_s
        self._clock = clock
        self._done, self._total = 0, total
        self._begun = self._told = clock()
        self._bar = Bar(
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=tell,
            transient=True,
            # On a terminal, lines are printed above the bar. What goes to a file or a pipe must not be redirected.
            redirect_stdout=sys.stdout.isatty(),
            disable=not tell.is_terminal or total == 1,
        )
        self._task = self._bar.add_task(what, total=total, note=note)

    def __enter__(self) -> Self:
        """Begin to show it."""
        self._bar.start()
        self._begun = self._told = self._clock()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Take the bar away."""
        self._bar.stop()

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """Say how many are done, of how many if that has changed, and what stands at the end."""
        self._done, self._total = done, self._total if total is None else total
        self._note = note or self._note
        self._bar.update(self._task, completed=done, total=self._total, note=self._note)
        if self._lines and self._clock() - self._told >= self._every_s:
            self._told = self._clock()
            self._tell.print(self.line(), soft_wrap=True, markup=False)

    def advance(self) -> None:
        """One more is done."""
        self.update(self._done + 1)

    def line(self) -> str:
        """Return how far it is as plain text."""
        elapsed = self._clock() - self._begun
        parts = [f"{self._done:,}" if self._total is None else f"{self._done:,} of {self._total:,}"]
        if self._done and elapsed > 0:
            rate = self._done / elapsed
            parts.append(show_rate(rate))
            if self._total is not None and self._total > self._done:
                parts.append(f"about {show_seconds((self._total - self._done) / rate)} left")
        if self._note:
            parts.append(self._note)
        return f"{self._what}: {', '.join(parts)}"


def show_rate(per_s: float) -> str:
    """Return a rate as people read it: 12/s, 1.3/s, 7.1/min."""
    if per_s >= 10:
        return f"{per_s:,.0f}/s"
    return f"{per_s:.1f}/s" if per_s >= 0.5 else f"{60 * per_s:.1f}/min"


def show_seconds(seconds: float) -> str:
    """Return a time as people read it: 45 s, 12 min, 2 h 05 min, 3 d 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"
