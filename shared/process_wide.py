"""A setting that the whole process has one of, changed while something runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class ProcessWide(Generic[T]):
    """What `get` finds before the first of the bodies that run at once, `give_back` gets after the last of them."""

    def __init__(self, get: Callable[[], T], give_back: Callable[[T], object]) -> None:
        self._get, self._give_back = get, give_back
        self._lock, self._found = Lock(), list[T]()

    @contextmanager
    def changed(self) -> Iterator[T]:
        """The body may change it; it is given what the first body found."""
        with self._lock:
            self._found.append(self._found[0] if self._found else self._get())
        try:
            yield self._found[0]
        finally:
            with self._lock:
                found = self._found.pop()
                if not self._found:
                    self._give_back(found)
