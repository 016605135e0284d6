"""What a connection may name outside itself, with the defaults of a new installation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_oauth_provider.compat import deployment
from airflow_oauth_provider.connection.fields import FIELDS
from airflow_oauth_provider.connection.settings import read_settings
from airflow_oauth_provider.exceptions import ConfigurationError, StoreNotWritable
from airflow_oauth_provider.stores import allowed_places, aws_secrets_manager, azure_keyvault, gcp_secret_manager, vault
from airflow_oauth_provider.stores import file as file_store
from airflow_oauth_provider.stores.backend import StoreOptions
from airflow_oauth_provider.tokens.record import Lease, Record


def connection(**extra):
    extra = {"oauth_url": "https://login.example.com/token", **extra}
    columns = {
        "conn_type": "oauth2",
        "host": "https://api.example.com",
        "schema": None,
        "port": None,
        "login": "id",
        "password": None,
    }
    return SimpleNamespace(**columns, extra=json.dumps(extra))


SERVICE_ACCOUNT = {"type": "service_account", "client_id": "1", "private_key": "the-key-of-the-worker"}


@pytest.fixture(autouse=True)
def defaults(monkeypatch, tmp_path):
    for name in ("FOLDERS", "SECRETS", "CONNECTIONS", "ENDPOINTS"):
        monkeypatch.delenv(f"AIRFLOW__OAUTH2__ALLOWED_{name}")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "oauth2").mkdir(parents=True)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "home" / "oauth2"


@pytest.fixture
def outside(tmp_path) -> Path:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(SERVICE_ACCOUNT))
    return path


# ---------------------------------------------------------------------------------------------------------- files


def open_file(path, **more):
    return file_store.open_store("xero", StoreOptions("file", file_path=str(path), **more))


def refused(call, *words: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        call()
    text = str(caught.value)
    assert "'xero'" in text
    for word in words:
        assert word in text
    assert "the-key-of-the-worker" not in text
    return text


def test_the_folder_of_its_own_needs_no_setting(folder):
    path = folder / "xero.json"
    path.write_text('{"refresh_token": "entered"}')
    store = open_file(path)
    store.write(Record(refresh_token="next"), if_version=store.read().version)
    assert json.loads(path.read_text())["token_record"]["refresh_token"] == "next"


def test_a_file_elsewhere_is_neither_read_nor_written_nor_locked(outside):
    before = sorted(os.listdir(outside.parent)), outside.read_bytes()
    store = open_file(outside, file_map={"client_secret": "$.private_key"})
    refused(store.read, "'file_path'", "allowed_folders", "airflow.cfg")
    refused(lambda: store.write(Record(refresh_token="x"), if_version=None), "allowed_folders")
    assert (sorted(os.listdir(outside.parent)), outside.read_bytes()) == before


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "list", "json", "pipe"])
def test_nothing_is_learned_about_a_file_elsewhere(tmp_path, kind):
    path = tmp_path / "it"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.write_text({"text": "hidden", "list": "[1]", "json": "{}"}[kind])
    text = refused(open_file(path).read)
    assert text == refused(open_file(tmp_path / "it").read)
    assert "does not exist" not in text
    assert "JSON object" not in text


@pytest.mark.parametrize("way", ["..", "link", "link to a folder", "link in a chain", "//", "prefix", "NUL"])
def test_ways_out_of_the_folder_are_no_ways(folder, outside, way):
    (folder / "link").symlink_to(outside)
    (folder / "chain").symlink_to(folder / "link")
    (folder / "up").symlink_to(outside.parent)
    sibling = folder.parent / "oauth2-other"
    sibling.mkdir()
    (sibling / "key.json").write_text("{}")
    path = {
        "..": f"{folder}/../../key.json",
        "link": f"{folder}/link",
        "link to a folder": f"{folder}/up/key.json",
        "link in a chain": f"{folder}/chain",
        "//": f"//{outside}",
        "prefix": f"{sibling}/key.json",
        "NUL": f"{folder}/a\0/../../key.json",
    }[way]
    refused(lambda: open_file(path).read(), "file_path")


def test_a_link_within_the_folder_is_followed(folder):
    (folder / "xero").mkdir()
    (folder / "xero" / "real.json").write_text('{"refresh_token": "entered"}')
    (folder / "xero.json").symlink_to(folder / "xero" / "real.json")
    assert open_file(folder / "xero.json").read().record.refresh_token == "entered"


@pytest.mark.parametrize("named", ["xero", ["other", "xero"]])
def test_a_file_that_names_the_connection_may_stand_anywhere(outside, named):
    outside.write_text(json.dumps({"refresh_token": "entered", "airflow_connection": named}))
    store = open_file(outside)
    assert store.read().record.refresh_token == "entered"
    store.write(Record(refresh_token="next"), if_version=None)
    assert json.loads(outside.read_text())["airflow_connection"] == named


@pytest.mark.parametrize(
    "named", ["Xero", "xero ", "xer*", "*", "", [], ["other"], {"xero": 1}, 7, True, [["xero"]], None]
)
def test_a_file_that_names_others_may_not(outside, folder, named):
    document = json.dumps({"refresh_token": "entered", "airflow_connection": named})
    outside.write_text(document)
    refused(open_file(outside).read, "allowed_folders")
    inside = folder / "xero.json"
    inside.write_text(document)
    if named is not None:
        refused(open_file(inside).read, "airflow_connection")


def test_a_lock_that_is_a_link_is_not_followed(folder, tmp_path):
    (folder / "xero.json").write_text("{}")
    target = tmp_path / "created by the lock"
    (folder / "xero.json.lock").symlink_to(target)
    with pytest.raises(StoreNotWritable):
        open_file(folder / "xero.json").write(Record(refresh_token="x"), if_version=None)
    assert not target.exists()


@pytest.mark.parametrize("path", ["pipe", "folder", "huge"])
def test_what_is_no_file_in_the_folder_does_not_hang_or_fill_the_memory(folder, path):
    own = folder / "xero"
    own.mkdir()
    os.mkfifo(own / "pipe")
    (own / "folder").mkdir()
    with open(own / "huge", "wb") as file:
        file.truncate(5 * 1024 * 1024)
    with pytest.raises(StoreNotWritable):
        open_file(own / path).read()


def test_the_deployment_may_list_folders(outside, monkeypatch):
    monkeypatch.setenv("AIRFLOW__OAUTH2__ALLOWED_FOLDERS", f"/nowhere, {outside.parent}")
    assert open_file(outside).read().kept["client_id"] == "1"
    monkeypatch.setenv("AIRFLOW__OAUTH2__ALLOWED_FOLDERS", "relative")
    refused(open_file(outside).read)


@pytest.mark.parametrize("key", ["verify", "cert"])
@pytest.mark.parametrize(
    "way", ["{outside}", "{folder}/../../key.json", "{folder}/link", "/etc/ssl/certs/../../passwd"]
)
def test_certificates_are_files_too(folder, outside, key, way):
    (folder / "link").symlink_to(outside)
    path = way.format(folder=folder, outside=outside)
    refused(lambda: read_settings("xero", connection(**{key: path})), f"'{key}'", "allowed_folders")
    good = folder / "xero.pem"
    good.write_text("a certificate")
    assert read_settings("xero", connection(**{key: str(good)})).transport is not None


@pytest.mark.parametrize("key", ["verify", "cert"])
def test_relative_paths_are_no_way_around(outside, key, monkeypatch):
    monkeypatch.chdir(outside.parent)
    refused(lambda: read_settings("xero", connection(**{key: outside.name})), f"'{key}'")


def test_of_a_certificate_and_its_key_both_are_looked_at(folder, outside):
    (folder / "xero.pem").write_text("x")
    refused(lambda: read_settings("xero", connection(cert=[str(folder / "xero.pem"), str(outside)])), "'cert'")


def test_whether_a_certificate_exists_is_not_told(tmp_path, outside):
    texts = {
        refused(lambda p=path: read_settings("xero", connection(verify=str(p)))).replace(str(path), "it")
        for path in (outside, tmp_path / "missing.pem")
    }
    assert len(texts) == 1


# -------------------------------------------------------------------------------------------------------- secrets


NAMES = [
    ("airflow/oauth2/xero", True),
    ("airflow/oauth2/xero/tokens", True),
    ("airflow/oauth2/xero/a/b", True),
    # The places of connections with other ids, which begin, end or look alike.
    ("airflow/oauth2/other", False),
    ("airflow/oauth2/team/xero", False),
    ("airflow/oauth2/xero-eu", False),
    ("airflow/oauth2/xero.eu", False),
    ("airflow/oauth2/Xero", False),
    ("airflow/oauth2/*", False),
    ("airflow-oauth2-xero-eu", False),
    ("airflow-oauth2-other", False),
    ("airflow-oauth2-xero", True),
    ("airflow/oauth2", False),
    ("airflow/oauth2/", False),
    ("airflow/oauth2/../other", False),
    ("airflow/oauth2/./x", False),
    ("airflow/oauth2//x", False),
    ("airflow/oauth2/%2e%2e/other", False),
    ("airflow/oauth2/..%2fother", False),
    ("airflow/oauth2/\\..\\x", False),
    ("airflow/oauth2/x?version=1", False),
    ("airflow/oauth2/x#y", False),
    ("airflow/oauth2/x\n", False),
    ("airflow/oauth2/\uff0e\uff0e/x", False),
    ("AIRFLOW/oauth2/x", False),
    ("other/airflow/oauth2/x", False),
    ("../airflow/oauth2/x", False),
    ("finance/xero", False),
    ("", False),
]


@pytest.mark.parametrize(("name", "allowed"), NAMES)
def test_names_of_secrets(name, allowed):
    assert allowed_places.is_secret_allowed(name, deployment.allowed_secrets(), "xero") is allowed


#: Ids that say something to a path, a pattern or a shell; Airflow takes most of them.
ODD_IDS = ["team/xero", "team", "xero", "xero/", "x", "*", "?", "[a-z]ero", "..", ".", "../xero", "xero#a", "xero%2f",
           "xero.eu", "xero-eu", "xero_eu", "xero--eu", "xero=2feu", "Xero", "xero ", "\u00fcber", "a\\b"]  # fmt: skip


def test_no_two_connections_have_a_place_in_common():
    named = {conn_id: allowed_places.name_place(conn_id) for conn_id in ODD_IDS}
    assert len(set(named.values())) == len(ODD_IDS)
    for mine in ODD_IDS:
        for whose, name in named.items():
            for place in (f"airflow/oauth2/{name}", f"airflow/oauth2/{name}/below", f"airflow-oauth2-{name}"):
                allowed = allowed_places.is_secret_allowed(place, deployment.allowed_secrets(), mine)
                assert allowed is (mine == whose), (mine, place)


def test_no_two_connections_have_a_name_in_azure_in_common(monkeypatch):
    """There are no paths there, no other characters than letters, digits and -, and no upper and lower case."""
    setting = deployment.allowed_secrets()
    monkeypatch.setattr(deployment, "allowed_secrets", lambda: setting)  # read once, not some 70,000 times
    ids = {*ODD_IDS, *(f"{a}{sep}{b}" for a in ("xero", "a") for b in ("eu", "client", "dpop", "key", "client-id")
                       for sep in ("-", "_", "--", "__", "_-", "-_", ".", "---"))}  # fmt: skip
    names = [(name, conn_id) for conn_id in ids for name in own_names_in_azure(conn_id)]
    assert len({name for name, _ in names}) == len(names)
    for name, _ in names:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert len(name) <= 127
    for mine in ids:
        allowed = {name for name, _ in names if azure_keyvault._permit(mine, name).refusal is None}
        assert allowed == set(own_names_in_azure(mine))


def own_names_in_azure(conn_id: str) -> list[str]:
    return [azure_keyvault._own_name(conn_id, name) for name in (*azure_keyvault.NAMES, *azure_keyvault.KEYS)]


FILES = [
    ("xero.json", True), ("xero.pem", True), ("xero/tokens.json", True), ("xero/a/b.json", True),
    ("other.json", False), ("other/tokens.json", False), ("xero-eu.json", False), ("xero.eu.json", False),
    ("xerox.json", False), ("Xero.json", False), ("xero.", False), ("xero.json.", False), ("xero.json/a", False),
    ("xero/../other.json", False), ("xero/../../key.json", False), ("xero.json\n", False), (".json", False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "allowed"), FILES)
def test_names_of_files(folder, name, allowed):
    assert allowed_places.is_file_allowed(f"{folder}/{name}", deployment.allowed_folders(), "xero") is allowed


def test_no_two_connections_have_a_file_in_common(folder):
    for mine in ODD_IDS:
        for whose in ODD_IDS:
            name = allowed_places.name_place(whose)
            for path in (f"{folder}/{name}.json", f"{folder}/{name}/tokens.json"):
                allowed = allowed_places.is_file_allowed(path, deployment.allowed_folders(), mine)
                assert allowed is (mine == whose), (mine, path)


def test_a_certificate_of_authorities_may_be_shared_and_a_clients_own_may_not(folder):
    (folder / "company.pem").write_text("a certificate")
    path = str(folder / "company.pem")
    assert read_settings("xero", connection(verify=path)).transport.verify == path
    refused(lambda: read_settings("xero", connection(cert=path)), "'cert'", "allowed_folders")


def test_the_deployment_may_give_all_connections_one_place(outside, monkeypatch):
    monkeypatch.setenv("AIRFLOW__OAUTH2__ALLOWED_SECRETS", "finance/*, teams/*/{conn_id}")
    for name, allowed in {"finance/a": True, "teams/b/xero": True, "teams/b/other": False, "airflow/x": False}.items():
        assert allowed_places.is_secret_allowed(name, deployment.allowed_secrets(), "xero") is allowed
    monkeypatch.setenv("AIRFLOW__OAUTH2__ALLOWED_FOLDERS", f"{outside.parent}")
    assert open_file(outside).read().kept["client_id"] == "1"


def test_a_vault_path_elsewhere_is_not_given_away(monkeypatch):
    class Client:
        kv_version, where = 2, "the Vault secret kv/finance/xero"

        def __init__(self, *_):
            self.path, self.mount_point = "finance/xero", "kv"

        def call(self, *_, **__):
            return {"data": {"data": {**SERVICE_ACCOUNT, **self.more}, "metadata": {"version": 1}}}

    Client.more = {}
    monkeypatch.setattr(vault, "VaultClient", Client)
    store = vault.open_store("xero", StoreOptions(vault_path="finance/xero"))
    refused(store.read, "'vault_path'", "allowed_secrets", "airflow_connection")
    refused(lambda: store.write(Record(refresh_token="x"), if_version=None))
    Client.more = {"airflow_connection": "xero"}
    assert store.read().kept["private_key"] == "the-key-of-the-worker"
    Client.more = {"airflow_connection": "other"}
    refused(store.read)
    below = vault.open_store("xero", StoreOptions(vault_path="airflow/oauth2/xero"))
    refused(below.read, "for other connections")


@pytest.mark.parametrize("mount", ["../sys", "kv/../other", "kv?x", "kv%2f", "kv/data\n", "https://evil", "//kv"])
def test_mount_points_are_names(mount):
    options = StoreOptions(vault_path="airflow/oauth2/xero", vault_mount_point=mount)
    refused(lambda: vault.open_store("xero", options), "vault_mount_point")


@pytest.mark.parametrize("key", ["vault_conn_id", "aws_conn_id", "gcp_conn_id", "azure_conn_id"])
def test_other_connections_are_not_used(key, monkeypatch):
    monkeypatch.setattr(vault, "_log_in", lambda *_: pytest.fail("logged in"))
    stores = {"vault": vault, "aws": aws_secrets_manager, "gcp": gcp_secret_manager, "azure": azure_keyvault}
    options = {
        "vault_path": "airflow/oauth2/x",
        "aws_name": "airflow/oauth2/x",
        "gcp_name": "projects/p/secrets/airflow-oauth2-x",
        "keyvault_url": "https://a.vault.azure.net",
        key: "of_another_team",
    }
    store = stores[key.partition("_")[0]]
    refused(
        lambda: store.open_store("xero", StoreOptions(**options)),
        f"'{key}'",
        "'of_another_team'",
        "allowed_connections",
    )


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("airflow/oauth2/xero", True),
        ("arn:aws:secretsmanager:eu-central-1:123456789012:secret:airflow/oauth2/xero-AbCdEf", True),
        ("finance/xero", False),
        ("arn:aws:secretsmanager:eu-central-1:123456789012:secret:finance/airflow/oauth2/xero-AbCdEf", False),
        ("arn:aws:secretsmanager:eu-central-1:123456789012:secret:airflow/oauth2/../x", False),
        ("arn:aws:ssm:eu-central-1:123456789012:secret:airflow/oauth2/xero", False),
    ],
)
def test_names_in_aws(name, allowed, monkeypatch):
    store = aws_secrets_manager.open_store("xero", StoreOptions(aws_name=name))

    def call(*_, **__):
        return {"SecretString": json.dumps(SERVICE_ACCOUNT), "VersionId": "1", "Name": "airflow/oauth2/xero"}

    monkeypatch.setattr(store._backend, "_call", call)
    if allowed:
        assert store.read().kept["client_id"] == "1"
    else:
        refused(store.read, "'aws_name'", "allowed_secrets")


def test_a_name_that_ends_like_an_arn_is_no_way_to_another_secret(monkeypatch):
    """AWS takes an ARN without its last six characters, too: then the name itself may end so."""
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:airflow/oauth2/xero-client"
    store = aws_secrets_manager.open_store("xero", StoreOptions(aws_name=arn))
    answer = {"SecretString": json.dumps(SERVICE_ACCOUNT), "VersionId": "1", "Name": "airflow/oauth2/xero-client"}
    monkeypatch.setattr(store._backend, "_call", lambda *_, **__: answer)
    refused(store.read, "'aws_name'", "airflow/oauth2/xero")


@pytest.mark.parametrize("region", ["evil.com/", "eu-central-1.evil.com", "eu-central-1/..", "EU", "@evil", "x-1 "])
def test_regions_are_regions(region):
    options = StoreOptions(aws_name="airflow/oauth2/x", aws_region=region)
    refused(lambda: aws_secrets_manager.open_store("xero", options), "aws_region")


def test_regions_that_are_regions():
    for region in ("eu-central-1", "us-gov-west-1", "cn-north-1", "ap-southeast-2", "us-isob-east-1"):
        aws_secrets_manager.open_store("xero", StoreOptions(aws_name="airflow/oauth2/x", aws_region=region))


@pytest.mark.parametrize("project", ["projects/p", "projects/p/locations/europe-west3"])
def test_names_in_google_cloud(project):
    good = gcp_secret_manager.open_store("xero", StoreOptions(gcp_name=f"{project}/secrets/airflow-oauth2-xero"))
    assert good._permit.refusal is None
    other = gcp_secret_manager.open_store("xero", StoreOptions(gcp_name=f"{project}/secrets/billing"))
    assert "allowed_secrets" in str(other._permit.refusal)


@pytest.mark.parametrize(
    "project",
    ["..", ".", "p%2fq", "p?x", "p#", "p;x", "p&x", "p\\q", "p@q", "p q", "a/b", "", "p:access?", "\uff50", "P"],
)
def test_projects_are_names(project):
    """They come before the secret's own name in the path of a URL."""
    name = f"projects/{project}/secrets/airflow-oauth2-xero"
    refused(lambda: gcp_secret_manager.open_store("xero", StoreOptions(gcp_name=name)), "gcp_name")


@pytest.mark.parametrize("project", ["p", "my-project-1", "123456789012", "example.com:my-project"])
def test_projects_that_are_names(project):
    store = gcp_secret_manager.open_store(
        "xero", StoreOptions(gcp_name=f"projects/{project}/secrets/airflow-oauth2-xero")
    )
    assert store._permit.refusal is None


def test_names_in_azure(monkeypatch):
    class Properties:
        tags = None

    class Secret:
        value, properties = "the-key-of-the-worker", Properties

    class Client:
        def get_secret(self, name):
            asked.append(name)
            return Secret

    asked: list[str] = []
    monkeypatch.setattr(azure_keyvault, "_new_client", lambda *_: Client())
    names = {"client_secret": "billing-key"}
    options = StoreOptions(keyvault_url="https://a.vault.azure.net", keyvault_names=names)
    refused(azure_keyvault.open_store("xero", options).read, "'keyvault_names'", "allowed_secrets")
    Properties.tags = {"airflow_connection": "other"}
    refused(azure_keyvault.open_store("xero", options).read)
    own = azure_keyvault.open_store("xero", StoreOptions(keyvault_url="https://a.vault.azure.net"))
    assert all(name.startswith("airflow-oauth2-xero-") for name in own._backend._names.values())
    assert all(permit.refusal is None for permit in own._backend._permits.values())


# ---------------------------------------------------------------------------------------------------------- hosts


HOSTS = [
    ("secretmanager.googleapis.com", True),
    ("SecretManager.GoogleAPIs.com", True),
    ("secretmanager.googleapis.com:443", True),
    ("secretmanager.europe-west3.rep.googleapis.com", True),
    ("secretmanager-mine.p.googleapis.com", True),
    ("my-vault.vault.azure.net", True),
    ("secretmanager.googleapis.com:8443", False),
    ("evil.example", False),
    ("secretmanager.googleapis.com.evil.example", False),
    ("evilsecretmanager.googleapis.com", False),
    ("secretmanager.googleapis.com@evil.example", False),
    ("evil.example/secretmanager.googleapis.com", False),
    ("evil.example#.vault.azure.net", False),
    ("evil.example\\.vault.azure.net", False),
    ("a.b.vault.azure.net", False),
    (".vault.azure.net", False),
    ("vault.azure.net", False),
    ("127.0.0.1:6379", False),
    ("localhost", False),
    ("[::1]:22", False),
    ("secretmanager\uff0egoogleapis.com", False),
    ("secretmanager.googleapis.com\n", False),
    ("", False),
]


@pytest.mark.parametrize(("host", "allowed"), HOSTS)
def test_hosts_of_clouds(host, allowed):
    assert allowed_places.is_host_allowed(host, deployment.allowed_endpoints()) is allowed


@pytest.mark.parametrize("host", [host for host, allowed in HOSTS if not allowed and host])
def test_the_workers_identity_goes_to_no_other_host(host):
    options = StoreOptions(gcp_name="projects/p/secrets/airflow-oauth2-x", gcp_endpoint=host)
    refused(lambda: gcp_secret_manager.open_store("xero", options), "gcp_endpoint")
    refused(lambda: azure_keyvault.open_store("xero", StoreOptions(keyvault_url=f"https://{host}")), "keyvault_url")


# ------------------------------------------------------------------------------------------------- all of the keys


#: Keys by which a connection names something outside itself, and what they are held against.
NAMES_OUTSIDE = {
    "file_path": "allowed_folders", "verify": "allowed_folders", "cert": "allowed_folders",
    "vault_conn_id": "allowed_connections", "vault_path": "allowed_secrets", "vault_mount_point": "a name",
    "file_map": "what the file's own permit covers",
    "aws_name": "allowed_secrets", "aws_region": "a region of AWS", "aws_conn_id": "allowed_connections",
    "keyvault_url": "allowed_endpoints", "keyvault_names": "allowed_secrets", "azure_conn_id": "allowed_connections",
    "gcp_name": "allowed_secrets", "gcp_endpoint": "allowed_endpoints", "gcp_conn_id": "allowed_connections",
    "callback": "callback_prefixes",
}  # fmt: skip


def test_every_key_of_a_store_is_covered():
    """Whoever adds a key to the stores has to say here what holds it."""
    of_stores = {row.key for row in FIELDS if row.section == "Where new tokens are kept" and not row.secret}
    assert of_stores - NAMES_OUTSIDE.keys() - {"store", "use_oauth2_hook"} == set()
    options = {option.name for option in deployment.OPTIONS}
    assert {name for name in NAMES_OUTSIDE.values() if "_" in name} <= options


def test_a_lease_is_no_way_around(outside):
    store = open_file(outside)
    refused(lambda: store.write(Record(lease=Lease("me", 20, 0.0)), if_version=None))
