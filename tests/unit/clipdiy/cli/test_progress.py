"""What is said of a long run, on a terminal and in a log."""

import io

import pytest
from clocks import HandClock
from rich.console import Console

from clipdiy.cli.progress import Progress, show_rate, show_seconds


def log_and_progress(**options):
    file, clock = io.StringIO(), HandClock()
    tell = Console(file=file, width=60, highlight=False)
    return file, clock, Progress(tell, "predicting", clock=clock, **options)


def test_a_log_gets_a_line_now_and_then():
    file, clock, progress = log_and_progress(total=2000)
    with progress:
        for second in range(1, 31):
            clock.now += 1
            progress.update(20 * second, note="3 failed")
    assert file.getvalue().splitlines() == [
        "predicting: 200 of 2,000, 20/s, about 2 min left, 3 failed",
        "predicting: 400 of 2,000, 20/s, about 80 s left, 3 failed",
        "predicting: 600 of 2,000, 20/s, about 70 s left, 3 failed",
    ]


def test_lines_are_never_cut_or_coloured():
    file, clock, progress = log_and_progress(total=None, every_s=1)
    with progress:
        clock.now += 1
        progress.update(1, note="[red]" + "x" * 100)
    assert file.getvalue() == f"predicting: 1, 1.0/s, [red]{'x' * 100}\n"


def test_of_a_number_that_is_not_known_yet():
    file, clock, progress = log_and_progress(total=None, every_s=2)
    with progress:
        clock.now += 1
        progress.advance()
        clock.now += 1
        progress.advance()
        assert progress.line() == "predicting: 2, 1.0/s"
        progress.update(4, 8)
    assert progress.line() == "predicting: 4 of 8, 2.0/s, about 2 s left"
    assert file.getvalue() == "predicting: 2, 1.0/s\n"


def test_the_time_before_it_began_does_not_count():
    _, clock, progress = log_and_progress(total=10)
    clock.now += 100
    with progress:
        assert progress.line() == "predicting: 0 of 10"
        clock.now += 5
        progress.update(10)
        assert progress.line() == "predicting: 10 of 10, 2.0/s"


def test_without_lines_a_log_gets_nothing():
    file, clock, progress = log_and_progress(total=10, lines=False)
    with progress:
        clock.now += 100
        progress.update(5)
    assert file.getvalue() == ""


def test_on_a_terminal_there_is_a_bar_and_no_line():
    file = io.StringIO()
    tell = Console(file=file, width=120, highlight=False, force_terminal=True, color_system=None)
    clock = HandClock()
    with Progress(tell, "predicting", total=10, clock=clock, note="none failed") as progress:
        clock.now += 100
        progress.update(5)
        progress._bar.refresh()
    shown = file.getvalue()
    assert "5/10" in shown
    assert "none failed" in shown
    assert "predicting: 5 of 10" not in shown


@pytest.mark.parametrize(
    ("rate", "text"), [(1234.5, "1,234/s"), (12.4, "12/s"), (1.26, "1.3/s"), (0.118, "7.1/min"), (0.0, "0.0/min")]
)
def test_rates(rate, text):
    assert show_rate(rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (3600, "60 min"), (7500, "2 h 05 min"), (300_000, "3 d 11 h")],
)
def test_times(seconds, text):
    assert show_seconds(seconds) == text
