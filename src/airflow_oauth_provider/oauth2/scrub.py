"""Make text of foreign origin fit to be shown."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, urlsplit

#: What stands in place of a secret; the mark that Airflow uses, too.
MASK = "***"

# Tokens and secrets that nobody told us of still look alike: a long run without a space in which digits are mixed
# with letters. Hiding a trace id now and then is the price.
_OPAQUE = re.compile(r"(?=[\w~+/=.%-]*\d)[\w~+/=.%-]{16,}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def scrub(text: str, secrets: Iterable[str | None] = (), *, limit: int = 200) -> str:
    """Return ``text`` without secrets, control characters and excess length.

    :param text: an error text of a server, for instance, which may echo what it was sent.
    :param secrets: values that must not show, in any of the encodings that OAuth requests use.
    :param limit: the most characters to return.
    """
    for secret in secrets:
        if secret:
            for form in _encodings(secret):
                text = text.replace(form, MASK)
    text = _UNPRINTABLE.sub(" ", text)
    text = _OPAQUE.sub(MASK, text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _encodings(secret: str) -> list[str]:
    forms = {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        secret.encode("unicode_escape").decode("ascii"),
        b64encode(secret.encode()).decode("ascii"),
    }
    # The longest first: a form that holds another one would else leave its rest behind.
    return sorted(forms, key=len, reverse=True)


def show_url(url: str) -> str:
    """Return ``url`` without user, query and fragment, for logs and errors (RFC 6749 section 2.3.1)."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(a malformed URL)"
    if ":" in host:
        host = f"[{host}]"
    return f"{parts.scheme}://{host}{port}{parts.path}"
