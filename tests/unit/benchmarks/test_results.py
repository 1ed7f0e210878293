"""What `benchmarks/RESULTS.md` prints: no figure outside its own interval."""

import re
from pathlib import Path

RESULTS = Path(__file__).parents[3] / "benchmarks" / "RESULTS.md"
NUMBER = r"[-+]?\d+(?:\.\d+)?"


def test_no_figure_lies_outside_its_own_interval():
    found = re.findall(rf"({NUMBER}) \(({NUMBER}) to ({NUMBER})\)", RESULTS.read_text(encoding="utf-8"))
    assert len(found) > 100
    outside = [shown for shown in found if not float(shown[1]) <= float(shown[0]) <= float(shown[2])]
    assert outside == []
