"""``OAuth2HttpSensor``: waits until an API gives a good answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.http.sensors.http import HttpSensor

from airflow_oauth_provider.http.page import PageRequest
from airflow_oauth_provider.links import GRANT_LINKS
from airflow_oauth_provider.oauth2.times import read_wait
from airflow_oauth_provider.triggers.http import is_listed

if TYPE_CHECKING:
    from requests import Response

    from airflow_oauth_provider.compat.sdk import Context, PokeReturnValue
    from airflow_oauth_provider.hooks.oauth2 import OAuth2Hook


class OAuth2HttpSensor(HttpSensor):
    """Asks an API again and again until its answer is a good one.

    Takes all that ``HttpSensor`` takes. An answer whose status is in ``response_error_codes_allowlist`` means "not
    yet"; other error statuses fail the task. Unlike there, ``response_check`` goes together with ``deferrable``: the
    triggerer waits for a good status, the task checks the answer, and defers again if need be.

    :param oauth2_conn_id: connection of type ``oauth2``. (templated)
    :param http_conn_id: the same, by the name that ``HttpSensor`` has for it.
    :param response_error_codes_allowlist: statuses, or beginnings of statuses (``"5"``), that mean "not yet".
    :param max_attempts: how often one request is sent at the most, see
        :class:`~airflow_oauth_provider.operators.http.OAuth2HttpOperator`, also for the others.
    """

    template_fields: Sequence[str] = (*HttpSensor.template_fields, "oauth2_conn_id")
    ui_color = "#b3e5fc"
    operator_extra_links = GRANT_LINKS

    def __init__(
        self,
        *,
        oauth2_conn_id: str | None = None,
        http_conn_id: str = "oauth2_default",
        response_error_codes_allowlist: Sequence[str | int] | None = None,
        max_attempts: int = 5,
        max_retry_after: float = 300.0,
        retry_non_idempotent: bool = False,
        **kwargs: Any,
    ) -> None:
        allowed = None if response_error_codes_allowlist is None else [str(s) for s in response_error_codes_allowlist]
        super().__init__(http_conn_id=oauth2_conn_id or http_conn_id, response_error_codes_allowlist=allowed, **kwargs)
        self.oauth2_conn_id = oauth2_conn_id or http_conn_id
        self.max_attempts = max_attempts
        self.max_retry_after = max_retry_after
        self.retry_non_idempotent = retry_non_idempotent
        self._hook: OAuth2Hook | None = None
        # When the next request may leave, in seconds of time.monotonic.
        self._not_before = 0.0

    @property
    def hook(self) -> OAuth2Hook:
        """The sensor's hook: one for all its requests."""
        if self._hook is None:
            from airflow_oauth_provider.hooks.oauth2 import hook_of

            # "404:" is a way to write it, too: the text of HttpHook's error begins so.
            accepted = tuple(status.rstrip(":") for status in self.response_error_codes_allowlist)
            ends_at = time.monotonic() + float(self.timeout)
            self._hook = hook_of(self, attempts=self.max_attempts, accepted=accepted, ends_at=ends_at)
        return self._hook

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Ask once, unless the API has asked to wait longer."""
        if time.monotonic() < self._not_before:
            self.log.info("The API asked to wait another %.0f s", self._not_before - time.monotonic())
            return False
        self.log.info("Poking: %s", self.endpoint)
        response: Response = self.hook.run(
            self.endpoint,
            data=self.request_params,
            headers=self.headers,
            extra_options={**self.extra_options, "check_response": False},
            **self.request_kwargs,
        )
        # Without a check of the status, each answer goes to response_check.
        if self._checks_status and is_listed(response, self.response_error_codes_allowlist):
            self.log.info("Answered %d: not yet", response.status_code)
            wait = read_wait(response.status_code, response.headers) or 0.0
            self._not_before = time.monotonic() + min(wait, self.max_retry_after)
            return False
        if self._checks_status:
            self.hook.check_response(response)
        return self._check(context, response)

    @property
    def _checks_status(self) -> bool:
        given = self.extra_options.get("check_response")
        return bool(self.hook.settings.http_options["check_response"] if given is None else given)

    def _check(self, context: Context, response: Response) -> bool | PokeReturnValue:
        if not self.response_check:
            return True
        from airflow_oauth_provider.compat.sdk import AirflowException, determine_kwargs

        kwargs = determine_kwargs(self.response_check, [response], context)
        try:
            return self.response_check(response, **kwargs)
        except AirflowException as error:
            # As in HttpSensor: a check may call another address, whose status means "not yet".
            if str(error).startswith(self.response_error_codes_allowlist):
                self.log.info("response_check raised %.100s: not yet", error)
                return False
            raise

    def execute(self, context: Context) -> Any:
        """Wait, here or deferred."""
        if self.deferrable:
            from airflow_oauth_provider.triggers.events import why_not_sendable

            reason = why_not_sendable(self._request())
            if reason is None:
                return self._defer(time.time(), first_pause=0.0)
            self.log.warning("Not deferred, but run in the worker: %s", reason)
        try:
            # Skip HttpSensor.execute, which never defers where there is a response_check.
            return super(HttpSensor, self).execute(context)
        finally:
            if self._hook is not None:
                self._hook.close()

    def _request(self) -> PageRequest:
        options, more = self.extra_options, self.request_kwargs
        return PageRequest(self.endpoint, self.request_params, self.headers, options, more, self.method)

    def _defer(self, began: float, first_pause: float) -> Any:
        from airflow_oauth_provider.triggers.http import OAuth2HttpSensorTrigger

        return self.defer(
            timeout=timedelta(seconds=max(0.0, self.timeout - (time.time() - began))),
            trigger=OAuth2HttpSensorTrigger(
                poke_interval=self.poke_interval,
                wait_on=list(self.response_error_codes_allowlist),
                first_pause=first_pause,
                oauth2_conn_id=self.oauth2_conn_id,
                **self._request().to_dict(),
                max_attempts=self.max_attempts,
                max_retry_after=self.max_retry_after,
                retry_non_idempotent=self.retry_non_idempotent,
            ),
            method_name="execute_complete",
            kwargs={"began": began},
        )

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None, began: float | None = None
    ) -> Any:
        """Go on with what the triggerer got.

        :param event: of :class:`~airflow_oauth_provider.triggers.http.OAuth2HttpSensorTrigger`.
        :param began: when the waiting began, in seconds since the epoch.
        """
        from airflow_oauth_provider.triggers.events import raise_error_of, unpack_pages

        event = event or {}
        raise_error_of(event)
        result = self._check(context, unpack_pages(event["responses"])[0])
        if result:
            self.log.info("%s completed successfully.", self.task_id)
            return getattr(result, "xcom_value", None)
        return self._defer(time.time() if began is None else began, first_pause=self.poke_interval)
