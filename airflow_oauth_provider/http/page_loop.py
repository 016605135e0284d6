"""The loop that fetches pages, written once: a generator that says what to do, driven by threads or by asyncio.

Pages can be fetched side by side where the paginator knows ahead what the next requests will probably be. That is only
a plan: what :meth:`~airflow_oauth_provider.http.pagination.Paginator.following` says of each page that came decides.
A request that was planned and turns out wrong is dropped, so the pages are the same as one after the other.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from requests import Response

from airflow_oauth_provider.exceptions import ApiError
from airflow_oauth_provider.http.page import Page, PageRequest
from airflow_oauth_provider.http.walk import Walk

#: Bytes of a page from which on it is decoded in a thread: less takes a millisecond or two.
_LARGE = 128 * 1024


@dataclass(frozen=True, slots=True)
class Send:
    """Begin to fetch a page, and do not wait for it."""

    number: int
    request: PageRequest


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for the answer of a page that was begun, and hand it in."""

    number: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Nobody wants the answer of this page any more."""

    number: int


#: A page in this place is one to give out: the next in order.
Step = Send | Receive | Drop | Page
PageLoop = Generator[Step, Response | None, None]


def page_loop(walk: Walk, width: int = 1, first: Response | None = None) -> PageLoop:
    """Yield what to do; takes the answer of each :class:`Receive`, or its error.

    :param walk: the way through the pages.
    :param width: how many pages may be on their way, or waiting for their turn, at once.
    :param first: the first page's answer, where it is there already.
    """
    wanted: PageRequest | None = walk.first
    begun: dict[int, PageRequest] = {}
    number = 1
    while wanted is not None:
        response = first if number == 1 else None
        if response is None:
            if not begun:
                yield from _begin(begun, number, wanted)
            response = yield from _receive(walk, number)
            del begun[number]
            if response is None:
                break
        page = Page(response, number)
        # Found out first: what the caller does with the page may use it up.
        wanted = walk.following(page)
        if wanted is not None and width > 1:
            yield from _begin_ahead(walk, begun, page, wanted, width)
        yield page
        del page, response  # neither is kept while the next one comes
        number += 1
    yield from _drop(begun)


def _receive(walk: Walk, number: int) -> Generator[Step, Response | None, Response | None]:
    """Return the answer; None where it says that there is no such page."""
    try:
        response = yield Receive(number)
    except Exception as error:
        if walk.ends_with(_status_of(error), number):
            return None
        raise
    return None if response is None or walk.ends_with(response.status_code, number) else response


def _begin_ahead(walk: Walk, begun: dict[int, PageRequest], page: Page, wanted: PageRequest, width: int) -> PageLoop:
    """Begin the page after ``page``, and what the plan says of those after it."""
    number = page.number + 1
    if begun.get(number, wanted) != wanted:
        yield from _drop(begun)  # the plan did not hold
    if not begun:
        yield from _begin(begun, number, wanted)
    for request in itertools.islice(walk.plan(page), len(begun), width):
        yield from _begin(begun, number + len(begun), request)


def _begin(begun: dict[int, PageRequest], number: int, request: PageRequest) -> PageLoop:
    begun[number] = request
    yield Send(number, request)


def _drop(begun: dict[int, PageRequest]) -> PageLoop:
    for number in list(begun):
        del begun[number]
        yield Drop(number)


def _status_of(error: BaseException | None) -> int | None:
    """Return the status of the answer that ``error`` tells of, also when tenacity has wrapped it."""
    if isinstance(error, ApiError):
        return error.http_status
    attempt = getattr(error, "last_attempt", None)
    return _status_of(attempt.exception()) if attempt is not None and attempt.failed else None


# -- the two drivers -----------------------------------------------------------------------------------------------


def run_pages(
    loop: PageLoop, fetch: Callable[[PageRequest], Response], width: int = 1, pauses: Pauses | None = None
) -> Iterator[Page]:
    """Yield the pages: fetched in threads, or with a width of 1 in this one.

    :param pauses: those of ``fetch``, which are cut short when the caller wants no more.
    """
    if width == 1:
        yield from _run_pages(loop, lambda request: partial(fetch, request))  # a thread for each page would cost time
        return
    threads = ThreadPoolExecutor(width, thread_name_prefix="pages")
    try:
        yield from _run_pages(loop, lambda request: threads.submit(fetch, request))
    finally:
        if pauses is not None:
            pauses.end()
        threads.shutdown(cancel_futures=True)


def _run_pages(loop: PageLoop, start: Callable[[PageRequest], partial[Response] | Future[Response]]) -> Iterator[Page]:
    begun: dict[int, partial[Response] | Future[Response]] = {}
    try:
        step = _advance(loop)
        while step is not None:
            answer = error = None
            if isinstance(step, Receive):
                pending = begun.pop(step.number)
                try:
                    answer = pending() if isinstance(pending, partial) else pending.result()
                except Exception as failure:  # noqa: BLE001 - the loop decides what it means
                    error = failure
                del pending  # it holds the answer
            elif isinstance(step, Send):
                begun[step.number] = start(step.request)
            elif isinstance(step, Drop):
                pending = begun.pop(step.number)
                if isinstance(pending, Future):
                    pending.cancel()
            else:
                yield step
            step = _advance(loop, answer, error)
    finally:
        loop.close()


async def run_pages_async(
    loop: PageLoop, fetch: Callable[[PageRequest], Awaitable[Response]], width: int = 1
) -> AsyncIterator[Page]:
    """Yield the pages: fetched by tasks of asyncio, or with a width of 1 in this one."""
    # Awaitables that begin when they are awaited, or tasks, which cost time.
    start: Callable[[PageRequest], Any] = fetch if width == 1 else lambda request: asyncio.ensure_future(fetch(request))
    begun: dict[int, Any] = {}
    dropped: list[asyncio.Future[Response]] = []
    try:
        step = _advance(loop)
        while step is not None:
            answer = error = None
            if isinstance(step, Receive):
                try:
                    answer = await begun.pop(step.number)
                except Exception as failure:  # noqa: BLE001 - the loop decides what it means
                    error = failure
            elif isinstance(step, Send):
                begun[step.number] = start(step.request)
            elif isinstance(step, Drop):
                dropped.append(begun.pop(step.number))
                dropped[-1].cancel()
            else:
                yield step
            step = await apart(0 if answer is None else len(answer.content), _advance, loop, answer, error)
    finally:
        loop.close()
        for task in begun.values():
            task.cancel()
        await asyncio.gather(*begun.values(), *dropped, return_exceptions=True)


def _advance(loop: PageLoop, answer: Response | None = None, error: Exception | None = None) -> Step | None:
    """Return the loop's next step; None at its end, since StopIteration cannot leave a thread of asyncio."""
    try:
        return loop.send(answer) if error is None else loop.throw(error)
    except StopIteration:
        return None


async def apart(size: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function``, in a thread where it works on many bytes."""
    return await asyncio.to_thread(function, *arguments) if size > _LARGE else function(*arguments)


class Pauses:
    """Pauses between attempts, in threads that may have to stop early."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def wait(self, seconds: float) -> None:
        """Wait, or raise ApiError when nobody wants the answer any more."""
        if self._ended.wait(seconds):
            raise ApiError("The run has ended: nobody waits for this page any more")

    def end(self) -> None:
        """Cut short the pauses, those to come as well."""
        self._ended.set()
