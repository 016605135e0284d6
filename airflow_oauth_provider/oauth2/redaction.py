"""What looks secret, and how text of foreign origin is made fit to be shown.

This is the one place of the package that knows names and shapes of secrets. Each function looks at a bounded part of
its text and takes time in proportion to it, whatever the text is.
"""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Iterable, Iterator
from html import unescape
from urllib.parse import quote, quote_plus, unquote_plus, urlsplit

#: What stands in place of a secret; the mark that Airflow uses, too.
MASK = "***"

#: Characters of a foreign text that are looked at; far more than is ever shown.
MAX_TEXT = 4000
#: Characters of a name that are looked at.
_MAX_NAME = 100

# Found anywhere in a name, its separators left out.
_SECRET_PARTS = (
    "token", "secret", "passw", "passphrase", "pwd", "apikey", "accesskey", "privatekey", "subscriptionkey",
    "signingkey", "signature", "credential", "cookie", "assertion", "session", "authoriz", "bearer", "jwt",
    "devicecode", "usercode", "codeverifier",
)  # fmt: skip
# Found as a word of a name: "X-Notif-Key", "sharedKey", "sig".
_SECRET_WORDS = frozenset(
    {"key", "keys", "sig", "auth", "authentication", "sid", "pass", "pin", "otp", "hmac", "nonce"}
)
# Named like secrets, and none.
_PUBLIC_NAMES = frozenset(
    {
        "tokentype", "tokentypehint", "issuedtokentype", "subjecttokentype", "actortokentype", "requestedtokentype",
        "tokenendpoint", "tokenurl", "tokenstatus", "authmethod", "authtime", "authorizationendpoint",
        "unsupportedtokentype", "wwwauthenticate",
    }
)  # fmt: skip
# Parameters of requests to an authorization server (RFC 6749, RFC 7009, RFC 7523, RFC 8707).
_PUBLIC_PARAMETERS = frozenset(
    {"grant_type", "scope", "client_id", "audience", "resource", "token_type_hint", "client_assertion_type"}
)
# Header fields of requests that say nothing secret (RFC 9110 sections 10 and 12, RFC 9111, RFC 7240).
_PUBLIC_HEADERS = frozenset(
    {
        "accept", "api-version", "cache-control", "connection", "expect", "host", "pragma", "prefer", "range", "te",
        "user-agent", "version",
    }
)  # fmt: skip
_PUBLIC_HEADER_BEGINS = ("accept-", "content-", "if-")
_PUBLIC_HEADER_ENDS = ("-version",)

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# A member of JSON, or of what prints a dict; a JSON text may stand, escaped, within another one.
_MEMBER = re.compile(r"""(\\{0,8})(["'])([^"'\\]{1,100})\1\2\s{0,20}:\s{0,20}\1\2""")
_STRING_END = {'"': re.compile(r'(?:[^"\\]|\\.)*+', re.DOTALL), "'": re.compile(r"(?:[^'\\]|\\.)*+", re.DOTALL)}
# A field of a form or of a header: "token=abc", "X-Api-Key: abc", "Authorization: Bearer abc".
_FIELD = re.compile(
    r"""(?<![\w-])([\w-]{1,100}+)(=|:\ {0,2}(?=\S))((?:(?:bearer|basic|dpop|token|digest)\ {1,2})?[^\s&,;"'<]++)""",
    re.IGNORECASE | re.VERBOSE,
)
# Tokens and secrets that nobody told us of still look alike: a long run without a space in which digits are mixed
# with letters. Hiding a trace id now and then is the price.
_RUN = re.compile(r"[\w~+/=.%-]{16,}+")
# Control characters, and those that change the direction of text or cannot be seen: none of them reaches a terminal.
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]+"
)
_ENCODED_RUN = re.compile(r"[A-Za-z0-9+/_-]{8,}+")
_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))")
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


def is_secret_name(name: str) -> bool:
    """Tell whether a value of this name has to be taken for a secret.

    :param name: of a parameter, a header field or a member of JSON, in any spelling (``api_key``, ``apiKey``).
    """
    name = name[:_MAX_NAME]
    core = _NOT_ALPHANUMERIC.sub("", name).lower()
    if core in _PUBLIC_NAMES:
        return False
    if any(part in core for part in _SECRET_PARTS):
        return True
    return any(word.lower() in _SECRET_WORDS for word in _WORD.findall(name))


def is_public_parameter(name: str) -> bool:
    """Tell whether a parameter of a request to an authorization server is none of its secrets."""
    return name in _PUBLIC_PARAMETERS


def is_public_header(name: str) -> bool:
    """Tell whether a request's header field certainly holds no secret; whatever is not known may hold one.

    :param name: of the field, in any case.
    """
    field = name.strip().lower()
    known = field in _PUBLIC_HEADERS or field.startswith(_PUBLIC_HEADER_BEGINS) or field.endswith(_PUBLIC_HEADER_ENDS)
    return known and not is_secret_name(field)


def redact(text: str, secrets: Iterable[str | None] = (), *, limit: int = 200) -> str:
    """Return ``text`` without secrets, control characters and excess length.

    :param text: an error text of a server, for instance, which may echo what it was sent.
    :param secrets: values that must not show, in any of the encodings that OAuth requests use. Where one shows in
        some other encoding, nothing of the text is returned.
    :param limit: the most characters to return.
    """
    known = [secret for secret in secrets if secret]
    forms = [form for secret in known for form in _encode(secret)]
    is_cut = len(text) > MAX_TEXT
    text = text[:MAX_TEXT]
    for form in forms:
        text = text.replace(form, MASK)
    if is_cut and forms:
        text = text[: -max(map(len, forms))]  # where half a secret may stand
    if _shows_one_of(known, text):
        return MASK
    text = _UNPRINTABLE.sub(" ", text)
    text = _RUN.sub(lambda run: MASK if any(char.isdigit() for char in run[0]) else run[0], text)
    return _cut(text, limit)


def redact_members(text: str) -> str:
    """Return ``text`` with the values of members and fields starred whose names say that they are secret.

    :param text: JSON, a form, header fields, or prose with such in it; the first :data:`MAX_TEXT` characters count.
    """
    text = text[:MAX_TEXT]
    kept: list[str] = []
    position = 0
    while (member := _MEMBER.search(text, position)) is not None:
        end = member.end()
        kept.append(text[position:end])
        if is_secret_name(member[3]):
            kept.append(MASK)
            end = _find_end(text, end, member[1], member[2])
        position = end
    kept.append(text[position:])
    return _FIELD.sub(_redact_field, "".join(kept))


def make_printable(text: str, *, limit: int = 200) -> str:
    """Return ``text`` fit for a terminal: on one line, without escape sequences, no longer than ``limit``.

    :param text: what a server wants a person to read, such as a code to enter; it is no secret from that person.
    :param limit: the most characters to return.
    """
    return _cut(_UNPRINTABLE.sub(" ", text[:MAX_TEXT]).strip(), limit)


def show_url(url: str) -> str:
    """Return ``url`` without user, query and fragment, for logs and errors (RFC 6749 section 2.3.1)."""
    try:
        parts = urlsplit(url[:MAX_TEXT])
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(a malformed URL)"
    if ":" in host:
        host = f"[{host}]"
    return make_printable(f"{parts.scheme}://{host}{port}{parts.path}", limit=500)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _find_end(text: str, start: int, escape: str, quotation: str) -> int:
    """Return where the string that begins at ``start`` ends; the end of the text where it was cut."""
    if escape:
        end = text.find(escape + quotation, start)
        return len(text) if end < 0 else end
    found = _STRING_END[quotation].match(text, start)
    return start if found is None else found.end()


def _redact_field(field: re.Match[str]) -> str:
    name, sign, value = field.groups()
    # In prose a colon follows any word ("invalid token: expired"); a header field has a name of several words, or one
    # of its own.
    is_named = sign == "=" or "-" in name or name.lower() in ("authorization", "cookie")
    return f"{name}{sign}{MASK}" if is_named and is_secret_name(name) else f"{name}{sign}{value}"


def _encode(secret: str) -> list[str]:
    forms = {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        secret.encode("unicode_escape").decode("ascii"),
        b64encode(secret.encode(errors="replace")).decode("ascii"),
    }
    # The longest first: a form that holds another one would else leave its rest behind.
    return sorted(forms, key=len, reverse=True)


def _shows_one_of(secrets: list[str], text: str) -> bool:
    """Tell whether a secret can be read out of ``text`` by undoing up to three encodings."""
    cores = [core for secret in secrets if len(core := _core(secret)) >= 4]
    readings = {text} if cores else set()
    for _ in range(4):
        if any(core in read for read in map(_core, readings) for core in cores):
            return True
        readings = {decoded for reading in readings for decoded in _decode(reading)} - readings
    return False


def _core(text: str) -> str:
    return _NOT_ALPHANUMERIC.sub("", text).lower()


def _decode(text: str) -> Iterator[str]:
    """Yield ``text`` as it reads with one encoding undone; each is about as long as it."""
    yield unquote_plus(text)
    yield unescape(text)
    yield _ESCAPED.sub(lambda found: chr(int(found[1] or found[2], 16)) if found[1] or found[2] else found[3], text)
    yield _ENCODED_RUN.sub(lambda run: _decode_base64(run[0]), text)
    yield _ENCODED_RUN.sub(lambda run: _decode_hex(run[0]), text)


def _decode_base64(run: str) -> str:
    try:
        return urlsafe_b64decode(run.replace("+", "-").replace("/", "_") + "=" * (-len(run) % 4)).decode("latin-1")
    except ValueError:
        return run


def _decode_hex(run: str) -> str:
    try:
        return bytes.fromhex(run).decode("latin-1")
    except ValueError:
        return run
