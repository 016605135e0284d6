"""Looks at the connection form as this Airflow builds it: `python -m tests.matrix.form_probe`, in a process of its own.

Airflow 3 describes the form to the browser, and this prints what it says of ours. Airflow 2.11 renders it, and
this prints the page, and what a save makes of stored values that nobody touched.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

CONN_ID = "stored"
STORED = {
    "token_url": "https://login.example.com/token",
    "refresh_token": "a-refresh-token",
    "verify": False,
    "resend_lost_response": False,
    "leeway": 0,
    "timeout": 12.5,
    "headers": {"Accept": "text/csv"},
    "allowed_hosts": ["https://a.example", "b.example"],
    "cert": ["/a.pem", "/a.key"],
    "my_own": {"a": [1, None]},
    "token_record": "kept-record",
}


def described() -> dict[str, Any]:
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    (ours,) = [hook for hook in HookMetaService.hook_meta_data() if hook.connection_type == "oauth2"]
    return ours.model_dump(mode="json")


def rendered() -> dict[str, Any]:
    os.environ[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = json.dumps({"conn_type": "oauth2", "extra": STORED})
    from flask import Flask
    from flask_babel import Babel
    from werkzeug.datastructures import MultiDict

    app = Flask("form")
    app.config.update(SECRET_KEY="none", WTF_CSRF_ENABLED=False)
    Babel(app)
    with app.test_request_context("/"):
        from airflow.www.forms import create_connection_form_class
        from airflow.www.views import ConnectionModelView

        view = ConnectionModelView.__new__(ConnectionModelView)
        view.extra_fields = [name for name in dir(create_connection_form_class()) if name.startswith("extra__")]
        opened = create_connection_form_class()(data={"conn_id": CONN_ID, "extra": json.dumps(STORED)})
        view.prefill_form(opened, 1)
        ours = [field for field in opened if field.name.startswith("extra__oauth2__")]
        page = "\n".join(str(field()) for field in ours)
        sent = MultiDict({field.name: _value(str(field())) for field in ours})
        sent.update({"conn_id": CONN_ID, "conn_type": "oauth2", "extra": opened.extra.data})
    with app.test_request_context("/", method="POST", data=sent):
        saved = create_connection_form_class()(sent)
        view.process_form(saved, is_created=False)
        return {
            "fields": [field.name.removeprefix("extra__oauth2__") for field in ours],
            "page": page,
            "errors": saved.errors if not saved.validate() else {},
            "saved": json.loads(saved.extra.data),
        }


def _value(element: str) -> str:
    """What a browser would send for an element."""
    from html.parser import HTMLParser

    found = [""]

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            named = dict(attributes)
            if tag == "input" or (tag == "option" and "selected" in named):
                found.append(named.get("value") or "")

    Reader().feed(element)
    return found[-1]


if __name__ == "__main__":
    import airflow

    found = rendered() if airflow.__version__.startswith("2.") else described()
    sys.stdout.write("\nPROBE " + json.dumps(found) + "\n")
