"""Processes of a comparison: replaced in time, never waited for in vain."""

import os
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool

import pytest

from data_owner.benchmark.processes import Processes


def _process(task: int) -> tuple[int, int]:
    return task, os.getpid()


def _refuse(task: int) -> None:
    raise ValueError(f"task {task}")


@pytest.mark.timeout(300)
def test_all_processes_due_at_once_are_replaced_and_every_call_is_answered() -> None:
    with Processes(2, tasks=2) as processes:
        done = [future.result() for future in as_completed([processes.submit(_process, task) for task in range(12)])]
    assert sorted(task for task, _ in done) == list(range(12))
    calls = [process for _, process in done]
    assert max(calls.count(process) for process in calls) <= 2
    assert os.getpid() not in calls


def test_after_an_error_of_a_call_nothing_new_starts() -> None:
    processes = Processes(1, tasks=5)
    with pytest.raises(ValueError, match="task 3"), processes:
        processes.submit(_refuse, 3).result()
    with pytest.raises(RuntimeError, match="shutdown"):
        processes.submit(_process, 4)


def test_a_process_that_dies_is_an_error() -> None:
    with pytest.raises(BrokenProcessPool), Processes(1, tasks=5) as processes:
        processes.submit(os._exit, 9).result()


@pytest.mark.parametrize("before", [None, "7"])
def test_processes_have_one_thread_and_the_caller_keeps_what_it_had(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if before is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    with Processes(1, tasks=5) as processes:
        assert processes.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
    assert os.environ.get("OMP_NUM_THREADS") == before
