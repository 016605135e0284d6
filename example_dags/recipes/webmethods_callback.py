"""The function of the recipe: put it where workers can import it, and allow it in airflow.cfg."""

from __future__ import annotations

from typing import Any

import requests


def refresh(account: dict[str, Any]) -> dict[str, Any]:
    """Fetch a token by the account's current values.

    It runs within the lease: once, however many tasks wait. What it raises counts as a lost answer.
    """
    answer = requests.post(
        account["oauth_url"],
        data={"grant_type": "refresh_token", "refresh_token": account["refresh_token"]},
        auth=(account["client_id"], account["client_secret"]),
        timeout=account["timeout"],
    )
    body = answer.json()
    if answer.status_code != 200:
        return {"errorResponse": {"error": body.get("error", "invalid_request")}}
    names = ("access_token", "token_type", "expires_in", "refresh_token", "scope")
    return {name: body[name] for name in names if name in body}
