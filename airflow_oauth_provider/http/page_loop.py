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
from typing import Any, Generic, TypeVar

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
_Answer = TypeVar("_Answer")
_Pending = TypeVar("_Pending", bound="_Later[Any] | Future[Response] | asyncio.Future[Response]")


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
        if walk.ends_with(status_of(error), number):
            return None
        raise
    return None if response is None or walk.ends_with(response.status_code, number) else response


def _begin_ahead(
    walk: Walk, begun: dict[int, PageRequest], page: Page, wanted: PageRequest, width: int
) -> Generator[Step, Response | None, None]:
    """Begin the page after ``page``, and what the plan says of those after it."""
    number = page.number + 1
    if begun.get(number, wanted) != wanted:
        yield from _drop(begun)  # the plan did not hold
    if not begun:
        yield from _begin(begun, number, wanted)
    for request in itertools.islice(walk.plan(page), len(begun), width):
        yield from _begin(begun, number + len(begun), request)


def _begin(begun: dict[int, PageRequest], number: int, request: PageRequest) -> Generator[Step, Response | None, None]:
    begun[number] = request
    yield Send(number, request)


def _drop(begun: dict[int, PageRequest]) -> Generator[Step, Response | None, None]:
    for number in list(begun):
        del begun[number]
        yield Drop(number)


def status_of(error: BaseException | None) -> int | None:
    """Return the status of the answer that ``error`` tells of, also when tenacity has wrapped it."""
    if isinstance(error, ApiError):
        return error.http_status
    attempt = getattr(error, "last_attempt", None)
    return status_of(attempt.exception()) if attempt is not None and attempt.failed else None


# -- the two drivers -----------------------------------------------------------------------------------------------


def run_pages(
    loop: PageLoop, fetch: Callable[[PageRequest], Response], width: int = 1, pauses: Pauses | None = None
) -> Iterator[Page]:
    """Yield the pages: fetched in threads, or with a width of 1 in this one.

    :param fetch: returns the answer to a request.
    :param width: see :func:`page_loop`.
    :param pauses: those of ``fetch``, which are cut short when the caller wants no more.
    """
    if width == 1:
        yield from _drive(loop, partial(_Later, fetch))
        return
    threads = ThreadPoolExecutor(width, thread_name_prefix="pages")
    try:
        yield from _drive(loop, lambda request: threads.submit(fetch, request))
    finally:
        if pauses is not None:
            pauses.end()
        threads.shutdown(cancel_futures=True)


async def run_pages_async(
    loop: PageLoop, fetch: Callable[[PageRequest], Awaitable[Response]], width: int = 1
) -> AsyncIterator[Page]:
    """Yield the pages: fetched by tasks of asyncio, or with a width of 1 in this one.

    :param fetch: returns the answer to a request.
    :param width: see :func:`page_loop`.
    """
    start = partial(_Later, fetch) if width == 1 else lambda request: asyncio.ensure_future(fetch(request))
    begun: _Begun[_Later[Awaitable[Response]] | asyncio.Future[Response]] = _Begun(start)
    try:
        step = _advance(loop)
        while step is not None:
            if isinstance(step, Receive):
                pending = begun.take(step.number)
                step = await _received(loop, pending.result() if isinstance(pending, _Later) else pending)
                continue
            if isinstance(step, Page):
                yield step
            else:
                begun.follow(step)
            step = _advance(loop)
    finally:
        loop.close()
        tasks = [pending for pending in begun.end() if isinstance(pending, asyncio.Future)]
        await asyncio.gather(*tasks, return_exceptions=True)


async def apart(size: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function``, in a thread if there is much to do.

    :param size: bytes that it works on.
    """
    return await asyncio.to_thread(function, *arguments) if size > _LARGE else function(*arguments)


class Pauses:
    """Pauses between attempts, in threads that may have to stop early."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def wait(self, seconds: float) -> None:
        """Wait.

        :raises ApiError: when nobody wants the answer any more.
        """
        if self._ended.wait(seconds):
            raise ApiError("The run has ended: nobody waits for this page any more")

    def end(self) -> None:
        """Cut short the pauses, those to come as well."""
        self._ended.set()


class _Later(Generic[_Answer]):
    """A page that is fetched when its answer is asked for: a task for each page would cost time."""

    def __init__(self, fetch: Callable[[PageRequest], _Answer], request: PageRequest) -> None:
        self._fetch, self._request = fetch, request

    def result(self) -> _Answer:
        return self._fetch(self._request)

    def cancel(self) -> bool:
        return True


class _Begun(Generic[_Pending]):
    """The pages on their way.

    :param start: begins to fetch one.
    """

    def __init__(self, start: Callable[[PageRequest], _Pending]) -> None:
        self._start = start
        self._wanted: dict[int, _Pending] = {}
        self._dropped: list[_Pending] = []

    def follow(self, step: Send | Drop) -> None:
        if isinstance(step, Send):
            self._wanted[step.number] = self._start(step.request)
        else:
            self._dropped.append(self.take(step.number))
            self._dropped[-1].cancel()

    def take(self, number: int) -> _Pending:
        return self._wanted.pop(number)

    def end(self) -> list[_Pending]:
        """Give all of them up, and return them."""
        given_up = [*self._wanted.values(), *self._dropped]
        for pending in given_up:
            pending.cancel()
        return given_up


def _drive(loop: PageLoop, start: Callable[[PageRequest], _Later[Response] | Future[Response]]) -> Iterator[Page]:
    begun = _Begun(start)
    try:
        step = _advance(loop)
        while step is not None:
            if isinstance(step, Receive):
                step = _result(loop, begun.take(step.number))
                continue
            if isinstance(step, Page):
                yield step
            else:
                begun.follow(step)
            step = _advance(loop)
    finally:
        loop.close()
        begun.end()


def _result(loop: PageLoop, pending: _Later[Response] | Future[Response]) -> Step | None:
    try:
        response = pending.result()
    except Exception as error:  # noqa: BLE001 - the loop decides what it means
        return _advance(loop, error=error)
    return _advance(loop, response)


async def _received(loop: PageLoop, answer: Awaitable[Response]) -> Step | None:
    try:
        response = await answer
    except Exception as error:  # noqa: BLE001 - the loop decides what it means
        return _advance(loop, error=error)
    step: Step | None = await apart(len(response.content), _advance, loop, response)
    return step


def _advance(loop: PageLoop, answer: Response | None = None, error: Exception | None = None) -> Step | None:
    """Return the loop's next step; None at its end, since StopIteration cannot leave a thread of asyncio."""
    try:
        return loop.send(answer) if error is None else loop.throw(error)
    except StopIteration:
        return None
