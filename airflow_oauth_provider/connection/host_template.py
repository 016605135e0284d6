"""A base URL that only the token endpoint knows, such as Salesforce's ``instance_url`` or Zoho's ``api_domain``.

Whoever enters ``{instance_url}`` as host says that the token may go where the answer says. It goes there over TLS only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.oauth2.client import is_secure
from airflow_oauth_provider.oauth2.redaction import show_url

_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def is_template(host: str) -> bool:
    """Tell whether ``host`` has names in braces."""
    return _NAME.search(host) is not None


def fill(conn_id: str, template: str, members: Mapping[str, Any]) -> str:
    """Return the base URL.

    :param conn_id: the connection, for messages.
    :param template: a host with names in braces.
    :param members: the members of the token endpoint's answer, without secrets.
    :raises ConfigurationError: when a member is missing, or the result is no https URL.
    """

    def member(match: re.Match[str]) -> str:
        value = members.get(match[1])
        if not isinstance(value, str) or not value:
            there = ", ".join(sorted(name for name, known in members.items() if isinstance(known, str))) or "none"
            raise ConfigurationError(
                f"its host is {template!r}, but the last response of the token endpoint has no text under "
                f"{match[1]!r}. It has: {there}. (Tokens in a variable in clear never say where the API is.)",
                conn_id=conn_id,
            )
        return value.rstrip("/")

    url = _NAME.sub(member, template)
    if "://" not in url:
        url = f"https://{url}"
    if not is_secure(url):
        raise ConfigurationError(
            f"its host {template!r} comes to {show_url(url)!r}, where the token may not go: it has to be an https URL.",
            conn_id=conn_id,
        )
    return url.rstrip("/")
