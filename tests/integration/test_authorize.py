"""``authorize`` against the real oidc-provider, into every store; the test plays the person's browser."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration._cli_airflow import Home, Running
from tests.servers.authorization_server import AuthorizationServer
from tests.servers.openbao import OpenBao
from tests.servers.sign_in import approve_device, authorize_in_browser


def new_key():
    made = ec.generate_private_key(ec.SECP256R1())
    return made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


BINDING = new_key()


@pytest.fixture(scope="module")
def server():
    with AuthorizationServer(access_token_lifetime=600) as server:
        yield server


@pytest.fixture(scope="module")
def bao():
    with OpenBao() as bao:
        yield bao


@pytest.fixture(scope="module")
def home(server, bao):
    with Home() as home:
        (home.folder / "account.json").write_text(json.dumps({"flow": "nightly"}))
        home.add_connections(
            bao={
                "conn_type": "vault",
                "host": bao.address.removeprefix("http://").partition(":")[0],
                "port": int(bao.address.rpartition(":")[2]),
                "password": bao.root_token,
                "schema": "secret",
                "extra": {"auth_type": "token", "kv_engine_version": 2, "use_tls": False},
            },
            by_variable=connection(server, store="variable", refresh_token="entered-long-ago-and-spent"),
            by_connection=connection(server),
            by_vault=connection(server, store="vault", vault_conn_id="bao", vault_path="airflow/one"),
            by_file=connection(server, store="file", file_path=str(home.folder / "account.json")),
            by_device=connection(server, client="basic"),
            by_hand=connection(server, issuer=None, authorize_url=server.authorization_url, oauth_url=server.token_url),
            public=connection(server, client="public", auth_method="none"),
            bound=connection(server, client="public", auth_method="none", dpop_private_key=BINDING),
            bound_by_device=connection(server, dpop_private_key=BINDING),
            service=connection(server, grant_type="client_credentials"),
        )
        yield home


def connection(server, client="basic", **extra):
    registered = server.client(client)
    return {
        "conn_type": "oauth2",
        "host": server.api_url,
        "login": registered.client_id,
        "password": registered.client_secret,
        "extra": {"issuer": server.issuer, "scope": "read write", **extra},
    }


def browse(running: Running, change=lambda arrived: arrived) -> requests.Response:
    """Be the person: open the address, sign in, and come back to the redirect address."""
    url = running.line("http")
    redirect_uri = running.line("Waiting").split("back to ")[1].removesuffix(" ...")
    with requests.Session() as browser:
        browser.trust_env = False
        arrived = authorize_in_browser(browser, url, redirect_uri)
        running.code = arrived.get("code", "-")
        return browser.get(f"{redirect_uri}?{urlencode(change(arrived))}", timeout=30)


def sign_in(home, *arguments):
    running = Running(home, "authorize", *arguments, "--no-browser")
    page = browse(running)
    assert page.status_code == 200
    code, output = running.finish()
    assert code == 0, output
    assert running.code not in output
    return output


@pytest.mark.parametrize("store", ["variable", "connection", "vault", "file"])
def test_the_tokens_are_where_tasks_look_and_work(home, server, store):
    conn_id = f"by_{store}"
    output = sign_in(home, conn_id)
    assert f"store {store!r}" in output
    used = home.use(conn_id)
    assert used["status"] == 200
    assert used["generation"] == 1
    for secret in (used["access_token"], used["refresh_token"], server.client().client_secret):
        assert secret not in output
    # The tokens were there: nobody has refreshed, and what was entered long ago was not tried.
    assert all(entry["error"] is None for entry in server.token_log())
    assert server.stats()["spends"] == 0

    sign_in(home, conn_id)
    again = home.use(conn_id)
    assert again["generation"] == 2
    assert again["refresh_token"] != used["refresh_token"]


def test_a_file_keeps_its_other_members(home, server):
    if "refresh_token" not in json.loads((home.folder / "account.json").read_text()):
        sign_in(home, "by_file")
    document = json.loads((home.folder / "account.json").read_text())
    assert document["flow"] == "nightly"
    assert document["refresh_token"] == document["token_record"]["refresh_token"]


def test_on_another_device(home, server):
    running = Running(home, "authorize", "by_device", "--device")
    assert "enter the code" in running.line("Open")
    approve_device(server, running.line("or open").split()[-1])
    code, output = running.finish()
    assert code == 0, output
    used = home.use("by_device")
    assert used["status"] == 200
    assert used["refresh_token"] not in output


def test_a_public_client(home):
    sign_in(home, "public")
    assert home.use("public")["status"] == 200


@pytest.fixture
def nonces(server):
    server.configure(dpop_nonce=True, api_dpop_nonce="of-the-api")
    yield
    server.configure(dpop_nonce=False, api_dpop_nonce=None)


@pytest.mark.usefixtures("nonces")
def test_tokens_that_are_bound_to_a_key_from_the_first_one_on(home, server):
    """RFC 9449 sections 5 and 10: the code is bound as well."""
    running = Running(home, "authorize", "bound", "--no-browser")
    url = running.line("http")
    assert "dpop_jkt=" in url
    redirect_uri = running.line("Waiting").split("back to ")[1].removesuffix(" ...")
    with requests.Session() as browser:
        arrived = authorize_in_browser(browser, url, redirect_uri)
        assert browser.get(f"{redirect_uri}?{urlencode(arrived)}", timeout=30).status_code == 200
    code, output = running.finish()
    assert code == 0, output
    used = home.use("bound")
    assert (used["status"], used["token_type"], used["generation"]) == (200, "DPoP", 1)
    assert all(line not in output for line in BINDING.splitlines()[1:-1])


@pytest.mark.usefixtures("nonces")
def test_bound_tokens_by_another_device(home, server):
    running = Running(home, "authorize", "bound_by_device", "--device")
    approve_device(server, running.line("or open").split()[-1])
    code, output = running.finish()
    assert code == 0, output
    used = home.use("bound_by_device")
    assert (used["status"], used["token_type"]) == (200, "DPoP")


def test_endpoints_given_by_hand(home):
    sign_in(home, "by_hand", "--scope", "read")
    assert home.use("by_hand")["scope"] == "read"


def test_an_answer_with_another_state_does_not_count(home):
    running = Running(home, "authorize", "by_variable", "--no-browser")
    url = running.line("http")
    redirect_uri = running.line("Waiting").split("back to ")[1].removesuffix(" ...")
    for query in ("code=evil&state=guessed", "error=access_denied&state=guessed", "code=evil", ""):
        assert requests.get(f"{redirect_uri}?{query}", timeout=10).status_code == 400
    assert requests.get(redirect_uri.replace("callback", "favicon.ico"), timeout=10).status_code == 404
    with requests.Session() as browser:
        arrived = authorize_in_browser(browser, url, redirect_uri)
        assert browser.get(f"{redirect_uri}?{urlencode(arrived)}", timeout=10).status_code == 200
    assert running.finish()[0] == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda arrived: arrived | {"iss": "https://evil.example.com"}, "RFC 9207"),
        (lambda arrived: {name: value for name, value in arrived.items() if name != "iss"}, "names no issuer"),
        (lambda arrived: {"error": "access_denied", "state": arrived["state"], "iss": arrived["iss"]}, "access_denied"),
    ],
)
def test_an_answer_of_another_server_or_a_refusal_ends_it(home, change, says):
    before = home.use("by_variable")["refresh_token"]
    running = Running(home, "authorize", "by_variable", "--no-browser")
    assert browse(running, change).status_code == 400
    code, output = running.finish()
    assert code == 1
    assert says in output
    assert "Traceback" not in output
    assert home.use("by_variable")["refresh_token"] == before


def test_a_code_that_was_begun_elsewhere_is_of_no_use(home):
    """PKCE: the code of one sign-in, brought to another one with that one's state, is refused by the server."""
    first = Running(home, "authorize", "by_variable", "--no-browser")
    second = Running(home, "authorize", "by_variable", "--no-browser")
    stolen = {}
    browse(first, lambda arrived: stolen.update(arrived) or arrived)
    browse(second, lambda arrived: arrived | {"code": stolen["code"]})
    assert first.finish()[0] == 0
    code, output = second.finish()
    assert code == 1
    assert "invalid_grant" in output


def test_by_pasting_the_address(home):
    running = Running(home, "authorize", "by_variable", "--paste", "--port", "1")
    url = running.line("http")
    arrived = authorize_in_browser(requests.Session(), url, "http://127.0.0.1:1/callback")
    running.process.stdin.write(f"http://127.0.0.1:1/callback?{urlencode(arrived)}\n")
    running.process.stdin.close()
    assert running.finish()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing"], "not defined"),
        (["service"], "client_credentials"),
        (["by_hand", "--device"], "device_authorize_url"),
        (["by_hand", "--redirect-uri", "https://example.com/callback"], "--paste"),
    ],
)
def test_what_cannot_be_done_is_said(home, arguments, says):
    done = home.command("authorize", *arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_came(home):
    done = home.command("authorize", "by_variable", "--no-browser", "--timeout", "0.3")
    assert done.returncode == 1
    assert "Nobody signed in" in done.stderr


def test_airflow_has_the_command(home):
    done = home.run("-m", "airflow", "oauth2", "authorize", "missing", prepared=False)
    assert done.returncode == 1
    assert "not defined" in done.stderr
