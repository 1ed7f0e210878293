"""What was counted, as a person reads it; also where several processes count."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend.metrics import Metrics
from backend.web.page.figures import Figures, Process, StageTime, read_figures

ROOT = Path(__file__).parents[5]


def figures(metrics):
    return read_figures(metrics.collect())


def test_nothing_yet():
    assert figures(Metrics()) == Figures(0, (), 0, 0, 0, 0.0, (), 0, 0, ())
    assert figures(Metrics()).hit_rate is None
    assert figures(Metrics()).remaining_s is None


def counted():
    metrics = Metrics()
    for outcome, count in {"predicted": 7, "not-found": 1, "download": 2, "timeout": 1, "deadline": 4}.items():
        metrics.tasks.labels(outcome).inc(count)
    metrics.tasks_waiting.inc(30)
    metrics.tasks_per_second.inc(1.5)
    metrics.requests_running.inc(2)
    for seconds in (0.1, 0.3):
        metrics.stage_seconds.labels("encode").observe(seconds)
    metrics.stage_seconds.labels("load").observe(0.5)
    for outcome, count in {"miss": 2, "hit": 5, "not-downloaded": 1}.items():
        metrics.cache.labels(outcome).inc(count)
    metrics.info.labels("starter", "cuda:0", "abc").set(1)
    return metrics


def test_everything():
    found = figures(counted())
    assert found == Figures(
        predicted=7,
        failed=(("download", 2), ("not-found", 1), ("timeout", 1)),
        left=4,
        waiting=30,
        requests=2,
        per_second=1.5,
        stages=(StageTime("load", 1, 0.5), StageTime("encode", 2, pytest.approx(0.2))),
        looked_up=8,
        known=6,
        processes=(Process("starter", "cuda:0"),),
    )
    assert (found.failed_in_all, found.hit_rate, found.remaining_s) == (4, 0.75, 20.0)


def test_what_is_left_of_sums_of_differences_is_no_speed():
    metrics = Metrics()
    for change in (0.1, 0.2, -0.3):
        metrics.tasks_per_second.inc(change)
    metrics.tasks_waiting.inc(3)
    assert figures(metrics).per_second == 0
    assert figures(metrics).remaining_s is None


ONE_PROCESS = """
import sys
from backend.metrics import Metrics
metrics = Metrics()
metrics.tasks.labels("predicted").inc(int(sys.argv[1]))
metrics.tasks_waiting.inc(10)
metrics.tasks_per_second.inc(2)
metrics.info.labels("starter", f"cuda:{sys.argv[1]}", "abc").set(1)
print("counted", flush=True)
sys.stdin.read()
"""
READER = """
import json
from dataclasses import asdict
from backend.metrics import Metrics
from backend.web.page.figures import read_figures
print(json.dumps(asdict(read_figures(Metrics().collect(several_processes=True)))))
"""


def test_several_processes_together(tmp_path):
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    counting = [subprocess.Popen([sys.executable, "-c", ONE_PROCESS, number], **pipes) for number in ("3", "4")]
    try:
        for process in counting:
            assert process.stdout.readline() == "counted\n"
        read = subprocess.run(
            [sys.executable, "-c", READER], env=environment, capture_output=True, text=True, check=True
        )
    finally:
        for process in counting:
            process.communicate("")
    found = json.loads(read.stdout)
    assert (found["predicted"], found["waiting"], found["per_second"]) == (7, 20, 4)
    assert sorted(process["device"] for process in found["processes"]) == ["cuda:3", "cuda:4"]
