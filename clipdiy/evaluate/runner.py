"""Many pictures, one after the other or several at once, with the same result; can be stopped and continued."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing.queues import Queue
from pathlib import Path

import torch

from clipdiy.errors import ClipDiyError
from clipdiy.evaluate.datasets import open_dataset
from clipdiy.evaluate.evaluator import Evaluator, Plan
from clipdiy.evaluate.record import Record, RecordFile
from clipdiy.evaluate.tally import Tally, Worst

AHEAD = 3  # pictures handed to each process before the first of them is done


class WorkerError(ClipDiyError):
    """A process of an evaluation ended on its own, most likely for lack of memory. Use fewer, and `--resume`."""


@dataclass(frozen=True)
class Job:
    """How a plan is carried out; nothing here changes a result.

    Attributes:
        dataset: The data set as a person wrote it, so that another process can open it.
        scratch: Where scenes lie.
        limit: Evaluate only the first so many pictures.
        workers: How many processes; 1 means this one. On the CPU each computes on one thread, whatever their number:
            sums come out the same to the last bit. With CUDA they take the GPUs in turn.
        records: File of records.
        resume: Whether to go on with it.
        worst: How many of the worst pictures of the first variant to remember.
    """

    dataset: str
    scratch: Path
    records: Path
    limit: int | None = None
    workers: int = 1
    resume: bool = False
    worst: int = 0


@dataclass(frozen=True)
class Finished:
    """What an evaluation came to.

    Attributes:
        tallies: By the variant's key, in the order of the plan.
        worst: Names of the pictures with the lowest IoU under the first variant, lowest first.
        count: How many pictures there were.
    """

    tallies: dict[str, Tally]
    worst: tuple[str, ...]
    count: int


def run(
    evaluator: Evaluator,
    job: Job,
    report: Callable[[int, int, float], None] | None = None,
) -> Finished:
    """Evaluate every picture of the data set, in order, and pool the counts.

    Memory does not grow with the number of pictures, apart from their names.

    Args:
        evaluator: Loaded weights and data set. With several processes each loads its own.
        job: How.
        report: Called with the pictures done, all pictures, and the running mIoU of the first variant in [0, 1].

    Raises:
        ConfigError: If the records to continue are of something else.
        DatasetError, ImageError: If a picture cannot be used. What was done is kept.
        WorkerError: If a process died.
    """
    image_ids = evaluator.dataset.image_ids[: job.limit]
    classes = evaluator.classes
    first = evaluator.plan.variants[0].key
    absent_counts = evaluator.plan.protocol.absent_counts
    tallies = {
        variant.key: Tally(classes, len(image_ids), absent_counts=absent_counts) for variant in evaluator.plan.variants
    }
    worst = Worst(job.worst)
    done = 0

    def take(record: Record) -> None:
        nonlocal done
        for key, outcome in record.outcomes.items():
            tallies[key].add(outcome)
        worst.add(record.image_id, record.outcomes[first].confusion)
        done += 1
        if report is not None:
            report(done, len(image_ids), tallies[first].quality.miou)

    file = RecordFile(job.records, evaluator.identity, image_ids, classes)
    for record in file.start(resume=job.resume):
        take(record)
    with job.records.open("a", encoding="utf-8", newline="\n") as lines:
        for record in _records(evaluator, job, image_ids[done:]):
            lines.write(record.to_line())
            lines.flush()
            take(record)
    return Finished(tallies, worst.image_ids, done)


def _records(evaluator: Evaluator, job: Job, image_ids: Sequence[str]) -> Iterator[Record]:
    if not image_ids:
        return
    if job.workers == 1:
        with one_thread():
            yield from map(evaluator.evaluate, image_ids)
        return
    # Spawned, not forked: a fork inherits locks of torch's threads.
    context = multiprocessing.get_context("spawn")
    numbers: Queue[int] = context.Queue()
    for number in range(job.workers):
        numbers.put(number)
    pool = ProcessPoolExecutor(
        job.workers, context, initializer=_start_worker, initargs=(evaluator.plan, job.dataset, job.scratch, numbers)
    )
    try:
        with pool:
            waiting: deque[Future[Record]] = deque()
            rest = iter(image_ids)
            try:
                for image_id in islice(rest, AHEAD * job.workers):
                    waiting.append(pool.submit(_evaluate, image_id))
                while waiting:  # in order, however they finish
                    yield waiting.popleft().result()
                    for image_id in islice(rest, 1):
                        waiting.append(pool.submit(_evaluate, image_id))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    except BrokenProcessPool as err:
        raise WorkerError(
            f"one of {job.workers} processes ended on its own, most likely for lack of memory: use fewer --workers, "
            "and go on with --resume"
        ) from err


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Worker:
    """What a process keeps between pictures; the pool offers no other place for it."""

    evaluator: Evaluator


def _start_worker(plan: Plan, dataset: str, scratch: Path, numbers: "Queue[int]") -> None:
    torch.set_num_threads(1)
    device = worker_device(plan.config.device, numbers.get(), torch.cuda.device_count())
    plan = replace(plan, config=replace(plan.config, device=device))
    _Worker.evaluator = Evaluator(plan, open_dataset(dataset, scratch, plan.protocol))


def worker_device(name: str, number: int, gpus: int) -> str:
    """Return the device of the process with this number: the GPUs in turn, unless one is named or none is there."""
    return f"cuda:{number % gpus}" if gpus and name in ("auto", "cuda") else name


def _evaluate(image_id: str) -> Record:
    return _Worker.evaluator.evaluate(image_id)
