"""What page and command say of the scopes that were granted."""

from __future__ import annotations

import pytest

from airflow_oauth_provider.cli.authorize import _report
from airflow_oauth_provider.connection.sign_in import compare_scopes
from airflow_oauth_provider.oauth2.client import Client
from airflow_oauth_provider.oauth2.grants import GrantOptions
from airflow_oauth_provider.tokens.configuration import GrantConfiguration
from airflow_oauth_provider.tokens.record import Record


@pytest.mark.parametrize(
    ("asked", "granted", "missing"),
    [
        ("read write", "read write", ()),
        ("read write", "read", ("write",)),
        ("read write", None, ()),  # nothing said: as asked for (RFC 6749 section 5.1)
        ("repo user", "repo,user", ()),
        ("read offline_access", "read", ()),
        ("Mail.Read", "https://graph.microsoft.com/Mail.Read", ()),
        ("https://graph.microsoft.com/Mail.Read", "Mail.Read", ()),
        ("api://7f1c/Data.Read", "Data.Read", ()),
        ("openid email", "openid https://www.googleapis.com/auth/userinfo.email", ()),
        ("read", "orders.read", ("read",)),
        ("orders.read", "read", ("orders.read",)),
        ("Read", "https://graph.microsoft.com/Mail.Read", ("Read",)),
        ("contacts/read", "read", ("contacts/read",)),
        ("https://a.example/read", "https://b.example/read", ("https://a.example/read",)),
    ],
)
def test_what_was_asked_for_and_not_granted_is_named(asked, granted, missing):
    client = Client("client", "https://as.example/token")
    configuration = GrantConfiguration("acme", client, options=GrantOptions(scope=asked))

    assert compare_scopes(configuration, Record(scope=granted))[1] == missing


@pytest.mark.parametrize(
    ("asked", "granted", "said"),
    [
        ("repo user offline_access", "repo,user", ["scope           repo user"]),
        (
            "Mail.Read",
            "https://graph.microsoft.com/Mail.Read",
            ["scope           https://graph.microsoft.com/Mail.Read"],
        ),
        ("read write", "read", ["scope           read", "not granted     write"]),
        ("read", None, []),
    ],
)
def test_the_command_compares_them_as_the_page_does(capsys, asked, granted, said):
    client = Client("client", "https://as.example/token")
    configuration = GrantConfiguration("acme", client, options=GrantOptions(scope=asked))

    _report("acme", configuration, Record(refresh_token="r", scope=granted), "connection")

    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line.startswith(("scope", "not granted"))] == said
