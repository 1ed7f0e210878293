"""Work that nobody waits for yet: pictures that will be asked for are encoded while nobody asks for anything.

What a request could not reach before its deadline, and what has just been imported. Nothing new is begun while a
request or a gesture is being answered; what has begun then is behind them in the networks, and moves to the front if
they turn out to need it. Nothing is written down: after a restart there is nothing left to do, and nothing is lost.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from backend.deadline import Deadline
from backend.images.asking import Asker
from backend.images.host import LabelStudioHost

logger = logging.getLogger(__name__)

PROJECTS = 100
"""How many projects may have something waiting; those that were heard of longest ago go first."""
TEXT_CHARS = 50_000_000
"""How long the values of one project may be together: a task can hold its picture itself."""
_JOIN_S = 1.0

HostOf = Callable[[], LabelStudioHost]
"""Where pictures come from. Called in a thread where it may take its time, once for all that were added together."""


@dataclass(frozen=True)
class Wanted:
    """One picture of a task.

    Attributes:
        task_id: As Label Studio has it.
        value: From the task's data.
    """

    task_id: object
    value: str


class Bring(Protocol):
    """Encodes a picture behind everything that somebody waits for; `Pictures.bring_behind`."""

    def __call__(self, value: str, task_id: object, asker: Asker) -> object:
        """Return when its features are kept, or raise."""


class _Host:
    """Finds a host when it is needed first."""

    def __init__(self, find: HostOf) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._found: LabelStudioHost | None = None

    def __call__(self) -> LabelStudioHost:
        with self._lock:
            if self._found is None:
                self._found = self._find()
            return self._found


class _Queue:
    """What waits for one project, in order; of more than there is room for, what came first is dropped."""

    def __init__(self, most: int, most_chars: int) -> None:
        self._most = most
        self._most_chars = most_chars
        self._waiting: OrderedDict[Wanted, _Host] = OrderedDict()
        self._chars = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, wanted: Wanted, host: _Host) -> None:
        self.drop(wanted)
        if len(wanted.value) > self._most_chars:
            return  # the others need not go for what does not fit
        self._waiting[wanted] = host
        self._chars += len(wanted.value)
        while len(self._waiting) > self._most or self._chars > self._most_chars:
            self.take()

    def drop(self, wanted: Wanted) -> None:
        if self._waiting.pop(wanted, None) is not None:
            self._chars -= len(wanted.value)

    def take(self) -> tuple[Wanted, _Host]:
        wanted, host = self._waiting.popitem(last=False)
        self._chars -= len(wanted.value)
        return wanted, host


class Ahead:
    """Encodes what will be asked for. Safe from any thread; its own begin with the first picture."""

    def __init__(
        self,
        bring: Bring,
        *,
        most: int,
        threads: int = 1,
        most_chars: int = TEXT_CHARS,
        watch: Callable[[int], object] = lambda _waiting: None,
    ) -> None:
        """Wait for something to do.

        Args:
            bring: Encodes one picture and keeps its features.
            most: How many pictures of a project may wait; 0 does nothing at all.
            threads: Pictures that are brought at the same time.
            most_chars: How long their values may be together, for a project.
            watch: Told how many pictures wait whenever that changes.
        """
        self._bring = bring
        self._most = most
        self._threads = threads
        self._most_chars = most_chars
        self._watch = watch
        self._queues: OrderedDict[str, _Queue] = OrderedDict()
        self._asked_for = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._running: list[threading.Thread] = []

    def __len__(self) -> int:
        """Return how many pictures wait."""
        with self._changed:
            return self._count()

    def room(self) -> int:
        """Return how many pictures of a project are worth naming."""
        return self._most

    def add(self, pictures: Sequence[Wanted], project: str, host_of: HostOf) -> None:
        """Encode pictures when there is nothing else to do.

        Args:
            pictures: In the order in which they will be asked for. Of more than there is room for, the last ones are
                left out, and those of earlier calls are dropped first.
            project: Whose; projects take turns.
            host_of: Where they come from.
        """
        with self._changed:
            if self._is_closed or not self._most or not pictures:
                return
            queue = self._queues.pop(project, None) or _Queue(self._most, self._most_chars)
            self._queues[project] = queue
            if len(self._queues) > PROJECTS:
                self._queues.popitem(last=False)
            host = _Host(host_of)
            for wanted in pictures[: self._most]:
                queue.add(wanted, host)
            self._watch(self._count())
            while len(self._running) < self._threads:
                thread = threading.Thread(target=self._work, name=f"ahead-{len(self._running)}", daemon=True)
                self._running.append(thread)
                thread.start()
            self._changed.notify_all()
        logger.info("project %s: %d pictures are encoded while nobody asks for any", project or "?", len(queue))

    def waits_for(self, project: str) -> bool:
        """Whether any picture of a project waits."""
        with self._changed:
            return project in self._queues

    def drop(self, pictures: Iterable[Wanted], project: str) -> None:
        """Leave out pictures that have been asked for meanwhile."""
        with self._changed:
            queue = self._queues.get(project)
            if queue is None:
                return
            for wanted in pictures:
                queue.drop(wanted)
            if not queue:
                del self._queues[project]
            self._watch(self._count())

    @contextmanager
    def giving_way(self) -> Iterator[None]:
        """Begin with no picture as long as somebody waits for an answer."""
        with self._changed:
            self._asked_for += 1
        try:
            yield
        finally:
            with self._changed:
                self._asked_for -= 1
                self._changed.notify_all()

    def stop(self) -> None:
        """Begin with nothing more."""
        with self._changed:
            self._is_closed = True
            self._queues.clear()
            self._watch(0)
            self._changed.notify_all()

    def join(self) -> None:
        """Wait a moment for what was under way; a download that hangs is not waited for."""
        for thread in self._running:
            thread.join(_JOIN_S)

    def _count(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def _take(self) -> tuple[str, Wanted, _Host] | None:
        """Wait for the next picture whose turn it is; `None` if there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or (self._queues and not self._asked_for))
            if self._is_closed:
                return None
            project, queue = self._queues.popitem(last=False)
            wanted, host = queue.take()
            if queue:
                self._queues[project] = queue
            self._watch(self._count())
            return project, wanted, host

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            project, wanted, host = taken
            try:
                self._bring(wanted.value, wanted.task_id, Asker(host(), Deadline.never(), project))
            except Exception as err:  # whatever it is, whoever asks for this picture will be told
                logger.debug("project %s, task %s: not encoded ahead", project or "?", wanted.task_id, exc_info=err)
