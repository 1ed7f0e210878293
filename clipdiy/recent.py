"""What was used last, within a bound: the one way in which this package remembers things."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """A mapping that forgets what was not used for longest. Safe from any number of threads."""

    def __init__(
        self, most: int, *, most_bytes: int | None = None, size_of: Callable[[Value], int] = lambda _value: 0
    ) -> None:
        """Begin empty.

        Args:
            most: How many entries are kept.
            most_bytes: How large they may be together; a value that is larger by itself is not kept.
            size_of: How many bytes a value takes.
        """
        self._most = most
        self._most_bytes = most_bytes
        self._size_of = size_of
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many entries there are."""
        return len(self._kept)

    def __contains__(self, key: Key) -> bool:
        """Whether there is an entry; that is no use of it."""
        with self._lock:
            return key in self._kept

    @property
    def used_bytes(self) -> int:
        """Size of all values together."""
        return self._bytes

    def get(self, key: Key) -> Value | None:
        """Return the value of a key, which is used by this, or `None`."""
        with self._lock:
            entry = self._kept.get(key)
            if entry is None:
                return None
            self._kept.move_to_end(key)
            return entry[0]

    def put(self, key: Key, value: Value) -> Value:
        """Keep a value, in place of an earlier one of this key; return it."""
        size = self._size_of(value)
        with self._lock:
            self._drop(key)
            if self._most_bytes is not None and size > self._most_bytes:
                return value  # the others need not go for what does not fit
            self._kept[key] = value, size
            self._bytes += size
            while self._kept and (
                len(self._kept) > self._most or (self._most_bytes is not None and self._bytes > self._most_bytes)
            ):
                self._drop(next(iter(self._kept)))
        return value

    def items(self) -> list[tuple[Key, Value]]:
        """Return all entries, those that were used last at the end; that is no use of them."""
        with self._lock:
            return [(key, value) for key, (value, _) in self._kept.items()]

    def add(self, key: Key, value: Value) -> bool:
        """Keep a value; True if there was none of this key."""
        is_new = key not in self
        self.put(key, value)
        return is_new

    def pop(self, key: Key) -> Value | None:
        """Forget a key; return its value, or `None`."""
        with self._lock:
            entry = self._kept.get(key)
            self._drop(key)
            return None if entry is None else entry[0]

    def _drop(self, key: Key) -> None:
        if key in self._kept:
            _, size = self._kept.pop(key)
            self._bytes -= size
