"""``OAuth2HttpOperator``: calls an API with an access token that stays fresh, on one session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.http.operators.http import HttpOperator

from airflow_oauth_provider.compat.http_provider import known_arguments
from airflow_oauth_provider.compat.sdk import AirflowException
from airflow_oauth_provider.http.page import Page, PageRequest
from airflow_oauth_provider.http.record_path import check_path
from airflow_oauth_provider.links import GRANT_LINKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from requests import Response

    from airflow_oauth_provider.compat.sdk import Context
    from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook
    from airflow_oauth_provider.http.output import OutputSpec
    from airflow_oauth_provider.http.page_loop import Pauses
    from airflow_oauth_provider.http.pagination import Paginator
    from airflow_oauth_provider.http.walk import Progress, Walk
    from airflow_oauth_provider.triggers.http import OAuth2HttpTrigger


class OAuth2HttpOperator(HttpOperator):
    """Calls an API, page after page if need be, on one session that stays authorized.

    Takes all that ``HttpOperator`` takes, and returns what it returns. Requests that fail for a passing reason (no
    connection, a broken one, 429, 502, 503, 504) are repeated, with growing pauses and as ``Retry-After`` says, where
    that cannot do anything twice; give ``retry_args`` to decide that yourself.

    :param oauth2_conn_id: connection of type ``oauth2``. (templated)
    :param http_conn_id: the same, by the name that ``HttpOperator`` has for it.
    :param pagination: how the next page is found, instead of ``pagination_function``; see
        :mod:`airflow_oauth_provider.http.pagination`.
    :param output: where to write the pages as they arrive, instead of returning them: whatever ``ObjectStoragePath``
        takes, compressed if it ends in ``.gz``. The operator then returns ``path``, ``pages``, ``records`` and
        ``bytes``; ``response_check`` and ``response_filter`` get one page at a time, and what the latter returns is
        written as records. (templated)
    :param output_conn_id: the storage's Airflow connection. (templated)
    :param records_path: write the records at this path of each page (a JSONPath or dotted names), one JSON value a
        line, rather than the pages as they came.
    :param requests_per_second: requests that leave in a second at most; None: no limit.
    :param max_attempts: how often one request is sent at the most; 1 turns repeating off.
    :param max_retry_after: the longest pause that the API may ask for, in seconds.
    :param retry_non_idempotent: also repeat a POST or PATCH that may have been taken before the failure.
    :param concurrent_pages: how many pages may be fetched at once, with a paginator that knows addresses ahead
        (``PageNumber``, ``OffsetLimit``). They come out in order, and memory holds no more of them than that.
    """

    conn_id_field = "oauth2_conn_id"
    template_fields: Sequence[str] = (*HttpOperator.template_fields, "oauth2_conn_id", "output_path", "output_conn_id")
    ui_color = "#b3e5fc"
    operator_extra_links = GRANT_LINKS

    def __init__(
        self,
        *,
        oauth2_conn_id: str | None = None,
        http_conn_id: str = "oauth2_default",
        pagination: Paginator | None = None,
        output: Any = None,
        output_conn_id: str | None = None,
        records_path: str | None = None,
        requests_per_second: float | None = None,
        max_attempts: int = 5,
        max_retry_after: float = 300.0,
        retry_non_idempotent: bool = False,
        concurrent_pages: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(http_conn_id=oauth2_conn_id or http_conn_id, **known_arguments(HttpOperator, kwargs))
        self.pagination = pagination
        # BaseOperator.output is something else: a reference to what the task returns.
        self.output_path = output
        self.output_conn_id = output_conn_id
        self.records_path = records_path
        self.requests_per_second = requests_per_second
        self.max_attempts = max_attempts
        self.max_retry_after = max_retry_after
        self.retry_non_idempotent = retry_non_idempotent
        self.concurrent_pages = concurrent_pages
        self._hook: OAuth2Hook | None = None
        self._pauses: Pauses | None = None
        self._progress: Progress | None = None
        self._check_arguments()

    @property
    def oauth2_conn_id(self) -> str:
        """The connection: another name of ``http_conn_id``."""
        conn_id: str = self.http_conn_id
        return conn_id

    @oauth2_conn_id.setter
    def oauth2_conn_id(self, conn_id: str) -> None:
        self.http_conn_id = conn_id

    def _check_arguments(self) -> None:
        if self.pagination is not None and self.pagination_function is not None:
            raise ValueError("give either pagination or pagination_function")
        if self.requests_per_second is not None and not self.requests_per_second > 0:
            raise ValueError(f"requests_per_second is {self.requests_per_second}, but has to be more than 0")
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}, but has to be 1 at least")
        if self.concurrent_pages < 1:
            raise ValueError(f"concurrent_pages is {self.concurrent_pages}, but has to be 1 at least")
        if self.concurrent_pages > 1 and not (self.pagination is not None and self.pagination.knows_ahead):
            raise ValueError("concurrent_pages needs a paginator that knows addresses ahead: PageNumber, OffsetLimit")
        self._check_records_path()

    def _check_records_path(self) -> None:
        if self.records_path is None:
            return
        check_path("records_path", self.records_path)
        if self.output_path is None:
            raise ValueError("records_path says what to write to output: give output as well, or use response_filter")
        if self.response_filter is not None:
            raise ValueError("give either records_path or response_filter: each says what to write to output")

    # -- in the task ---------------------------------------------------------------------------------------------

    @property
    def hook(self) -> OAuth2Hook:
        """The task's hook: one for all its requests."""
        if self._hook is not None and self._hook.oauth2_conn_id != self.oauth2_conn_id:
            self._close_hook()
        if self._hook is None:
            from airflow_oauth_provider.hooks.oauth2 import hook_of
            from airflow_oauth_provider.http.page_loop import Pauses

            self._pauses = Pauses()
            # With retry_args the caller repeats requests: doing so here as well would multiply the attempts.
            attempts = 1 if self.retry_args else self.max_attempts
            self._hook = hook_of(
                self,
                attempts,
                auth_type=self.auth_type,
                requests_per_second=self.requests_per_second,
                spool=self._streams,
                width=self.concurrent_pages,
                sleep=self._pauses.wait,
            )
        return self._hook

    def _close_hook(self) -> None:
        if self._hook is not None:
            self._hook.close()
        self._hook = None

    @property
    def _streams(self) -> bool:
        """Whether bodies go to the output as they are, so that none need be in memory."""
        looks_inside = self.pagination_function or self.response_check or self.response_filter or self.records_path
        reads_body = self.pagination is not None and self.pagination.reads_body
        return self.output_path is not None and not looks_inside and not reads_body and not self.log_response

    def execute_sync(self, context: Context) -> Any:
        """Send the request, and those of the following pages."""
        from airflow_oauth_provider.http.walk import Progress

        self.log.info("Calling HTTP method")
        progress = self._progress = Progress(self.log)
        try:
            if self.output_path is not None:
                return self._write(context, self._pages_of_output())
            found = self.paginate_sync(response=self._send(self._walk().first))
            # What was fetched without pagination, or by a subclass in its own way, is not counted yet.
            for response in (found if isinstance(found, list) else [found])[progress.pages :]:
                progress.page(response, len(response.content or b""))
            progress.done()
            return self.process_response(context, found)
        finally:
            self._close_hook()

    def paginate_sync(self, response: Response) -> Response | list[Response]:
        """Return ``response`` together with the pages after it; just itself without pagination.

        A subclass may do this in its own way, as with ``HttpOperator``.
        """
        if not self._is_paged:
            return response
        responses = []
        for page in self._pages(response):
            responses.append(page.response)
            if self._progress is not None:
                self._progress.page(page.response, page.size)
        return responses

    @property
    def _is_paged(self) -> bool:
        return self.pagination is not None or self.pagination_function is not None

    def _pages(self, first: Response | None = None) -> Iterator[Page]:
        """Yield the pages as they arrive, the ``first`` one as it is where it is there already."""
        from airflow_oauth_provider.http.page_loop import page_loop, run_pages

        _ = self.hook  # made here, and not by several threads
        loop = page_loop(self._walk(), self.concurrent_pages, first)
        return run_pages(loop, self._send, self.concurrent_pages, self._pauses)

    def _pages_of_output(self) -> Iterator[Page]:
        if type(self).paginate_sync is OAuth2HttpOperator.paginate_sync:
            yield from self._pages()
            return
        found = self.paginate_sync(response=self._send(self._walk().first))
        for number, response in enumerate(found if isinstance(found, list) else [found], 1):
            yield Page(response, number)

    def _walk(self) -> Walk:
        from airflow_oauth_provider.http.pagination import FunctionPaginator
        from airflow_oauth_provider.http.walk import Walk

        paginator = self.pagination or FunctionPaginator(following_page=self._following)
        return Walk(paginator, self._first_request(), self.records_path)

    def _first_request(self) -> PageRequest:
        return PageRequest(
            self.endpoint, self.data, self.headers, self.extra_options, self.request_kwargs, method=self.method
        )

    def _following(self, response: Response) -> PageRequest | None:
        """Return the request that ``pagination_function`` wants next."""
        wanted = self.pagination_function(response) if self.pagination_function else None
        if not wanted:
            return None
        merged = self._merge_next_page_parameters(wanted)
        common = {name: merged.pop(name) for name in ("endpoint", "data", "headers", "extra_options")}
        return PageRequest(**common, request_kwargs=merged, method=self.method)

    def _send(self, request: PageRequest) -> Response:
        options = {**request.extra_options, **({"stream": True} if self._streams else {})}
        arguments = (request.endpoint, request.data, dict(request.headers), options)
        run = partial(self.hook.run_with_advanced_retry, self.retry_args) if self.retry_args else self.hook.run
        response: Response = run(*arguments, **request.request_kwargs)
        return response

    # -- what becomes of the pages -------------------------------------------------------------------------------

    def process_response(self, context: Context, response: Response | list[Response]) -> Any:
        """Check and filter; see ``HttpOperator``."""
        text = self._default_response_maker(response=response)
        if self.log_response:
            self.log.info(text())
        self._check(context, response)
        if self.response_filter:
            return self._call(self.response_filter, context, response)
        return text()

    def _check(self, context: Context, response: Response | list[Response]) -> None:
        if self.response_check and not self._call(self.response_check, context, response):
            raise AirflowException("Response check returned False.")

    @staticmethod
    def _call(function: Callable[..., Any], context: Context, response: Response | list[Response]) -> Any:
        from airflow_oauth_provider.compat.sdk import determine_kwargs

        return function(response, **determine_kwargs(function, [response], context))

    def _write(self, context: Context, pages: Iterator[Page]) -> dict[str, Any]:
        from airflow_oauth_provider.http.output import OutputFile
        from airflow_oauth_provider.http.walk import Progress

        progress = Progress(self.log)
        file = OutputFile(self._output_spec(context), self.records_path)
        try:
            file.open()
            for page in pages:
                if self.log_response:
                    self.log.info(page.response.text)
                self._check(context, page.response)
                records = None
                if self.response_filter:
                    found = self._call(self.response_filter, context, page.response)
                    records = found if isinstance(found, list) else [found]
                progress.page(page.response, page.size, file.add(page, records))
                page.close()
            written = file.commit()
            progress.done()
            return written
        finally:
            file.discard()

    def _output_spec(self, context: Mapping[str, Any]) -> OutputSpec:
        from airflow_oauth_provider.http.output import OutputSpec, owner_of

        return OutputSpec(str(self.output_path), self.output_conn_id, owner_of(context))

    # -- in the triggerer ----------------------------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Send the requests here, or defer; see ``HttpOperator``."""
        reason = self._why_not_deferred() if self.deferrable else None
        if reason is not None:
            self.log.warning("Not deferred, but run in the worker: %s", reason)
            return self.execute_sync(context)
        return super().execute(context)

    def _why_not_deferred(self) -> str | None:
        from airflow_oauth_provider.triggers.events import why_not_sendable

        if self.auth_type is not None:
            return "auth_type is code that may wait, which the triggerer cannot do"
        if self.retry_args:
            return "retry_args are objects that cannot be sent to the triggerer; max_attempts can"
        if self.output_path is not None and (self.pagination_function or self.response_check or self.response_filter):
            return "pages are written in the triggerer, which has no functions of the DAG: use pagination, records_path"
        return why_not_sendable(self._first_request())

    def execute_async(self, context: Context) -> None:
        """Defer."""
        self.defer(trigger=self._trigger(self._first_request(), context), method_name="execute_complete")

    def _trigger(self, request: PageRequest, context: Mapping[str, Any]) -> OAuth2HttpTrigger:
        from airflow_oauth_provider.triggers.http import OAuth2HttpTrigger

        return OAuth2HttpTrigger(
            oauth2_conn_id=self.oauth2_conn_id,
            **request.to_dict(),
            pagination=self.pagination.to_dict() if self.pagination is not None else None,
            output=None if self.output_path is None else self._output_spec(context).to_dict(),
            records_path=self.records_path,
            requests_per_second=self.requests_per_second,
            max_attempts=self.max_attempts,
            max_retry_after=self.max_retry_after,
            retry_non_idempotent=self.retry_non_idempotent,
            concurrent_pages=self.concurrent_pages,
        )

    def execute_complete(self, context: Context, event: dict[str, Any], paginated_responses: Any = None) -> Any:
        """Go on with what the triggerer fetched.

        :param event: of :class:`~airflow_oauth_provider.triggers.http.OAuth2HttpTrigger`; or of ``HttpTrigger``, where
            the task was deferred while it was still an ``HttpOperator``.
        :param paginated_responses: the pages before it.
        """
        from airflow_oauth_provider.triggers.events import raise_error_of, unpack_pages

        raise_error_of(event)
        if "output" in event:
            return event["output"]
        earlier = unpack_pages(paginated_responses or [])
        if "responses" not in event and self.pagination is not None:
            return self._go_on_after_stock(context, unpack_pages([event["response"]])[0])
        *before, last = unpack_pages(event["responses"] if "responses" in event else [event["response"]])
        return self.paginate_async(context=context, response=last, previous_responses=[*earlier, *before])

    def _go_on_after_stock(self, context: Context, first: Response) -> Any:
        """Fetch in the worker what follows the page that ``HttpTrigger`` fetched."""
        try:
            return self._finish(context, [page.response for page in self._pages(first)])
        finally:
            self._close_hook()

    def paginate_async(
        self, context: Context, response: Response, previous_responses: list[Response] | None = None
    ) -> Any:
        """Defer for the page after ``response`` if there is one, else return the task's result.

        A subclass may do this in its own way, as with ``HttpOperator``.

        :param previous_responses: the pages before it.
        """
        from airflow_oauth_provider.triggers.events import pack_pages

        if not self._is_paged:
            return self._finish(context, [response])
        responses = [*(previous_responses or []), response]
        following = self._following(response)
        if following is None:
            return self._finish(context, responses)
        return self.defer(
            trigger=self._trigger(following, context),
            method_name="execute_complete",
            kwargs={"paginated_responses": pack_pages(responses)},
        )

    def _finish(self, context: Context, responses: list[Response]) -> Any:
        if self.output_path is not None:  # deferred by an operator that had no output
            return self._write(context, (Page(response, n) for n, response in enumerate(responses, 1)))
        return self.process_response(context, responses if self._is_paged else responses[0])
