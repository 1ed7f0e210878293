"""Who is let in, in which order, and that whoever leaves makes room."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.pixel_budget import PixelBudget

NEVER = Deadline.never()
NOW = Deadline.after(0)


def is_full(budget: PixelBudget, px: int) -> bool:
    try:
        with budget.hold(px, NOW):
            return False
    except TaskError as err:
        return err.reason == "deadline"


def test_as_many_as_there_is_room_for() -> None:
    budget = PixelBudget(10)
    with budget.hold(4, NEVER), budget.hold(5, NEVER):
        assert not is_full(budget, 1)
        assert is_full(budget, 2)
    assert not is_full(budget, 10)


def test_what_is_larger_than_all_is_let_in_alone() -> None:
    budget = PixelBudget(10)
    with budget.hold(1, NEVER):
        assert is_full(budget, 11)
    with budget.hold(11, NEVER):
        assert is_full(budget, 1)
    assert not is_full(budget, 1)


def test_room_is_given_back_after_an_error() -> None:
    budget = PixelBudget(10)
    with pytest.raises(ZeroDivisionError), budget.hold(10, NEVER):
        _ = 1 / 0
    assert not is_full(budget, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "other large pictures were being worked on until the deadline"),
        ({"remedy": "buy more"}, "other large pictures were being worked on until the deadline: buy more"),
    ],
    ids=["", "with a remedy"],
)
def test_what_a_person_can_do_is_said(options: dict[str, str], message: str) -> None:
    budget = PixelBudget(10, **options)
    with budget.hold(10, Deadline.never()), pytest.raises(TaskError) as caught, budget.hold(1, Deadline.after(0)):
        pass
    assert str(caught.value) == message


def begin(pool: ThreadPoolExecutor, budget: PixelBudget, px: int, entered: list[int]) -> "Future[None]":
    """Ask for room in a thread; return when it waits or has been let in."""

    def job() -> None:
        with budget.hold(px, NEVER):
            entered.append(px)

    asked = len(budget._waiting)
    future = pool.submit(job)
    while not future.done() and len(budget._waiting) == asked:
        threading.Event().wait(0.001)
    return future


def test_a_large_one_is_not_overtaken() -> None:
    budget = PixelBudget(10)
    entered: list[int] = []
    with ThreadPoolExecutor(3) as pool:
        with budget.hold(6, NEVER):
            large = begin(pool, budget, 8, entered)
            small = begin(pool, budget, 2, entered)
            assert entered == [], "there is room for 2, but 8 came first"
            assert is_full(budget, 1)
        large.result(10)
        small.result(10)
    assert entered == [8, 2]


def test_whoever_gives_up_no_longer_stands_in_the_way() -> None:
    budget = PixelBudget(10)
    entered: list[int] = []
    with ThreadPoolExecutor(2) as pool, budget.hold(6, NEVER):
        assert is_full(budget, 8)
        begin(pool, budget, 2, entered).result(10)
    assert entered == [2]


def test_never_more_than_the_budget() -> None:
    budget = PixelBudget(10)
    lock = threading.Lock()
    held = [0]
    most = [0]

    def job(px: int) -> None:
        with budget.hold(px, NEVER):
            with lock:
                held[0] += px
                most[0] = max(most[0], held[0])
            with lock:
                held[0] -= px

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(job, [1 + i % 7 for i in range(2000)]))
    assert 0 < most[0] <= 10
    assert not is_full(budget, 10)
