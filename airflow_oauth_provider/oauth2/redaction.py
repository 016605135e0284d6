"""Make text of foreign origin fit to be shown."""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from html import unescape
from urllib.parse import quote, quote_plus, unquote_plus, urlsplit

#: What stands in place of a secret; the mark that Airflow uses, too.
MASK = "***"

# Tokens and secrets that nobody told us of still look alike: a long run without a space in which digits are mixed
# with letters. Hiding a trace id now and then is the price.
_OPAQUE = re.compile(r"(?=[\w~+/=.%-]*\d)[\w~+/=.%-]{16,}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


#: What is looked at of a foreign text; far more than is ever shown.
_LONGEST = 4000
_ENCODED_RUN = re.compile(r"[A-Za-z0-9+/_-]{8,}")
_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))")
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


def redact(text: str, secrets: Iterable[str | None] = (), *, limit: int = 200) -> str:
    """Return ``text`` without secrets, control characters and excess length.

    :param text: an error text of a server, for instance, which may echo what it was sent.
    :param secrets: values that must not show, in any of the encodings that OAuth requests use. Where one shows in
        some other encoding, nothing of the text is returned.
    :param limit: the most characters to return.
    """
    text = text[:_LONGEST]
    known = [secret for secret in secrets if secret]
    for secret in known:
        for form in _encodings(secret):
            text = text.replace(form, MASK)
    if _shows_one_of(known, text):
        return MASK
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


def _shows_one_of(secrets: list[str], text: str) -> bool:
    """Tell whether a secret can be read out of ``text`` by undoing up to three encodings."""
    cores = [core for secret in secrets if len(core := _core(secret)) >= 4]
    readings = {text}
    for _ in range(3):
        if any(core in _core(reading) for core in cores for reading in readings):
            return True
        readings = {decoded for reading in readings for decoded in _decoded(reading)} - readings
    return any(core in _core(reading) for core in cores for reading in readings)


def _core(text: str) -> str:
    return _NOT_ALPHANUMERIC.sub("", text).lower()


def _decoded(text: str) -> Iterator[str]:
    yield unquote_plus(text)
    yield unescape(text)
    yield _ESCAPED.sub(lambda found: chr(int(found[1] or found[2], 16)) if found[1] or found[2] else found[3], text)
    for run in _ENCODED_RUN.findall(text):
        with suppress(ValueError):
            yield urlsafe_b64decode(run.replace("+", "-").replace("/", "_") + "=" * (-len(run) % 4)).decode("latin-1")
        with suppress(ValueError):
            yield bytes.fromhex(run).decode("latin-1")


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
