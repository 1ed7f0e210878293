"""A round that somebody disturbed does not count as one alone."""

from types import SimpleNamespace

from benchmarks import busy


def test_disturbed_rounds_are_tried_again_until_patience_ends(monkeypatch):
    """By a clock of one second a look. Of six encodings the machine computed 2, 1, 1, 2, 2 and 2 seconds."""
    now, total = [0.0], [0.0]
    machine = iter([2.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    seconds = iter([9.0, 1.0, 1.1, 9.1, 9.2, 9.3])

    def ask(process):
        now[0] += 1
        total[0] += next(machine)
        return next(seconds), "abc"

    monkeypatch.setattr(busy, "ask", ask)
    monkeypatch.setattr(busy, "busy_s", lambda: total[0])
    monkeypatch.setattr(busy, "own_s", lambda pid: now[0])
    monkeypatch.setattr(busy, "time", SimpleNamespace(perf_counter=lambda: now[0], sleep=lambda s: None))
    children = {"way": SimpleNamespace(pid=1)}
    taken = {"way": []}
    assert busy.in_turns(children, taken, 2, others=0.15, patience=1) == {("way", "abc")}
    assert taken == {"way": [1.0, 1.1]}
    busy.in_turns(children, taken, 1, others=0.15, patience=1)
    assert taken == {"way": [1.0, 1.1, 9.3]}, "given up"


def test_nobody_is_always_first(monkeypatch):
    asked = []
    monkeypatch.setattr(busy, "ask", lambda process: (float(len(asked)), asked.append(process.pid)))
    monkeypatch.setattr(busy, "own_s", lambda pid: 0.0)
    taken = {"a": [], "b": [], "c": []}
    busy.in_turns({name: SimpleNamespace(pid=name) for name in taken}, taken, 3)
    assert "".join(asked) == "abcbcacab"
    assert taken == {"a": [0.0, 5.0, 7.0], "b": [1.0, 3.0, 8.0], "c": [2.0, 4.0, 6.0]}


def test_rounds_are_compared_one_by_one():
    """A machine that slows down makes nobody slower than the others."""
    assert busy.gain([1.0, 2.0, 30.0], [2.0, 4.0, 60.0]) == 0.5
    assert busy.gain([1.0, 1.0, 9.0], [1.0, 0.5, 3.0]) == 2.0


def test_ways_differ_in_what_openmp_reads():
    ways = busy.ways(4)
    assert ways["as it comes"] == {}
    assert ways["PASSIVE"] == {"OMP_WAIT_POLICY": "PASSIVE"}
    assert ways["a thread fewer"] == {"OMP_NUM_THREADS": "3"}
    assert busy.ways(1)["a thread fewer"] == {"OMP_NUM_THREADS": "1"}
    assert {name for variables in ways.values() for name in variables} <= set(busy.OPENMP)
