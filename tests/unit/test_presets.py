"""The presets: their data holds to its schema and its promises, and the loader gives out what is in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import pytest

from airflow_oauth_provider.connection import presets
from airflow_oauth_provider.connection.fields import FIELDS_BY_KEY
from airflow_oauth_provider.connection.presets import PRESET_LABELS, URL_KEYS, load_presets, placeholders, preset
from scripts import generate_vendor_docs

FOLDER = Path(presets.__file__).parent
SCHEMA = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
TEXT = (FOLDER / "vendors.json").read_text(encoding="utf-8")
VENDORS = json.loads(TEXT)
PRESET_KEYS = tuple(SCHEMA["$defs"]["defaults"]["properties"])

VENDOR_KEYS = ["title", "docs", "confirmed", "parameters", "defaults", "facts", "notes"]
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())

each_vendor = pytest.mark.parametrize("name", sorted(VENDORS))


def templates(vendor):
    return {key: value for key, value in vendor["defaults"].items() if key in URL_KEYS}


def used_placeholders(vendor):
    return {name for template in templates(vendor).values() for name in placeholders(template)}


def example_parameters(vendor):
    return dict.fromkeys(vendor["parameters"], "example")


# The schema


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_has_keys_of_connections_and_of_presets_only():
    assert set(PRESET_KEYS) - FIELDS_BY_KEY.keys() == {"host", "sign_in_scope"}
    assert set(PRESET_KEYS) >= set(URL_KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {"defaults": {"oauth_url": "http://example.com/token", "auth_method": "none"}},
        {"defaults": {"oauth_url": "https://user@example.com/token", "auth_method": "none"}},
        {"defaults": {"oauth_url": "https://example.com/token?a=b", "auth_method": "none"}},
        {"defaults": {"oauth_url": "https://example.com/token"}},
        {"defaults": {"auth_method": "none"}},
        {"defaults": {"oauth_url": "https://example.com/token", "auth_method": "basic"}},
        {"defaults": {"oauth_url": "https://example.com/token", "auth_method": "none", "client_secret": "x"}},
        {"defaults": {"oauth_url": "https://example.com/x", "auth_method": "none", "expired_pattern": "x"}},
        {"docs": "http://example.com/"},
        {"docs": None},
        {"confirmed": ""},
        {"notes": ["no full stop"]},
        {"surplus": 1},
    ],
)
def test_the_schema_rejects(change):
    good = {
        "title": "Example",
        "docs": "https://example.com/docs",
        "confirmed": "The page.",
        "parameters": {},
        "defaults": {"oauth_url": "https://example.com/token", "auth_method": "none"},
        "facts": {},
        "notes": [],
    }
    VALIDATOR.validate({"example": good})
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({"example": good | change})


# The data


def test_the_data_holds_to_the_schema():
    assert [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(VENDORS)] == []


def test_there_are_at_least_25_vendors():
    assert len(VENDORS) >= 25


def test_the_file_is_sorted_and_written_one_way():
    assert list(VENDORS) == sorted(VENDORS)
    assert json.dumps(VENDORS, indent=2, ensure_ascii=False) + "\n" == TEXT


def test_no_name_stands_twice():
    def once(pairs):
        names = [name for name, _ in pairs]
        assert sorted(names) == sorted(set(names))
        return dict(pairs)

    json.loads(TEXT, object_pairs_hook=once)


@each_vendor
def test_keys_stand_in_one_order(name):
    vendor = VENDORS[name]
    assert list(vendor) == VENDOR_KEYS
    assert list(vendor["defaults"]) == [key for key in PRESET_KEYS if key in vendor["defaults"]]
    assert list(vendor["parameters"]) == sorted(vendor["parameters"])


@each_vendor
def test_endpoints_and_docs_are_https(name):
    resolved = preset(name).resolve(example_parameters(VENDORS[name]))
    for url in [VENDORS[name]["docs"], *(resolved[key] for key in URL_KEYS if key in resolved)]:
        parts = urlsplit(url)
        assert parts.scheme == "https"
        assert "." in parts.netloc or parts.netloc == "example"
        assert "@" not in parts.netloc


@each_vendor
def test_placeholders_are_declared_and_used(name):
    vendor = VENDORS[name]
    assert used_placeholders(vendor) == set(vendor["parameters"])


@each_vendor
def test_placeholders_stand_in_urls_only(name):
    others = {key: value for key, value in VENDORS[name]["defaults"].items() if key not in URL_KEYS}
    assert not re.search(r"\{[a-z_]+\}", json.dumps(others))


@each_vendor
def test_patterns_compile(name):
    defaults = VENDORS[name]["defaults"]
    re.compile(defaults.get("expired_pattern", ""))
    re.compile(defaults.get("error_in_200", {}).get("pattern", ""))


@each_vendor
def test_no_preset_sets_what_belongs_to_the_person(name):
    # A scope in a refresh narrows the grant; secrets have no place in a shipped file.
    defaults = VENDORS[name]["defaults"]
    assert "scope" not in defaults
    sent = defaults.get("extra_params", {}) | defaults.get("extra_headers", {})
    assert not {key.lower() for key in sent} & {"authorization", "client_id", "client_secret", "cookie"}


@each_vendor
def test_values_fit_the_fields_of_a_connection(name):
    for key, value in VENDORS[name]["defaults"].items():
        field = FIELDS_BY_KEY.get(key)
        if field is None:
            continue
        assert not field.secret
        assert not field.choices or value in field.choices
        assert field.minimum is None or value >= field.minimum
        assert field.maximum is None or value <= field.maximum


@each_vendor
def test_parameters_have_names_of_their_own_that_airflow_does_not_hide(name):
    # Airflow stars the value of a key with one of these in its name, and then that value in every log.
    hidden = ("token", "secret", "passw", "authorization", "proxy", "bearer", "api_key", "private_key", "service_")
    for parameter in VENDORS[name]["parameters"]:
        assert parameter not in {*PRESET_KEYS, *FIELDS_BY_KEY}
        assert not [word for word in hidden if word in parameter]


@each_vendor
def test_times_are_plausible(name):
    defaults = VENDORS[name]["defaults"]
    if "refresh_idle_days" in defaults and "refresh_expires_in" in defaults:
        assert defaults["refresh_idle_days"] * 86400 < defaults["refresh_expires_in"]
    assert defaults.get("refresh_expires_in", 86400) >= 86400, "in seconds, and no vendor's ends within a day"
    assert defaults.get("min_refresh_interval", 0) <= 3600


@each_vendor
def test_forms_show_the_vendor_and_what_it_needs(name):
    vendor = VENDORS[name]
    scope = vendor["defaults"].get("sign_in_scope")
    needs = [*vendor["parameters"], *([f"scope {scope}"] if scope else [])]
    assert PRESET_LABELS[name] == vendor["title"] + (f": needs {', '.join(needs)}" if needs else "")


# The loader


def test_importing_reads_no_file_and_nothing_heavy():
    program = (
        "import sys; opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "import airflow_oauth_provider.connection.presets as presets\n"
        "assert not [path for path in opened if path.endswith('.json')], opened\n"
        "assert not {'airflow', 'jsonschema', 'requests'} & set(sys.modules), 'heavy'\n"
        "presets.load_presets()\n"
        "assert [path for path in opened if path.endswith('vendors.json')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=FOLDER.parent.parent, timeout=60)


def test_load_presets_gives_all_of_them_once():
    loaded = load_presets()
    assert list(loaded) == list(VENDORS)
    assert load_presets() is loaded
    for name, vendor in VENDORS.items():
        assert loaded[name].name == name
        assert preset(name) is loaded[name]
        assert loaded[name].title == vendor["title"]
        assert loaded[name].docs == vendor["docs"]
        assert loaded[name].confirmed == vendor["confirmed"]
        assert loaded[name].parameters == vendor["parameters"]
        assert loaded[name].notes == tuple(vendor["notes"])


@each_vendor
def test_resolve_gives_the_defaults_as_in_the_file(name):
    vendor = VENDORS[name]
    resolved = preset(name).resolve(example_parameters(vendor))
    expected = json.loads(re.sub(r"\{[a-z_]+\}", "example", json.dumps(vendor["defaults"])))
    assert resolved == expected
    json.dumps(resolved)


def test_presets_cannot_be_changed():
    slack = preset("slack")
    with pytest.raises(TypeError):
        load_presets()["mine"] = slack
    with pytest.raises(TypeError):
        slack.defaults["oauth_url"] = "https://example.com"
    with pytest.raises(TypeError):
        slack.defaults["error_in_200"]["path"] = "$.x"
    with pytest.raises(AttributeError):
        slack.title = "x"
    slack.resolve()["error_map"].append("x=invalid_grant")
    assert "x=invalid_grant" not in slack.resolve()["error_map"]


def test_an_unknown_name_names_the_near_ones_and_all():
    with pytest.raises(LookupError) as caught:
        preset("quickbook")
    assert "Did you mean quickbooks?" in str(caught.value)
    assert "xero" in str(caught.value)
    with pytest.raises(presets.UnknownPresetError, match=r"no preset 'qqqqqqqq'\. Presets: "):
        preset("qqqqqqqq")


def test_the_connection_wins():
    resolved = preset("xero").resolve(given={"auth_method": "none", "host": "https://x", "sign_in_scope": "none"})
    assert not {"auth_method", "host", "sign_in_scope"} & set(resolved)
    assert resolved["oauth_url"] == "https://identity.xero.com/connect/token"


@pytest.mark.parametrize("unset", [None, "", " ", "***"])
def test_what_a_form_left_empty_is_not_set(unset):
    assert preset("xero").resolve(given={"auth_method": unset})["auth_method"] == "client_secret_basic"


def test_parameters_fill_the_urls():
    resolved = preset("microsoft_entra").resolve({"tenant": " contoso.com ", "surplus": "ignored"})
    assert resolved["oauth_url"] == "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token"
    assert "{" not in "".join(str(value) for key, value in resolved.items() if key in URL_KEYS)


def test_a_host_may_have_a_port():
    resolved = preset("gitlab").resolve({"gitlab_host": "git.example.com:8443"})
    assert resolved["oauth_url"] == "https://git.example.com:8443/oauth/token"


@pytest.mark.parametrize("parameters", [None, {}, {"tenant": None}, {"tenant": ""}, {"tenant": "***"}])
def test_a_missing_parameter_is_named_and_explained(parameters):
    with pytest.raises(presets.PresetParameterError, match=r"needs the parameter 'tenant'.*directory"):
        preset("microsoft_entra").resolve(parameters)


def test_a_parameter_is_needed_only_for_what_is_open():
    given = dict.fromkeys(URL_KEYS, "https://example.com/x")
    assert preset("microsoft_entra").resolve(given=given)["auth_method"] == "client_secret_post"


@pytest.mark.parametrize(
    "value", ["https://x.com", "x.com/", "a/b", "u@evil.com", "x?y", "x#y", "a b", "..", "x:y", "ä", "x\n.com", "{x}"]
)
def test_a_parameter_that_is_no_part_of_a_url_is_refused(value):
    with pytest.raises(presets.PresetParameterError, match="without https:// and slashes"):
        preset("auth0").resolve({"domain": value})


# The page


def test_the_page_is_up_to_date():
    page = generate_vendor_docs.PAGE.read_text(encoding="utf-8")
    assert page == generate_vendor_docs.render(), "run python -m scripts.generate_vendor_docs"


def test_check_tells_an_old_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generate_vendor_docs, "PAGE", tmp_path / "docs" / "vendors.md")
    assert generate_vendor_docs.main(["--check"]) == 1
    assert "out of date" in capsys.readouterr().err
    assert generate_vendor_docs.main([]) == 0
    assert generate_vendor_docs.main(["--check"]) == 0


@each_vendor
def test_the_page_names_every_vendor(name):
    page = generate_vendor_docs.render()
    assert f"\n## {name}\n" in page
    assert VENDORS[name]["docs"] in page
    assert all(note in page for note in VENDORS[name]["notes"])


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("https://identity.xero.com/connect/token", ["xero"]),
        ("https://IDENTITY.xero.com:443/connect/token", ["xero"]),
        ("https://accounts.zoho.eu/oauth/v2/token", ["zoho"]),
        ("https://login.microsoftonline.com/common/oauth2/v2.0/token", ["microsoft_entra"]),
        ("https://identity.xero.com.evil.example/connect/token", []),
        ("https://example.com/token", []),
        ("nonsense", []),
    ],
)
def test_presets_are_found_by_the_host_of_the_token_endpoint(url, names):
    assert presets.find_presets(url) == names
