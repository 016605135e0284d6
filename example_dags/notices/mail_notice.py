"""Mails when a person has to do something about a grant.

Put this module where every Airflow process imports it, such as the plugins folder, and name it in airflow.cfg:

    [oauth2]
    listeners = mail_notice:send_mail

It reads where to send from the environment, and needs no provider.
"""

from __future__ import annotations

import os
import smtplib
from email.message import EmailMessage

from airflow_oauth_provider.connection.notices import Notice

SUBJECTS = {
    "sign_in_again": "Sign in again",
    "ends_soon": "Sign in soon",
    "works_again": "Works again",
    "rotation_not_saved": "Tokens not saved",
}


def send_mail(notice: Notice) -> None:
    """Send one mail. The text says what to do, and has the address of the page where it is done."""
    message = EmailMessage()
    message["Subject"] = f"{SUBJECTS[notice.kind]}: {notice.conn_id}"
    message["From"] = os.environ.get("NOTICE_FROM", "airflow@localhost")
    message["To"] = os.environ.get("NOTICE_TO", "data-team@localhost")
    message.set_content(str(notice))
    server, _, port = os.environ.get("NOTICE_SMTP", "localhost:25").partition(":")
    with smtplib.SMTP(server, int(port or 25), timeout=10) as smtp:
        smtp.send_message(message)
