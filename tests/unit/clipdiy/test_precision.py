"""What `auto` chooses on a CPU. The measurement itself decides nothing here."""

import logging

import pytest
import torch
from torch import nn

from clipdiy import precision
from clipdiy.precision import bfloat16_gain, cpu_dtype

TOWER = nn.Sequential(nn.Linear(64, 128), nn.Linear(128, 64))


@pytest.mark.parametrize(("gain", "chosen"), [(2.0, torch.bfloat16), (1.2, torch.float32), (0.2, torch.float32)])
def test_only_where_it_gains(gain, chosen, monkeypatch, caplog):
    monkeypatch.setattr(precision, "LEAST_PARAMETERS", 1)
    monkeypatch.setattr(precision, "bfloat16_gain", lambda weight: gain)
    with caplog.at_level(logging.INFO):
        assert cpu_dtype(TOWER) is chosen
    assert f"{gain:.1f} times" in caplog.text


def test_small_towers_are_not_measured(monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_gain", lambda weight: pytest.fail("measured"))
    assert cpu_dtype(TOWER) is torch.float32


def test_the_largest_product_is_measured(monkeypatch):
    monkeypatch.setattr(precision, "LEAST_PARAMETERS", 1)
    seen = []
    monkeypatch.setattr(precision, "bfloat16_gain", lambda weight: seen.append(tuple(weight.shape)) or 1.0)
    cpu_dtype(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 32), nn.Conv2d(3, 64, 16)))
    assert seen == [(32, 8)]


def test_a_tower_without_a_product(monkeypatch):
    monkeypatch.setattr(precision, "LEAST_PARAMETERS", 1)
    assert cpu_dtype(nn.Conv2d(3, 4, 3)) is torch.float32


def test_the_gain_is_that_of_the_best_runs_without_the_first(monkeypatch):
    """By a clock that only products move: the first of each is slow, then one in three is disturbed."""
    now = 0.0
    runs = {torch.float32: 0, torch.bfloat16: 0}

    def product(left, right):
        nonlocal now
        assert left.dtype == right.dtype
        assert (left.shape, right.shape) == ((precision.ROWS, 16), (32, 16))
        runs[left.dtype] += 1
        usual = {torch.float32: 6.0, torch.bfloat16: 2.0}[left.dtype]
        now += 0.001 if runs[left.dtype] == 1 else usual + (50 if runs[left.dtype] % 3 == 0 else 0)

    monkeypatch.setattr(precision.F, "linear", product)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: now)
    assert bfloat16_gain(torch.randn(32, 16)) == pytest.approx(3.0)
    assert list(runs.values()) == [precision.REPEATS + 1] * 2
