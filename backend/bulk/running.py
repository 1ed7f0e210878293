"""The runner of one machine: shards one after the other, in this process."""

from collections.abc import Callable, Iterator, Sequence
from threading import Event

from backend.bulk.making import Done, ShardMaker, ShardReport
from backend.bulk.shards import Chunk


def run_here(
    chunks: Sequence[Chunk], maker: ShardMaker, *, done: Done = lambda: None, stop: Event | None = None
) -> Iterator[ShardReport]:
    """Make shards, and yield what became of each.

    Args:
        chunks: Which.
        maker: Makes them.
        done: Called for each picture that is through, from several threads.
        stop: Ends it after the shard that is under way.

    Raises:
        BackendError: If one cannot be written.
    """
    for chunk in chunks:
        if stop is not None and stop.is_set():
            return
        yield maker.make(chunk, done)


MakeMaker = Callable[[], ShardMaker]
"""Loads weights and returns what makes shards; can be sent to other processes."""
