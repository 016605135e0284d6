"""A ``requests.Session`` that stays authorized, and careful."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

import requests
from requests.utils import requote_uri

from airflow_oauth_provider.connection.origin import origin_of
from airflow_oauth_provider.http.auth import OAuth2Auth
from airflow_oauth_provider.http.errors import presentable


class OAuth2Session(requests.Session):
    """A session whose requests carry a fresh token to the allowed origins, and to no other.

    :param timeout: seconds, for requests that name no timeout of their own: ``requests`` would wait for ever.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__()
        #: Seconds for requests that name no timeout of their own.
        self.timeout = timeout
        self._merged: dict[str, Any] = {}

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request; see ``requests.Session.send``."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self.timeout
        try:
            return super().send(request, **kwargs)
        except requests.RequestException as error:
            if not isinstance(self.auth, OAuth2Auth):
                raise
            raise presentable(error, request.method or "", self.auth.conn_id, self.auth.bare) from None

    def merge_environment_settings(
        self,
        url: str | bytes | None,
        proxies: Mapping[str, Any] | None,
        stream: bool | None,
        verify: bool | str | None,
        cert: Any,
    ) -> Any:
        """Merge in the environment, but not over what the connection says of TLS, as ``requests`` would.

        Reads the environment once for each origin: going through all of it takes a tenth of a request's time.
        """
        own = self.verify if verify is None else verify
        asked = (origin_of(str(url)), sorted((proxies or {}).items()), stream, own, cert, self.trust_env, self.proxies)
        # All that the result depends on besides; as a text, for some of it cannot be hashed.
        key = repr((*asked, self.verify, self.cert, self.stream))
        if key not in self._merged:
            self._merged[key] = super().merge_environment_settings(url, proxies, stream, own, cert)  # type: ignore[arg-type]
        merged = dict(self._merged[key])
        merged["proxies"] = dict(merged["proxies"])
        return merged

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """On a redirect: the token goes along where it may go, and stays behind elsewhere."""
        if isinstance(self.auth, OAuth2Auth):
            self.auth.follow_redirect(prepared_request)
        else:
            super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]

    def redirect(self, request: requests.PreparedRequest, response: requests.Response) -> None:
        """Turn ``request``, in place, into the one to which ``response`` redirects, for other ways of sending.

        Method and body change as ``requests`` has it; what authorizes the request is up to the caller.
        """
        target = self.get_redirect_target(response)
        if target is None:
            return
        request.url = urljoin(response.url, requote_uri(target))
        self.rebuild_method(request, response)
        if response.status_code not in (307, 308):
            for name in ("Content-Length", "Content-Type", "Transfer-Encoding"):
                request.headers.pop(name, None)
            request.body = None
        request.headers.pop("Cookie", None)
