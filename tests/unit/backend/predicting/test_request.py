"""One request against its deadline, by a clock that a test sets, with stages that take as long as they are told."""

import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import sleep

import pytest
from clocks import Simulation

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.metrics import Metrics
from backend.predicting.failures import Failures
from backend.predicting.request import FAILURES_SHOWN, Request, Window, reason_of, wait_for
from clipdiy.errors import FeaturesError

WIDE = Window(unfinished=100, finishing=100)


@dataclass
class Plan:
    """What a task does: seconds (or an error) for each stage."""

    load: object = 1.0
    queued: bool = False
    in_networks: bool = False
    words: tuple = ()
    encode: tuple = (1.0,)
    finish: object = 1.0


@dataclass
class Stages:
    """One after the other in the networks, everything else at the same time."""

    time: Simulation
    plans: list
    begun: list = field(default_factory=list)
    running: dict = field(default_factory=lambda: {"unfinished": set(), "finishing": set()})
    most: dict = field(default_factory=lambda: {"unfinished": 0, "finishing": 0})
    networks_free_at: float = 0.0
    features_given: dict = field(default_factory=dict)

    def _future(self, stage, i, seconds, result):
        self.begun.append((stage, i))
        plan = self.plans[i]
        begun = (stage == "load" and not plan.queued) or (stage == "encode" and plan.in_networks)
        if isinstance(seconds, Exception):
            return self.time.after(0.5, error=seconds, name=(stage, i), begun=begun)
        return self.time.after(seconds, result, name=(stage, i), begun=begun)

    def _enter(self, kind, i):
        self.running[kind].add(i)
        self.most[kind] = max(self.most[kind], len(self.running[kind]))

    def load(self, task):
        i = task["id"]
        plan = self.plans[i]
        if callable(plan.load):
            plan.load()
        self._enter("unfinished", i)
        return self._future("load", i, plan.load, {("image", page): (i, page) for page in range(len(plan.encode))})

    def words(self, task):
        return [self._future("words", task["id"], seconds, None) for seconds in self.plans[task["id"]].words]

    def encode(self, picture):
        i, page = picture
        seconds = self.plans[i].encode[page]
        if isinstance(seconds, Exception) or seconds == 0:
            return self._future("encode", i, seconds, f"features {i}.{page}")
        begin = max(self.time.clock.now, self.networks_free_at)
        self.networks_free_at = begin + seconds
        return self._future("encode", i, self.networks_free_at - self.time.clock.now, f"features {i}.{page}")

    def finish(self, task, features):
        i = task["id"]
        self.features_given[i] = features
        self.running["unfinished"].discard(i)
        self._enter("finishing", i)

        def done():
            self.running["finishing"].discard(i)
            return f"answer {i}"

        return self._future("finish", i, self.plans[i].finish, done)


@pytest.fixture
def time():
    return Simulation()


class Run:
    def __init__(self, time, plans, deadline_s=1000.0, window=WIDE, **options):
        self.time = time
        self.metrics = Metrics()
        self.stages = Stages(time, plans)
        tasks = [{"id": i} for i in range(len(plans))]
        deadline = Deadline.after(deadline_s, time.clock)
        self.request = Request(
            tasks, self.stages, deadline, window, self.metrics, waiting=time.wait, project="7", **options
        )
        self.outcome = None

    def __call__(self):
        self.outcome = self.request.run()
        return self.outcome.answers

    def counted(self, name):
        return self.metrics.registry.get_sample_value("clipdiy_tasks_total", {"outcome": name}) or 0

    @property
    def waiting(self):
        return self.metrics.registry.get_sample_value("clipdiy_tasks_waiting")


def test_every_task_gets_its_answer_in_its_place(time):
    run = Run(time, [Plan(finish=3.0), Plan(finish=1.0), Plan(load=5.0)])
    assert run() == ["answer 0", "answer 1", "answer 2"]
    assert run.outcome.put_off == ()
    assert run.counted("predicted") == 3
    assert run.counted("deadline") == 0
    assert run.waiting == 0
    assert run.stages.features_given[0] == {("image", 0): "features 0.0"}


def test_no_tasks_need_no_time(time, caplog):
    with caplog.at_level(logging.INFO):
        assert Run(time, [])() == []
    assert time.waits == []
    assert caplog.messages == ["project 7: finished, 0 of 0 tasks done, 0 failed, 0 open, 0.0 s (0.0 images/s)"]


def test_done_failed_and_left_are_counted_apart(time, caplog):
    failing = Plan(load=TaskError("not-found", "no"))
    told = []
    run = Run(
        time,
        [Plan(load=0.1, encode=(0.1,), finish=0.1)] * 3 + [failing] * 2 + [Plan(load=9.0)] * 3,
        deadline_s=1,
        on_failure=lambda *failure: told.append(failure),
    )
    with caplog.at_level(logging.INFO):
        run()
    assert (run.counted("predicted"), run.counted("not-found"), run.counted("deadline")) == (3, 2, 3)
    assert run.waiting == 0
    assert run.outcome.left == (5, 6, 7)
    assert told == [(3, "not-found", "no"), (4, "not-found", "no")]
    assert "project 7: finished, 3 of 8 tasks done, 2 failed, 3 open, 1.0 s (5.0 images/s)" in caplog.text


def test_how_fast_it_is_can_be_seen_while_it_runs(time):
    seen = {}
    plans = [Plan(load=1.0, encode=(1.0,), finish=0), Plan(load=TaskError("not-found", "no")), Plan(load=9.0)]
    run = Run(time, plans)
    run.metrics.tasks_per_second.inc(100)  # those of other requests
    wait = run.request._wait

    def watched(futures, timeout_s):
        seen[time.elapsed] = run.metrics.registry.get_sample_value("clipdiy_tasks_per_second") - 100
        wait(futures, timeout_s)

    run.request._wait = watched
    run()
    assert (seen[0], seen[0.5], seen[2.0]) == pytest.approx((0, 1 / 0.5, 2 / 2.0))
    assert run.metrics.registry.get_sample_value("clipdiy_tasks_per_second") == pytest.approx(100), "it has ended"


def test_what_failed_is_kept_and_what_is_done_is_no_failure_any_more(time, tmp_path):
    failures = Failures(tmp_path)
    failures.note("7", done=[], failed=[(0, "download", "before"), (9, "download", "before")])
    gone, broken = Plan(load=TaskError("not-found", "it is gone")), Plan(encode=(KeyError("secret"),))
    run = Run(time, [Plan(), gone, broken, Plan(load=99.0)], deadline_s=20, failures=failures)
    run()
    assert {(one.project, one.task, one.reason, one.message) for one in failures.recent(9)} == {
        ("7", "9", "download", "before"),
        ("7", "1", "not-found", "it is gone"),
        ("7", "2", "inference", "unexpected KeyError"),
    }


def test_stages_of_different_tasks_overlap(time):
    """Three pictures: downloads at the same time, networks one after the other, the last finish alone at the end."""
    Run(time, [Plan()] * 3)()
    assert time.elapsed == 1 + 3 + 1


def test_tasks_wait_for_all_of_their_pictures_and_words(time):
    run = Run(time, [Plan(encode=(1.0, 2.0), words=(7.0, 4.0), finish=0.5)])
    assert run() == ["answer 0"]
    assert time.elapsed == 1 + 7 + 0.5
    assert run.stages.features_given[0] == {("image", 0): "features 0.0", ("image", 1): "features 0.1"}


def test_what_is_known_is_not_waited_for(time):
    run = Run(time, [Plan(load=0, encode=(0,), finish=0), Plan(load=0, encode=(0,), finish=2.0)])
    assert run() == ["answer 0", "answer 1"]
    assert time.elapsed == 2.0


def test_the_answer_comes_at_the_deadline_with_what_is_done(time, caplog):
    plans = [Plan(), Plan(), Plan(encode=(50.0,)), Plan(load=90.0), Plan(load=90.0, queued=True)]
    plans.append(Plan(encode=(50.0,), in_networks=True))
    run = Run(time, plans, deadline_s=10)
    with caplog.at_level(logging.INFO):
        assert run() == ["answer 0", "answer 1", [], [], [], []]
    assert time.elapsed == 10
    assert run.counted("predicted") == 2
    assert run.counted("deadline") == 4
    assert run.waiting == 0
    assert run.outcome.left == (2, 3, 4, 5)
    assert run.outcome.put_off == (3,), "who hangs goes last, who waits for its turn does not"
    assert "project 7: 4 of 6 tasks are left for the next request, the deadline of 10 s has come" in caplog.text
    assert "project 7: finished, 2 of 6 tasks done, 0 failed, 4 open, 10.0 s (0.2 images/s)" in caplog.text
    time.let_the_rest_happen()
    assert set(time.cancelled) == {("encode", 2), ("load", 4)}, "nobody waits for them any more"


def test_what_is_made_into_an_answer_at_the_deadline_is_let_go(time):
    run = Run(time, [Plan(finish=50.0)], deadline_s=10)
    assert run() == [[]]
    assert run.outcome.put_off == ()
    assert run.outcome.left == (0,)
    time.let_the_rest_happen()
    assert time.cancelled == [("finish", 0)]


def test_what_is_done_in_the_last_moment_is_answered(time):
    run = Run(time, [Plan(load=1.0, encode=(1.0,), finish=8.0)], deadline_s=10)
    assert run() == ["answer 0"]
    assert time.elapsed == 10
    assert run.counted("deadline") == 0


def test_nothing_begins_after_the_deadline(time):
    run = Run(time, [Plan()], deadline_s=0)
    assert run() == [[]]
    assert run.stages.begun == []
    assert run.counted("deadline") == 1
    assert run.outcome.put_off == ()


def test_a_task_whose_own_download_met_the_deadline_is_left_and_not_failed(time, caplog):
    late = TaskError("deadline", "still on its way")
    run = Run(time, [Plan(load=late), Plan()], deadline_s=100)
    with caplog.at_level(logging.WARNING):
        assert run() == [[], "answer 1"]
    assert run.outcome.put_off == (0,)
    assert run.outcome.left == (0,)
    assert run.counted("deadline") == 1
    assert run.waiting == 0
    assert "still on its way" not in caplog.text


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan(load=TaskError("not-found", "it is not there")), id="load"),
        pytest.param(Plan(encode=(1.0, TaskError("not-found", "it is not there"))), id="encode"),
        pytest.param(Plan(words=(1.0, TaskError("not-found", "it is not there"))), id="words"),
        pytest.param(Plan(finish=TaskError("not-found", "it is not there")), id="finish"),
    ],
)
def test_a_failure_in_any_stage_costs_its_task_only(time, caplog, plan):
    run = Run(time, [Plan(), plan, Plan()])
    with caplog.at_level(logging.WARNING):
        assert run() == ["answer 0", [], "answer 2"]
    assert run.outcome.put_off == (1,)
    assert run.counted("not-found") == 1
    assert run.counted("deadline") == 0
    assert run.counted("predicted") == 2
    assert run.waiting == 0
    assert "project 7, task 1: not-found: it is not there" in caplog.text


def test_a_stage_that_refuses_at_once_costs_its_task_only(time, caplog):
    def refuse():
        raise RuntimeError("secret path /root/x")

    run = Run(time, [Plan(load=refuse), Plan()])
    with caplog.at_level(logging.INFO):
        assert run() == [[], "answer 1"]
    assert run.counted("inference") == 1
    assert "secret" not in caplog.text
    assert "task 0: inference: unexpected RuntimeError" in caplog.text


def test_unexpected_errors_show_their_place_where_it_is_asked_for(time, caplog):
    with caplog.at_level(logging.DEBUG):
        Run(time, [Plan(load=RuntimeError("why")), Plan(load=TaskError("timeout", "slow"))])()
    shown = [record for record in caplog.records if record.exc_info]
    assert [record.getMessage() for record in shown] == ["task 0"]


def test_many_failures_are_counted_and_not_all_written_down(time, caplog):
    broken = [Plan(load=TaskError("timeout" if i % 4 else "not-found", f"no {i}")) for i in range(FAILURES_SHOWN + 4)]
    with caplog.at_level(logging.WARNING):
        Run(time, broken)()
    assert sum(": no " in record.getMessage() for record in caplog.records) == FAILURES_SHOWN
    assert caplog.records[-1].getMessage() == "project 7: 24 tasks failed in all: 18 timeout, 6 not-found"


def test_as_many_failures_as_are_shown_are_not_counted_once_more(time, caplog):
    with caplog.at_level(logging.WARNING):
        Run(time, [Plan(load=TaskError("timeout", "x"))] * FAILURES_SHOWN)()
    assert len(caplog.records) == FAILURES_SHOWN


@pytest.mark.parametrize(
    ("plan", "unfinished", "finishing"),
    [
        pytest.param(Plan(encode=(3.0,)), 4, 1, id="slow networks"),
        pytest.param(Plan(load=0.5, encode=(0.5,), finish=40.0), 4, 6, id="slow finish"),
        pytest.param(Plan(load=0, encode=(0,), finish=1.0), 0, 6, id="known pictures"),
    ],
)
def test_only_a_window_of_tasks_is_under_way(time, plan, unfinished, finishing):
    run = Run(time, [plan] * 40, window=Window(unfinished=4, finishing=6))
    assert len(set(run())) == 40
    most = run.stages.most
    if unfinished:
        assert most["unfinished"] == unfinished
    # Tasks under way when the last stage fills up still come to it.
    assert finishing <= most["finishing"] <= finishing + unfinished


def test_room_in_the_window_is_used_at_once(time):
    """While three are finished for long, four others are brought and encoded."""
    slow = Plan(load=0.5, encode=(0,), finish=60.0)
    run = Run(time, [slow] * 3 + [Plan(load=40.0)] * 5, window=Window(unfinished=4, finishing=6), deadline_s=20)
    run()
    assert [i for stage, i in run.stages.begun if stage == "load"] == list(range(7))


def test_tasks_begin_in_the_order_that_is_asked_for(time):
    run = Run(time, [Plan()] * 4, order=[2, 0, 3, 1], window=Window(1, 1))
    assert run() == [f"answer {i}" for i in range(4)]
    assert [i for stage, i in run.stages.begun if stage == "load"] == [2, 0, 3, 1]


def test_what_is_left_is_in_the_order_in_which_it_would_have_begun(time):
    run = Run(time, [Plan()] * 4, deadline_s=0, order=[2, 0, 3, 1])
    run()
    assert run.outcome.left == (2, 0, 3, 1)


def test_what_became_ready_meanwhile_is_taken_on_before_anything_is_waited_for(time):
    """A step that is done between two looks must not wait for the others' slow futures."""
    run = Run(time, [Plan(load=1.0), Plan(load=100.0)])
    begin = run.request._begin_tasks

    def begin_and_dawdle():
        begin()
        time.pass_by(1.0)

    run.request._begin_tasks = begin_and_dawdle
    run()
    assert (1.0, 0) in time.waits


def test_progress_is_said_every_five_seconds(time, caplog):
    with caplog.at_level(logging.INFO):
        Run(time, [Plan(load=3.0, encode=(1.0,), finish=0.5)] * 7)()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "project 7: 1 of 7 tasks done, 0 failed, 6 open, 5.0 s (0.2 images/s), about 30 s left",
        "project 7: 6 of 7 tasks done, 0 failed, 1 open, 10.0 s (0.6 images/s), about 2 s left",
        "project 7: finished, 7 of 7 tasks done, 0 failed, 0 open, 10.5 s (0.7 images/s)",
    ]


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        pytest.param(Plan(load=6.0), "0 of 1 tasks done, 0 failed, 1 open, 6.0 s (0.0 images/s)", id="nothing is done"),
        pytest.param(
            Plan(load=4.0, encode=(1.0,), finish=0),
            "1 of 1 tasks done, 0 failed, 0 open, 5.0 s (0.2 images/s)",
            id="all",
        ),
    ],
)
def test_how_long_it_takes_is_not_said_where_that_cannot_be(time, caplog, plan, said):
    with caplog.at_level(logging.INFO):
        Run(time, [plan])()
    assert caplog.messages[0] == f"project 7: {said}"


def test_a_request_that_is_broken_off_lets_go_of_everything(time):
    plans = [Plan(queued=True), Plan(load=9.0, queued=True), Plan(), Plan()]
    run = Run(time, plans, window=Window(2, 2))

    def interrupt(futures, timeout_s):
        raise KeyboardInterrupt

    run.request._wait = interrupt
    with pytest.raises(KeyboardInterrupt):
        run()
    assert run.waiting == 0
    time.let_the_rest_happen()
    assert set(time.cancelled) == {("load", 0), ("load", 1)}


def test_real_waiting_returns_with_the_first_that_is_done_and_at_the_time_limit():
    never, done = Future(), Future()
    done.set_result(1)
    wait_for([never, done], 60)
    wait_for([never], 0)
    wait_for([], 60)


def test_real_waiting_waits():
    future = Future()

    def end_it():
        for _ in range(10_000):
            if future._waiters:
                break
            sleep(0.001)
        future.set_result(1)

    ending = threading.Thread(target=end_it)
    ending.start()
    wait_for([future, Future()], 20)
    assert future.done()
    ending.join()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(TaskError("too-large", "5 GB"), ("too-large", "5 GB"), id="of a task"),
        pytest.param(FeaturesError("damaged"), ("inference", "damaged"), id="of the core"),
        pytest.param(ValueError("secret"), ("inference", "unexpected ValueError"), id="unexpected"),
    ],
)
def test_reasons_say_what_may_be_shown(error, reason):
    assert reason_of(error) == reason
