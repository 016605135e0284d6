"""What a failed API request tells people: enough to act upon, and nothing secret."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.exceptions import ConnectTimeout, ProxyError, TooManyRedirects
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from airflow_oauth_provider.exceptions import ApiError, name_connection
from airflow_oauth_provider.oauth2.redaction import MASK, is_secret_name, redact, redact_members, show_url

#: Characters of a response's body that are shown; four times as many bytes are looked at.
SHOWN = 500
#: Characters of any other foreign text that are looked at.
_LOOKED_AT = 2000

# What an error that was made presentable still knows: its text, and whether its request can have been taken.
_FIT_TO_SHOW, _UNSENT = "fit_to_show", "never_connected"

# Both take time in proportion to the text.
_OBJECT = re.compile(r"<[^<>]{0,200}object at 0x[0-9a-f]{1,20}>:?\s{0,20}")
_CALL = re.compile(r"^\w{1,60}+\([^()]{0,200}+\):\s{0,20}")
#: Parameters of a query that are secret there and nowhere else: an authorization code, and what goes with it.
_SECRET_IN_QUERY = frozenset({"code", "state"})


class _Reason(str):
    """A text that keeps why there was no connection, where ``HttpHook`` looks for it to go on to the next host."""

    __slots__ = ("reason",)
    reason: Exception


def check_status(response: requests.Response, conn_id: str) -> None:
    """Raise ApiError for an answer with an error status.

    One below 200 is an error as well: a hint such as 103 is not yet the answer, and ``http.client`` takes it for one.
    """
    if not 200 <= response.status_code < 400:
        raise api_error(response, conn_id)


def api_error(response: requests.Response, conn_id: str) -> ApiError:
    """Return the error that says which request was answered how; its text begins as HttpHook's (``404:Not Found``)."""
    request = response.request
    method = request.method if request is not None else ""
    where = f"{method} {show_target(response.url or '')}".strip()
    reason = redact(str(response.reason or "")[:_LOOKED_AT], limit=100)
    text = f"{response.status_code}:{reason} - Connection {conn_id!r}: {where} answered {response.status_code}"
    body = _body(response)
    text = f"{text}: {body}" if body else f"{text}, with an empty body"
    if response.status_code == 407:
        text = f"{text} {_PROXY_REFUSES}"
    return ApiError(text, status_code=response.status_code)


_PROXY_REFUSES = (
    "That is the proxy, which wants a user and a password: put them into 'proxies' of the connection's extra "
    "(http://user:password@host:port)."
)


def presentable(
    error: requests.RequestException,
    method: str,
    conn_id: str,
    bare: Callable[[requests.PreparedRequest], requests.PreparedRequest],
) -> requests.RequestException:
    """Return an error of the same type that names the connection and has no secret in its text, or in its request.

    :param method: of the request, where the error does not know it.
    :param bare: makes a copy of a request without what is secret.
    """
    request = error.request
    url = getattr(request, "url", None)
    if isinstance(getattr(error, _FIT_TO_SHOW, None), str) or not url:
        return error
    bared = bare(request) if isinstance(request, requests.PreparedRequest) else None
    url = url if bared is None else bared.url
    text = _Reason(failure_text(getattr(request, "method", None) or method, url, error, conn_id))
    clean = type(error)(text)
    clean.response, clean.request = error.response, bared
    setattr(clean, _FIT_TO_SHOW, str(text))
    setattr(clean, _UNSENT, never_connected(error))
    if never_connected(error):
        text.reason = ConnectTimeoutError(None, str(text))
    return clean


def never_connected(error: BaseException) -> bool:
    """Tell whether the connection did not come about, so that the request cannot have been taken."""
    known = getattr(error, _UNSENT, None)
    if known is not None:
        return bool(known)
    if isinstance(error, ConnectTimeout | ProxyError):
        return True
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)


def mark_unsent(error: requests.RequestException) -> requests.RequestException:
    """Note that the connection did not come about; for clients other than ``requests``."""
    setattr(error, _UNSENT, True)
    return error


def failure_text(method: str | None, url: str | None, error: BaseException, conn_id: str) -> str:
    """Return what to say of a request that got no answer: not the text of ``error``, which quotes the URL."""
    known = getattr(error, _FIT_TO_SHOW, None)
    if isinstance(known, str):
        return known
    request = name_connection(conn_id, f"{method} {show_target(url or '')}")
    if isinstance(error, TooManyRedirects):
        return (
            f"{request} was redirected more than 'max_redirects' times: the addresses lead in a circle, or more "
            "redirects have to be allowed"
        )
    causes = list(_causes(error))
    if any("407" in str(cause)[:_LOOKED_AT] for cause in causes if "Proxy" in str(cause)[:_LOOKED_AT]):
        return f"{request} got no answer (407 Proxy Authentication Required). {_PROXY_REFUSES}"
    reason = next((str(c) for c in reversed(causes) if str(c) and not isinstance(c, requests.RequestException)), "")
    reason = _CALL.sub("", _OBJECT.sub("", reason[:_LOOKED_AT]))
    kind = type(error).__name__
    shown = f"{kind}: {redact(redact_members(reason))}" if reason else kind
    return f"{request} got no answer ({shown})"


def show_target(url: str) -> str:
    """Return ``url`` with its query, but without what may be secret in it."""
    url = url[: 2 * _LOOKED_AT]
    try:
        query = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    except ValueError:
        return show_url(url)
    shown = "&".join(
        f"{name}={MASK if is_secret_name(name) or name.lower() in _SECRET_IN_QUERY else redact(value, limit=60)}"
        for name, value in query
    )
    return f"{show_url(url)}?{shown}" if shown else show_url(url)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and what lies behind it, also where urllib3 keeps it in ``args`` and ``reason``."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        inner = [following.__cause__, getattr(following, "reason", None), *following.args, following.__context__]
        following = next((item for item in inner if isinstance(item, BaseException) and id(item) not in seen), None)


def _body(response: requests.Response) -> str:
    content = _first_bytes(response, 4 * SHOWN)
    try:
        # UTF-16 shows in how the bytes begin. Not to its end: the last character may be cut off.
        text = codecs.getincrementaldecoder(json.detect_encoding(content))().decode(content)
    except UnicodeDecodeError:
        text = _decode(content, response.encoding)
    return redact(redact_members(text), _sent_secrets(response), limit=SHOWN).strip()


def _decode(content: bytes, charset: str | None) -> str:
    try:
        return content.decode(charset or "utf-8", errors="replace")
    except (LookupError, ValueError):  # no charset, or none of those that can replace what they do not know
        return content.decode("utf-8", errors="replace")


def _first_bytes(response: requests.Response, size: int) -> bytes:
    """Return the beginning of the body, of which no more is read than that if nobody has read it yet."""
    if getattr(response, "_content", False) is not False:
        return (response.content or b"")[:size]
    try:
        return next(response.iter_content(size), b"")
    except (requests.RequestException, RuntimeError):  # broken off, or read by somebody else already
        return b""
    finally:
        response.close()


def _sent_secrets(response: requests.Response) -> Iterator[str]:
    """Yield what the request carried that an answer might quote."""
    request = response.request
    for name, value in (request.headers if request is not None else {}).items():
        if is_secret_name(name) and value:
            shown = value if isinstance(value, str) else value.decode("latin-1")
            yield shown
            yield shown.rpartition(" ")[2]
