"""Presets: what the authorization servers of known vendors want, as defaults for a connection's ``extra``.

The data is ``vendors.json`` beside this module; ``schema.json`` says what may stand in it and what each key
means. A preset only fills in what a connection leaves open, so that any key can be set right where a vendor
changed something, or where one application differs from the rest.

Forms list the presets on each start of a web server: importing this module reads no file, and the standard
library is all it needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from airflow_oauth_provider.oauth2.redaction import MASK

URL_KEYS = (
    "oauth_url",
    "refresh_url",
    "revocation_url",
    "introspection_url",
    "authorize_url",
    "device_authorize_url",
    "issuer",
    "host",
)
"""The keys whose values are URLs: the only ones that can hold ``{placeholders}``."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

# A part of a host name or of a path, or a host with its port. A slash, an @, a ? or a # would lead the client's secret
# to another host or path than the template's.
_PARAMETER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?")


class UnknownPresetError(LookupError):
    """There is no preset of that name; the message says which ones there are."""


class PresetParameterError(ValueError):
    """A placeholder in a URL of the preset has no value, or one that cannot be part of a URL."""


@dataclass(frozen=True, slots=True)
class Preset:
    """What one vendor wants.

    :param name: the name that a connection gives as its ``provider``.
    :param title: the name for people.
    :param docs: the vendor's page about it.
    :param confirmed: what was seen where, when the preset was written.
    :param parameters: the placeholders of the URLs, each with a sentence that says what to put there.
    :param defaults: values for keys of ``extra``; URLs as templates.
    :param notes: what a person should know and no key can say.
    """

    name: str
    title: str
    docs: str
    confirmed: str
    parameters: Mapping[str, str]
    defaults: Mapping[str, Any]
    notes: tuple[str, ...]

    def resolve(
        self, parameters: Mapping[str, object] | None = None, given: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Return the defaults that the connection leaves open, with the placeholders of their URLs filled in.

        A placeholder is asked for only if a URL that is still open has it: a connection that sets each URL
        itself needs no parameters.

        :param parameters: the values of the placeholders.
        :param given: what the connection sets itself; ``None``, the empty text and the mask are "not set".
        :raises PresetParameterError: for a placeholder without a value, or with one that does not fit.
        """
        taken = {key for key, value in (given or {}).items() if not is_unset(value)}
        values = parameters or {}
        return {
            key: self._fill(value, values) if key in URL_KEYS else _thaw(value)
            for key, value in self.defaults.items()
            if key not in taken
        }

    def _fill(self, template: str, parameters: Mapping[str, object]) -> str:
        url = template
        for name in placeholders(template):
            value = parameters.get(name)
            if is_unset(value):
                raise PresetParameterError(
                    f"The preset {self.name!r} needs the parameter {name!r}: {self.parameters[name]}"
                )
            text = str(value).strip()
            if not _PARAMETER.fullmatch(text):
                raise PresetParameterError(
                    f"The parameter {name!r} of the preset {self.name!r} is put into a URL: letters, digits, "
                    f"dots, hyphens and underscores only, without https:// and slashes. {self.parameters[name]}"
                )
            url = url.replace("{" + name + "}", text)
        return url


def placeholders(template: str) -> Iterator[str]:
    """Return the names that stand in braces in a URL template, each once, in their order."""
    return iter(dict.fromkeys(_PLACEHOLDER.findall(template)))


@cache
def load_presets() -> Mapping[str, Preset]:
    """Return all presets by name, sorted by name. The first call reads the file."""
    import json
    from importlib.resources import files

    data = json.loads(files(__name__).joinpath("vendors.json").read_text(encoding="utf-8"))
    for vendor in data.values():
        del vendor["facts"]  # those are for the documentation
    return MappingProxyType({name: Preset(name, **_freeze(vendor)) for name, vendor in data.items()})


def preset(name: str) -> Preset:
    """Return the preset of that name.

    :raises UnknownPresetError: if there is none.
    """
    presets = load_presets()
    if name in presets:
        return presets[name]
    import difflib

    close = difflib.get_close_matches(name.strip().lower().replace("-", "_"), presets, n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise UnknownPresetError(f"There is no preset {name!r}.{hint} Presets: {', '.join(presets)}.")


def find_presets(url: str) -> list[str]:
    """Return the presets whose token endpoint has the host of ``url``.

    :param url: a token endpoint, as a connection gives it.
    :return: their names, in order; empty where no vendor is known by that host.
    """
    host = (urlsplit(url).hostname or "").lower()
    return [
        name
        for name, known in load_presets().items()
        if re.fullmatch(_host_pattern(known.defaults["oauth_url"]), host, re.IGNORECASE)
    ]


def _host_pattern(template: str) -> str:
    """Return what hosts of a URL template look like; a host that is all placeholder says nothing of the vendor."""
    host = urlsplit(template).netloc
    fixed = "".join(_PLACEHOLDER.split(host)[::2])
    if not fixed.strip("."):
        return r"(?!)"
    return r"[a-z0-9.-]+".join(re.escape(part) for part in _PLACEHOLDER.split(host)[::2])


def is_unset(value: object) -> bool:
    """Tell whether a form left a field empty: it stores null or "" then, or the ``***`` that Airflow shows."""
    return value is None or (isinstance(value, str) and value.strip() in ("", MASK))


def _freeze(value: Any) -> Any:
    """Return ``value`` so that it cannot be changed: all connections of the process share the presets."""
    if isinstance(value, dict):
        return MappingProxyType({key: _freeze(item) for key, item in value.items()})
    return tuple(_freeze(item) for item in value) if isinstance(value, list) else value


def _thaw(value: Any) -> Any:
    """Return ``value`` as JSON has it, in a copy that the caller owns."""
    if isinstance(value, Mapping):
        return {key: _thaw(item) for key, item in value.items()}
    return [_thaw(item) for item in value] if isinstance(value, tuple) else value


PRESET_LABELS: Mapping[str, str] = MappingProxyType(
    {
        "adobe_acrobat_sign": "Adobe Acrobat Sign: needs shard",
        "airtable": "Airtable",
        "amazon_selling_partner": "Amazon Selling Partner API",
        "asana": "Asana",
        "atlassian": "Atlassian Cloud (Jira, Confluence): needs scope offline_access",
        "auth0": "Auth0: needs domain, scope offline_access",
        "basecamp": "Basecamp: needs account_id",
        "box": "Box",
        "calendly": "Calendly",
        "clover": "Clover (North America)",
        "constant_contact": "Constant Contact: needs scope offline_access",
        "docusign": "DocuSign: needs account_host",
        "dropbox": "Dropbox",
        "ebay": "eBay",
        "etsy": "Etsy",
        "exact_online": "Exact Online: needs tld",
        "figma": "Figma",
        "fitbit": "Fitbit",
        "freshbooks": "FreshBooks",
        "github": "GitHub App (user access tokens)",
        "gitlab": "GitLab: needs gitlab_host",
        "gong": "Gong",
        "google": "Google",
        "hubspot": "HubSpot",
        "linear": "Linear",
        "linkedin": "LinkedIn",
        "microsoft_entra": "Microsoft Entra ID: needs tenant, scope offline_access",
        "miro": "Miro",
        "notion": "Notion",
        "okta": "Okta: needs domain, server, scope offline_access",
        "pipedrive": "Pipedrive",
        "procore": "Procore",
        "quickbooks": "Intuit QuickBooks Online",
        "reddit": "Reddit",
        "ringcentral": "RingCentral",
        "salesforce": "Salesforce: needs domain, scope refresh_token",
        "shopify": "Shopify (expiring offline tokens): needs shop",
        "slack": "Slack (token rotation)",
        "smartcar": "Smartcar",
        "snowflake": "Snowflake OAuth (custom client): needs account",
        "spotify": "Spotify",
        "square": "Square",
        "strava": "Strava",
        "x": "X (Twitter): needs scope offline.access",
        "xero": "Xero: needs scope offline_access",
        "zoho": "Zoho: needs dc",
        "zoom": "Zoom",
    }
)
"""By the name of the preset: the vendor, and after a colon the parameters and the scope that it needs."""
