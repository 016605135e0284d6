"""The ready listeners send what they should, to whom they should."""

from __future__ import annotations

import importlib.util
import socketserver
import sys
import threading
import types
from pathlib import Path

import pytest

from airflow_oauth_provider.connection.notices import Notice

EXAMPLES = Path(__file__).resolve().parents[2] / "example_dags" / "notices"
NOTICE = Notice("sign_in_again", "xero", "Sign in again.", "https://airflow.example/page", 1_800_000_000.0)


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RECEIVED = []


class Mailbox(socketserver.StreamRequestHandler):
    """As much of a mail server as smtplib needs (RFC 5321)."""

    def handle(self):
        self.wfile.write(b"220 test\r\n")
        in_message = False
        for raw in self.rfile:
            line = raw.decode().rstrip("\r\n")
            if in_message:
                in_message = line != "."
                if in_message:
                    RECEIVED.append(line)
                    continue
            elif line.upper() == "DATA":
                in_message = True
                self.wfile.write(b"354 go on\r\n")
                continue
            self.wfile.write(b"221 bye\r\n" if line.upper() == "QUIT" else b"250 ok\r\n")
            if line.upper() == "QUIT":
                return


def test_mail(monkeypatch):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("NOTICE_SMTP", f"127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("NOTICE_TO", "team@example.com")
        load("mail_notice").send_mail(NOTICE)
        server.shutdown()

    assert "Subject: Sign in again: xero" in RECEIVED
    assert "To: team@example.com" in RECEIVED
    assert "Sign in again. https://airflow.example/page" in RECEIVED


@pytest.mark.parametrize("kind", ["ends_soon", "sign_in_again", "works_again", "rotation_not_saved"])
def test_slack(monkeypatch, kind):
    sent = []

    class SlackWebhookHook:
        def __init__(self, *, slack_webhook_conn_id):
            self.conn_id = slack_webhook_conn_id

        def send(self, *, text):
            sent.append((self.conn_id, text))

    name = "airflow.providers.slack.hooks.slack_webhook"
    for depth in range(3, len(name.split(".")) + 1):
        part = ".".join(name.split(".")[:depth])
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    sys.modules[name].SlackWebhookHook = SlackWebhookHook

    load("slack_notice").post_to_slack(Notice(kind, "xero", "Text.", "https://airflow.example/page", 0.0))

    ((conn_id, text),) = sent
    assert conn_id == "slack_default"
    assert text.endswith("Text. https://airflow.example/page")
