"""Bring a step to its end although the task is being cancelled."""

from __future__ import annotations

import _thread
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds for which a signal may go unnoticed while a step runs.
LONGEST_DEAFNESS = 0.5


def run_to_end(step: Callable[[], T]) -> T:
    """Run ``step``; what interrupts it meanwhile (SIGTERM, a task's time-out) is raised when it has ended.

    Airflow cancels a task by an exception out of a signal handler, and Python runs those in the main thread only: so
    the step runs in a thread of its own, and the main thread, which waits for it, keeps what is thrown at it.

    :param step: something that ends by itself within a bounded time.
    :raises BaseException: what interrupted the step, else what the step raised.
    """
    if threading.current_thread() is not threading.main_thread():
        return step()
    results: list[T] = []
    failures: list[BaseException] = []
    begun, running = threading.Lock(), threading.Lock()
    running.acquire()

    def run() -> None:
        if not begun.acquire(blocking=False):
            return  # an interruption left open whether the thread had been started, so there are two
        try:
            results.append(step())
        except BaseException as failure:  # noqa: BLE001 - carried over to the thread that waits, and raised there
            failures.append(failure)
        finally:
            running.release()

    # Not threading.Thread: before Python 3.13, a join() that is interrupted takes the running thread for ended.
    is_started = False
    interruption: BaseException | None = None
    while not (results or failures):
        try:
            if not is_started:
                _thread.start_new_thread(contextvars.copy_context().run, (run,))
                is_started = True
            # For a while only: a signal that came just before this call interrupts nothing, and its handler has to run.
            running.acquire(timeout=LONGEST_DEAFNESS)
        except BaseException as caught:
            if not is_started and not begun.locked() and interruption is None and isinstance(caught, RuntimeError):
                raise  # no thread is to be had, so the step has not begun
            interruption = interruption or caught
    if interruption is not None or failures:
        raise interruption or failures[0]
    return results[0]
