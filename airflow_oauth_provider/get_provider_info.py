"""What Airflow reads about this package without importing the rest of it."""

from __future__ import annotations

from typing import Any

from airflow_oauth_provider import __version__
from airflow_oauth_provider.compat.deployment import OPTIONS, SECTION
from airflow_oauth_provider.connection.fields import CONN_TYPE, FIELDS, HOOK_NAME, STANDARD_FIELDS, Field

INTEGRATION = "OAuth 2.0"

# Everything else is text, objects too: Airflow's JSON editor reformats the text whenever it becomes valid, and moves
# the cursor to its end, so that nobody can type into it.
_JSON_TYPES = {"integer": "integer", "number": "number"}


def get_provider_info() -> dict[str, Any]:
    """Describe the package to Airflow's ``ProvidersManager`` (``provider_info.schema.json``).

    :return: a new dictionary at each call.
    """
    package = "airflow_oauth_provider"
    return {
        "package-name": "airflow-oauth-provider",
        "name": INTEGRATION,
        "description": "OAuth 2.0 connections whose access token is always fresh and whose refresh token "
        "is never lost or spent twice.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": "https://www.rfc-editor.org/rfc/rfc6749",
                "tags": ["protocol"],
            }
        ],
        "hooks": [_modules(f"{package}.hooks.oauth2")],
        "operators": [
            _modules(
                f"{package}.operators.refresh_token", f"{package}.operators.http", f"{package}.operators.revoke_token"
            )
        ],
        "sensors": [_modules(f"{package}.sensors.http")],
        "triggers": [_modules(f"{package}.triggers.http", f"{package}.triggers.sign_in")],
        "notifications": [f"{package}.notifications.http.OAuth2HttpNotifier"],
        "extra-links": [f"{package}.links.GrantLink"],
        "connection-types": [
            {
                "connection-type": CONN_TYPE,
                "hook-class-name": f"{package}.hooks.oauth2.OAuth2Hook",
                "hook-name": HOOK_NAME,
                "conn-fields": {field.key: _conn_field(field) for field in FIELDS if field.in_form},
                "ui-field-behaviour": {
                    "hidden-fields": [field.name for field in STANDARD_FIELDS if field.hidden],
                    "relabeling": {field.name: field.title for field in STANDARD_FIELDS if field.title},
                    "placeholders": {field.name: field.placeholder for field in STANDARD_FIELDS if field.placeholder},
                },
            }
        ],
        "cli": [f"{package}.cli.definition.get_cli_commands"],
        # The plugin is an entry point: Airflow ignores "plugins" here by default ([core] lazy_discover_providers).
        "config": {SECTION: _config()},
    }


def _config() -> dict[str, Any]:
    """Describe the settings of the deployment, which ``airflow config list`` then shows."""
    return {
        "description": "Settings of the OAuth 2.0 provider (airflow-oauth-provider).",
        "options": {
            option.name: {
                "description": option.description,
                "version_added": option.version_added,
                "type": option.kind,
                "example": option.example,
                "default": option.default,
                # Else Airflow fills in its own names, and does not start because of other names in braces.
                **({"is_template": True} if "{" in option.default else {}),
            }
            for option in OPTIONS
        },
    }


def _modules(*names: str) -> dict[str, Any]:
    return {"integration-name": INTEGRATION, "python-modules": list(names)}


def _conn_field(field: Field) -> dict[str, Any]:
    """Give one row of the table the form of ``conn-fields``: a label, a help text and a JSON schema."""
    # "null" makes the field optional: without it the form cannot be saved while it is empty.
    schema: dict[str, Any] = {"type": [_JSON_TYPES.get(field.kind, "string"), "null"], "section": field.section}
    choices = ("true", "false") if field.kind == "boolean" else field.choices
    if choices:
        # Airflow's switch has no third state for "the default", so booleans are drop-downs too.
        schema["enum"] = [None, *choices]
        schema["values_display"] = {"null": field.unchosen, **field.labels}
    if field.secret:
        schema["format"] = "password"
    if field.kind == "object":
        schema["format"] = "multiline"
    if field.minimum is not None:
        schema["minimum"] = field.minimum
    if field.maximum is not None:
        schema["maximum"] = field.maximum
    if field.kept:
        # Airflow's form renders a constant as a hidden input, and sends it.
        schema["const"] = schema["default"] = field.default
    return {"label": field.title, "description": field.description, "schema": schema}
