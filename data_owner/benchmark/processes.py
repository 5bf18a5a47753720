"""Processes for a comparison's cells. Each does a few and is then replaced, for what compilers and allocators keep of
many draws and trainings grows to gigabytes.

`ProcessPoolExecutor` replaces processes too (`max_tasks_per_child`), but on Python 3.11 it can wait for ever when
several are due at once (CPython issue 115634); a pool of one that is closed and opened again cannot.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread, local
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import torch

THREADS = "OMP_NUM_THREADS"

P = ParamSpec("P")
R = TypeVar("R")


class Processes:
    """`count` processes at a time, each for at most `tasks` calls; left with an error, it starts nothing new.

    `submit` takes what can be pickled, as `concurrent.futures` does; a process that dies is `BrokenProcessPool`.
    """

    def __init__(self, count: int, tasks: int) -> None:
        self._threads = ThreadPoolExecutor(count)
        self._tasks = tasks
        self._own = local()
        self._pools: list[ProcessPoolExecutor] = []

    def __enter__(self) -> Self:
        self._threads_before = os.environ.get(THREADS)
        os.environ[THREADS] = "1"  # of the processes it starts
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        failed = kind is not None
        self._threads.shutdown(wait=not failed, cancel_futures=failed)
        for pool in self._pools:
            pool.shutdown(wait=not failed, cancel_futures=failed)
        if self._threads_before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = self._threads_before

    def submit(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return self._threads.submit(lambda: self._call(work, *args, **kwargs))

    def _call(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """In the process of this thread."""
        if getattr(self._own, "left", 0) == 0:
            if hasattr(self._own, "pool"):
                self._own.pool.shutdown()
                self._pools.remove(self._own.pool)
            self._own.pool = ProcessPoolExecutor(1, get_context("spawn"), _start)
            self._own.left = self._tasks
            self._pools.append(self._own.pool)
        self._own.left -= 1
        done: Future[R] = self._own.pool.submit(work, *args, **kwargs)
        return done.result()


def _start() -> None:
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed run leaves no process behind that goes on with what was asked of it."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
