"""A deployment's own function in place of the token request, for servers that nothing else fits.

It runs where a token request would: within the lease, once for all workers. What it returns is read like an answer
from the wire, and nothing of it is believed that would not be believed of a server.
"""

from __future__ import annotations

import importlib
import json
import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2 import errors
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.token_response import TokenResponse, parse_token_response
from airflow_oauth_provider.oauth2.transport import HttpResponse

log = logging.getLogger(__name__)

Callback = Callable[[dict[str, Any]], Mapping[str, Any]]

#: What an answer may hold; the names of the answer of RFC 6749 section 5, and one for errors.
ERROR_RESPONSE = "errorResponse"


def check_allowed(conn_id: str, path: str, prefixes: Sequence[str]) -> None:
    """Refuse a callback that the deployment does not allow: whoever edits a connection must not choose code to run.

    :param path: ``package.module:function``.
    :param prefixes: packages and modules from which callbacks may come.
    :raises ConfigurationError: names the prefixes that are allowed.
    """
    module, _, function = path.partition(":")
    if not all(part.isidentifier() for part in module.split(".")) or not function.isidentifier():
        raise ConfigurationError(
            f"the key 'callback' of its extra is {path!r}, but has to be package.module:function.", conn_id=conn_id
        )
    if not any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes):
        allowed = ", ".join(prefixes) or "none"
        raise ConfigurationError(
            f"the key 'callback' of its extra is {path!r}, which this deployment does not "
            f"allow. Allowed are modules under: {allowed} (callback_prefixes in the section [oauth2] of airflow.cfg).",
            conn_id=conn_id,
        )


def request_token(path: str, client: Client, values: Mapping[str, Any]) -> TokenResponse:
    """Have the callback fetch a token.

    :param path: ``package.module:function``, checked by :func:`check_allowed`.
    :param values: what the callback is given: the configuration's current values, in a copy of its own.
    :raises NotConnected: there is no such function: nothing was spent.
    :raises LostResponse: it failed, and may have spent the refresh token before.
    :raises OAuth2ProtocolError: what it returned is no token, as for an answer from the wire.
    """
    function = _load(path)
    try:
        returned = function(dict(values))
    except errors.OAuth2ProtocolError:
        raise
    except Exception as error:  # noqa: BLE001 - anything can come out of foreign code; its text may hold secrets
        raise errors.LostResponse(f"the callback {path} raised {type(error).__name__}{_where(error)}") from None
    secrets = [value for name, value in values.items() if isinstance(value, str) and name in _SECRET_VALUES]
    return parse_token_response(_as_answer(path, returned), secrets, client.dialect)


_SECRET_VALUES = frozenset({"client_secret", "access_token", "refresh_token"})


def _load(path: str) -> Callback:
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise errors.NotConnected(f"the callback {path} cannot be imported ({error})", lasting=True) from None
    if not callable(found):
        raise errors.NotConnected(f"there is no function {name!r} in {module!r}, the callback's module", lasting=True)
    function: Callback = found
    return function


def _as_answer(path: str, returned: object) -> HttpResponse:
    """Return what came back as the answer that a server would have sent."""
    status = 200
    if isinstance(returned, Mapping):
        returned = dict(returned)
        refusal = returned.pop(ERROR_RESPONSE, None)
        if refusal:
            status = 400
            returned = dict(refusal) if isinstance(refusal, Mapping) else {"error": str(refusal)}
    try:
        body = json.dumps(returned).encode()
    except (TypeError, ValueError):
        raise errors.UnexpectedResponse(f"the callback {path} returned what is no JSON", status=200) from None
    return HttpResponse(f"the callback {path}", status, {"content-type": "application/json"}, body)


def _where(error: Exception) -> str:
    """Return the line at which ``error`` arose, for whoever wrote the callback; its text is not shown."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
